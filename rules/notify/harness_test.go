// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is an HTTP server that keeps what is posted to it and answers as it is told.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   [][]byte
	answer   func(n int) int // of the n-th request, from 0; nil: 200
	hang     chan struct{}   // while not nil and open, requests are not answered
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(r.handle))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) handle(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	n := len(r.requests)
	r.requests, r.bodies = append(r.requests, req), append(r.bodies, body)
	answer, hang := r.answer, r.hang
	r.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-req.Context().Done():
		}
	}
	if answer != nil {
		w.WriteHeader(answer(n))
	}
}

func (r *receiver) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

// got returns the alertname, the label v and whether it is resolved of every alert posted in Alertmanager's API.
func (r *receiver) got(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, b := range r.bodies {
		var alerts []apiAlert
		if err := json.Unmarshal(b, &alerts); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		for _, a := range alerts {
			text := a.Labels["alertname"] + a.Labels["v"]
			if end, _ := time.Parse(apiTime, a.EndsAt); !end.After(time.Now()) {
				text += " resolved"
			}
			out = append(out, text)
		}
	}
	return out
}

// eventually waits until ok, at most 15 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 15 s for: %s", what)
		}
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a Notifier with its Run.
type running struct {
	*testing.T
	n          *Notifier
	reg        *prometheus.Registry
	log        *lockedBuffer
	discovered chan map[string][]*targetgroup.Group
	ended      chan struct{}
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{
		T: t, reg: prometheus.NewRegistry(), log: &lockedBuffer{},
		discovered: make(chan map[string][]*targetgroup.Group), ended: make(chan struct{}),
	}
	o.Registerer, o.Logger = r.reg, slog.New(slog.NewTextHandler(r.log, nil))
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.n = n
	go func() {
		defer close(r.ended)
		if err := n.Run(context.Background(), r.discovered); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.n.Stop()
	select {
	case <-r.ended:
	case <-time.After(20 * time.Second):
		r.Fatal("Run has not returned 20 s after Stop")
	}
}

func (r *running) apply(c Config) {
	r.Helper()
	if err := r.n.Apply(c); err != nil {
		r.Fatal(err)
	}
}

// discover tells of the Alertmanagers at some URLs, for the first configuration.
func (r *running) discover(urls ...string) { r.discoverFor(0, urls...) }

func (r *running) discoverFor(i int, urls ...string) {
	g := &targetgroup.Group{}
	for _, u := range urls {
		g.Targets = append(g.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(hostOf(u))})
	}
	r.discovered <- map[string][]*targetgroup.Group{fmt.Sprint("config-", i): {g}}
	r.discovered <- nil // taken once the first is done
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return u.Host
}

// metric returns the sum of a metric over its labels, -1 if there is none.
func (r *running) metric(name string) float64 {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	sum := -1.0
	for _, f := range families {
		if f.GetName() == name {
			sum = 0
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// oneAM is a configuration with Alertmanagers of the default kind.
func amConfig(n int) Config {
	var c Config
	for range n {
		am := config.DefaultAlertmanagerConfig
		c.Alertmanagers = append(c.Alertmanagers, &am)
	}
	return c
}

func firing(name string, extra ...string) rules.Notification {
	now := time.Now().UTC()
	return rules.Notification{
		Labels: labels.FromStrings(append([]string{"alertname", name}, extra...)...), Annotations: labels.FromStrings("summary", "about "+name),
		StartsAt: now.Add(-time.Minute), EndsAt: now.Add(4 * time.Minute), GeneratorURL: "http://tide.example/graph",
	}
}

func resolved(name string, extra ...string) rules.Notification {
	a := firing(name, extra...)
	a.EndsAt = time.Now().UTC().Add(-time.Second)
	return a
}

func (r *running) notify(alerts ...rules.Notification) { r.n.Notify(r.Context(), alerts) }

func sorted(s []string) string {
	slices.Sort(s)
	return strings.Join(s, ", ")
}
