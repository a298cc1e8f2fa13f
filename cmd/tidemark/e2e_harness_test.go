// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// instance is a running tidemark, its configuration and its directory, which outlive the process.
type instance struct {
	*peers.Process

	owner     *testing.T // whose end ends the process
	addr, dir string
	args      []string
}

// newInstance prepares a server that is not yet running. Flags given here come after the usual ones.
func newInstance(t *testing.T, config string, flags ...string) *instance {
	t.Helper()
	s := &instance{owner: t, addr: peers.FreeAddr(t), dir: t.TempDir()}
	s.configure(t, config)
	s.args = append([]string{
		"--config.file=" + s.file("prometheus.yml"), "--storage.tsdb.path=" + s.file("data"), "--web.listen-address=" + s.addr,
		"--web.enable-remote-write-receiver", "--web.enable-lifecycle", "--web.enable-admin-api",
	}, flags...)
	return s
}

func (s *instance) file(name string) string      { return filepath.Join(s.dir, name) }
func (s *instance) url(path string) string       { return "http://" + s.addr + path }
func (s *instance) spec(t *testing.T) peers.Spec { t.Helper(); return s.under(peers.BuildServer(t)) }

// under is the server run by another program, or by none if path is the server's own.
func (s *instance) under(path string, before ...string) peers.Spec {
	return peers.Spec{Name: "tidemark", Path: path, Args: append(before, s.args...), Dir: s.dir, Ready: s.url("/-/ready"), Owner: s.owner}
}

// configure writes the main configuration; $ADDR in it is the server's address.
func (s *instance) configure(t *testing.T, config string) {
	t.Helper()
	s.write(t, "prometheus.yml", strings.ReplaceAll(config, "$ADDR", s.addr))
}

func (s *instance) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts, or starts again, and waits until the server is ready.
func (s *instance) start(t *testing.T) {
	t.Helper()
	s.Process = peers.Start(t, s.spec(t))
}

// get decodes the data of an API answer into out, or returns what is wrong with the answer.
func get(url string, out any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	answer := struct {
		Status string
		Data   json.RawMessage
	}{Data: body}
	if err := json.Unmarshal(body, &answer); err != nil {
		answer.Data = body // not in the envelope: Alertmanager's answers
	}
	if err := json.Unmarshal(answer.Data, out); err != nil {
		return fmt.Errorf("GET %s: %w in %s", url, err, body)
	}
	return nil
}

// point is one sample as the API writes it: the value's text is kept, so that equal means equal.
type point struct {
	T int64 // ms
	V string
}

// UnmarshalJSON reads [seconds, "value"].
func (p *point) UnmarshalJSON(b []byte) error {
	var pair [2]json.Token
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&pair); err != nil {
		return err
	}
	sec, err := strconv.ParseFloat(fmt.Sprint(pair[0]), 64)
	if err != nil {
		return err
	}
	p.T, p.V = int64(sec*1000+0.5), fmt.Sprint(pair[1])
	return nil
}

// answer maps the labels of a series, as text, to its points.
type answer map[string][]point

// ask sends a query with its parameters and returns the series of a vector or matrix.
func ask(base, path string, params url.Values) (answer, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  *point
			Values []point
		}
	}
	if err := get(base+path+"?"+params.Encode(), &data); err != nil {
		return nil, err
	}
	out := answer{}
	for _, s := range data.Result {
		if s.Value != nil {
			s.Values = []point{*s.Value}
		}
		out[labelText(s.Metric)] = s.Values
	}
	if len(out) != len(data.Result) {
		return nil, fmt.Errorf("%s %v: %d series, %d of them different", base, params, len(data.Result), len(out))
	}
	return out, nil
}

// labelText writes labels in order.
func labelText(ls map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(ls)) {
		fmt.Fprintf(&b, "%s=%q ", name, ls[name])
	}
	return b.String()
}

func instant(base, expr string, at time.Time) (answer, error) {
	return ask(base, "/api/v1/query", url.Values{"query": {expr}, "time": {seconds(at)}})
}

func ranged(base, expr string, from, to time.Time) (answer, error) {
	return ask(base, "/api/v1/query_range", url.Values{"query": {expr}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {"1"}})
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// eventually repeats a check until it passes, and fails with its last complaint.
func eventually(t *testing.T, timeout time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, timeout, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// post sends a request and returns the status and the body.
func post(t *testing.T, url, contentType string, body []byte) (int, string) {
	t.Helper()
	resp, err := http.Post(url, contentType, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// webhook is a receiver of Alertmanager's webhook messages that also counts every request.
type webhook struct {
	*httptest.Server

	requests atomic.Int64
	mu       struct {
		sync.Mutex
		alerts []webhookAlert
	}
}

type webhookAlert struct {
	Status string
	Labels map[string]string
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	w := &webhook{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		var msg struct{ Alerts []webhookAlert }
		if err := json.NewDecoder(r.Body).Decode(&msg); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.alerts = append(w.mu.alerts, msg.Alerts...)
	}))
	t.Cleanup(w.Close)
	return w
}

// saw tells whether an alert came with a status.
func (w *webhook) saw(name, status string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.mu.alerts {
		if a.Labels["alertname"] == name && a.Status == status {
			return nil
		}
	}
	return fmt.Errorf("%s has not come %s; came: %v", name, status, w.mu.alerts)
}

// target is a scrape target whose one gauge the test sets.
type target struct {
	*httptest.Server

	value atomic.Int64
}

func newTarget(t *testing.T) *target {
	t.Helper()
	g := &target{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprintf(w, "# TYPE e2e_trigger gauge\ne2e_trigger %d\n", g.value.Load())
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *target) host() string { return strings.TrimPrefix(g.URL, "http://") }

// writeRequest is a remote-write 1.0 body with one sample for each of n series at time ts.
func writeRequest(t *testing.T, metric string, n int, ts int64, value float64) []byte {
	t.Helper()
	req := prompb.WriteRequest{}
	for i := range n {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: metric}, {Name: "series", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Timestamp: ts, Value: value}},
		})
	}
	body, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

var errRefused = errors.New("the write was not acknowledged")

// push sends a remote-write body and tells whether it was acknowledged.
func push(url string, body []byte) error {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%w: %s: %s", errRefused, resp.Status, text)
	}
	return nil
}

// body returns the text of a page.
func body(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, text)
	}
	return string(text), err
}
