// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

func TestAlertIsPostedInAlertmanagersAPI(t *testing.T) {
	am := newReceiver(t)
	r := start(t, Options{Version: "7.1"})
	c := amConfig(1)
	c.Alertmanagers[0].PathPrefix = "/am"
	c.ExternalLabels = labels.FromStrings("cluster", "reef", "own", "external")
	r.apply(c)
	r.discover(am.URL)
	a := firing("A", "own", "alert")
	r.notify(a)
	eventually(t, "a request", func() bool { return am.count() == 1 })
	req := am.requests[0]
	if req.URL.Path != "/am/api/v2/alerts" || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" ||
		req.Header.Get("User-Agent") != "Tidemark/7.1" {
		t.Errorf("%s %s %v", req.Method, req.URL, req.Header)
	}
	var got []apiAlert
	if err := json.Unmarshal(am.bodies[0], &got); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]apiAlert{{
		Labels:      map[string]string{"alertname": "A", "cluster": "reef", "own": "alert"},
		Annotations: map[string]string{"summary": "about A"},
		StartsAt:    a.StartsAt.Format(apiTime), EndsAt: a.EndsAt.Format(apiTime), GeneratorURL: "http://tide.example/graph",
	}})
	if fmt.Sprint(got) != want {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if got := r.metric("prometheus_notifications_sent_total"); got != 1 {
		t.Errorf("sent %v", got)
	}
	if got := r.n.Alertmanagers(); len(got) != 1 || got[0].String() != am.URL+"/am/api/v2/alerts" {
		t.Errorf("alertmanagers %v", got)
	}
}

func TestDeadAlertmanagerDoesNotHoldUpOthersAndLearnsHowThingsStand(t *testing.T) {
	dead, live := newReceiver(t), newReceiver(t)
	hang := make(chan struct{})
	dead.set(func() {
		dead.hang, dead.answer = hang, func(n int) int { return map[bool]int{true: 500, false: 200}[n < 2] }
	})
	r := start(t, Options{})
	r.apply(amConfig(1))
	r.discover(dead.URL, live.URL)
	r.notify(firing("A"), firing("B"))
	eventually(t, "the live one has both", func() bool { return len(live.got(t)) == 2 })
	for range 20 { // resent by the rules while the other is away
		r.notify(firing("A"), firing("B"))
		time.Sleep(10 * time.Millisecond)
	}
	r.notify(resolved("A"), firing("C"))
	eventually(t, "the live one has the latest", func() bool { return strings.Contains(sorted(live.got(t)), "A resolved") })
	close(hang)
	eventually(t, "the dead one is back", func() bool { return dead.count() >= 3 })
	last := func() string {
		var alerts []apiAlert
		dead.set(func() {
			if err := json.Unmarshal(dead.bodies[len(dead.bodies)-1], &alerts); err != nil {
				t.Error(err)
			}
		})
		var out []string
		for _, a := range alerts {
			text := a.Labels["alertname"]
			if end, _ := time.Parse(apiTime, a.EndsAt); !end.After(time.Now()) {
				text += " resolved"
			}
			out = append(out, text)
		}
		return sorted(out)
	}
	if got, want := last(), "A resolved, B, C"; got != want {
		t.Errorf("after the outage it got %s, want %s", got, want)
	}
	if got := r.metric("prometheus_notifications_dropped_total"); got != 0 {
		t.Errorf("%v dropped", got)
	}
	if got := r.metric("prometheus_notifications_errors_total"); got < 4 {
		t.Errorf("%v errors", got)
	}
}

func TestAnswersThatAreTriedAgainAndThatAreNot(t *testing.T) {
	check := func(status int, again bool) {
		t.Helper()
		am := newReceiver(t)
		am.answer = func(n int) int {
			if n == 0 {
				return status
			}
			return 200
		}
		r := start(t, Options{})
		r.apply(amConfig(1))
		r.discover(am.URL)
		r.notify(firing("A"))
		if again {
			eventually(t, fmt.Sprint("a second try after ", status), func() bool { return r.metric("prometheus_notifications_sent_total") == 1 })
		} else {
			eventually(t, fmt.Sprint("it is dropped after ", status), func() bool { return r.metric("prometheus_notifications_dropped_total") == 1 })
		}
		if got := r.metric("prometheus_notifications_errors_total"); got != 1 {
			t.Errorf("%d: %v errors", status, got)
		}
		r.stop()
		if want := map[bool]int{true: 2, false: 1}[again]; am.count() != want {
			t.Errorf("%d: %d requests, want %d", status, am.count(), want)
		}
	}
	check(http.StatusInternalServerError, true)
	check(http.StatusTooManyRequests, true)
	check(http.StatusUnauthorized, true)
	check(http.StatusNotFound, true)
	check(http.StatusBadRequest, false)
	check(http.StatusRequestEntityTooLarge, false)
}

func TestFullQueueDropsTheOldestAndSaysSo(t *testing.T) {
	am := newReceiver(t)
	hang := make(chan struct{})
	am.hang = hang
	r := start(t, Options{QueueCapacity: 5, MaxBatchSize: 2})
	r.apply(amConfig(1))
	r.discover(am.URL)
	r.notify(firing("first"))
	eventually(t, "the first is under way", func() bool { return am.count() == 1 })
	for i := range 8 {
		r.notify(firing("A", "v", strconv.Itoa(i)))
	}
	if got := r.metric("prometheus_notifications_queue_length"); got != 5 {
		t.Errorf("queue length %v", got)
	}
	close(hang)
	eventually(t, "all are sent", func() bool { return len(am.got(t)) == 6 })
	if got, want := sorted(am.got(t)), "A3, A4, A5, A6, A7, first"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := am.count(); got != 4 {
		t.Errorf("%d requests for batches of 2, want 4", got)
	}
	if got := r.metric("prometheus_notifications_dropped_total"); got != 3 {
		t.Errorf("%v dropped, want 3", got)
	}
	if !strings.Contains(r.log.String(), "queue of alerts is full") {
		t.Error("no line in the log")
	}
}

func TestQueueIsDrainedAtShutdown(t *testing.T) {
	check := func(drop bool, answer int, want, lost int) {
		t.Helper()
		am := newReceiver(t)
		hang := make(chan struct{})
		am.hang, am.answer = hang, func(n int) int { return map[bool]int{true: 200, false: answer}[n == 0] }
		r := start(t, Options{MaxBatchSize: 2, DropOnShutdown: drop})
		r.apply(amConfig(1))
		r.discover(am.URL)
		r.notify(firing("first"))
		eventually(t, "the first is under way", func() bool { return am.count() == 1 })
		r.notify(firing("A"), firing("B"), firing("C"))
		stopped := make(chan struct{})
		go func() { r.stop(); close(stopped) }()
		eventually(t, "the sender knows", func() bool {
			for _, s := range r.n.mu.sets {
				s.mu.RLock()
				defer s.mu.RUnlock()
				return s.mu.ended
			}
			return false
		})
		r.notify(firing("too late"))
		close(hang)
		<-stopped
		if got := len(am.got(t)); got != want {
			t.Errorf("drop %t, answer %d: %d alerts, want %d: %v", drop, answer, got, want, am.got(t))
		}
		if lost > 0 && !strings.Contains(r.log.String(), fmt.Sprintf("count=%d", lost)) {
			t.Errorf("drop %t, answer %d: the log does not say that %d were lost", drop, answer, lost)
		}
		if got := r.metric("prometheus_notifications_sent_total"); got != -1 {
			t.Errorf("metrics of a sender that has ended: %v", got)
		}
	}
	check(false, 200, 4, 0)
	check(true, 200, 1, 3)
	check(false, 500, 3, 3) // one failed try for the first two
}

func TestTLSAndBasicAuth(t *testing.T) {
	am := &receiver{}
	am.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, pass, _ := req.BasicAuth(); user != "tide" || pass != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		am.handle(w, req)
	}))
	am.StartTLS()
	defer am.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: am.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, Options{})
	c := amConfig(1)
	c.Alertmanagers[0].Scheme = "https"
	c.Alertmanagers[0].HTTPClientConfig.TLSConfig = commoncfg.TLSConfig{CAFile: ca, ServerName: "example.com"}
	c.Alertmanagers[0].HTTPClientConfig.BasicAuth = &commoncfg.BasicAuth{Username: "tide", PasswordFile: password}
	r.apply(c)
	r.discover(am.URL)
	r.notify(firing("A"))
	eventually(t, "a request", func() bool { return am.count() == 1 })
}

func TestRelabellingOfAlerts(t *testing.T) {
	first, second := newReceiver(t), newReceiver(t)
	r := start(t, Options{})
	c := amConfig(2)
	c.ExternalLabels = labels.FromStrings("cluster", "reef")
	c.Relabel = []*relabel.Config{
		{SourceLabels: model.LabelNames{"alertname"}, Regex: relabel.MustNewRegexp("Noise"), Action: relabel.Drop},
		{Regex: relabel.MustNewRegexp("cluster"), Action: relabel.LabelDrop},
		{SourceLabels: model.LabelNames{"alertname"}, Regex: relabel.MustNewRegexp("(.*)"), Replacement: "all", TargetLabel: "v", Action: relabel.Replace},
	}
	c.Alertmanagers[1].AlertRelabelConfigs = []*relabel.Config{
		{SourceLabels: model.LabelNames{"alertname"}, Regex: relabel.MustNewRegexp("A"), Action: relabel.Drop},
		{SourceLabels: model.LabelNames{"alertname"}, Regex: relabel.MustNewRegexp("(.*)"), Replacement: "second", TargetLabel: "v", Action: relabel.Replace},
	}
	r.apply(c)
	r.discoverFor(0, first.URL)
	r.discoverFor(1, second.URL)
	given := firing("B")
	r.notify(firing("A"), given, firing("Noise"))
	eventually(t, "both got theirs", func() bool { return first.count() == 1 && second.count() == 1 })
	if got, want := sorted(first.got(t)), "Aall, Ball"; got != want {
		t.Errorf("first got %s, want %s", got, want)
	}
	if got, want := sorted(second.got(t)), "Bsecond"; got != want {
		t.Errorf("second got %s, want %s", got, want)
	}
	if strings.Contains(string(first.bodies[0]), "reef") {
		t.Errorf("the external label was not dropped: %s", first.bodies[0])
	}
	if given.Labels.String() != `{alertname="B"}` {
		t.Errorf("the caller's alert was changed: %s", given.Labels)
	}
}

func TestDiscoveredTargets(t *testing.T) {
	r := start(t, Options{})
	c := amConfig(1)
	c.Alertmanagers[0].PathPrefix = "prefix//"
	c.Alertmanagers[0].RelabelConfigs = []*relabel.Config{
		{SourceLabels: model.LabelNames{"role"}, Regex: relabel.MustNewRegexp("spare"), Action: relabel.Drop},
		{SourceLabels: model.LabelNames{"port"}, Regex: relabel.MustNewRegexp("(.+)"), Replacement: "moved:$1", TargetLabel: "__address__", Action: relabel.Replace},
	}
	r.apply(c)
	r.discovered <- map[string][]*targetgroup.Group{
		"config-0": {
			{Targets: []model.LabelSet{{"__address__": "a:1"}, {"__address__": "a:1"}, {"__address__": "b:1", "role": "spare"}}},
			{Targets: []model.LabelSet{{"__address__": "c:1"}, {"__address__": "d:1", "port": ""}}, Labels: model.LabelSet{"port": "9", "__scheme__": "https"}},
			{Targets: []model.LabelSet{{"__address__": "bad/path"}}},
		},
		"config-7": {{Targets: []model.LabelSet{{"__address__": "x:1"}}}},
	}
	r.discovered <- nil
	if got, want := fmt.Sprint(r.n.Alertmanagers()), "[http://a:1/prefix/api/v2/alerts https://moved:9/prefix/api/v2/alerts https://d:1/prefix/api/v2/alerts]"; got != want {
		t.Errorf("active %s\nwant %s", got, want)
	}
	if got, want := fmt.Sprint(r.n.DroppedAlertmanagers()), "[http://b:1/prefix/api/v2/alerts]"; got != want {
		t.Errorf("dropped %s\nwant %s", got, want)
	}
	if got := r.metric("prometheus_notifications_alertmanagers_discovered"); got != 3 {
		t.Errorf("%v discovered", got)
	}
	if !strings.Contains(r.log.String(), "bad/path") {
		t.Error("the log does not name the target that cannot be used")
	}
	r.discovered <- map[string][]*targetgroup.Group{"config-0": {}}
	r.discovered <- nil
	if got := r.n.Alertmanagers(); len(got) != 0 {
		t.Errorf("still active: %v", got)
	}
}

func TestReloadKeepsQueuesOfUnchangedAlertmanagers(t *testing.T) {
	am := newReceiver(t)
	hang := make(chan struct{})
	am.hang = hang
	r := start(t, Options{})
	c := amConfig(1)
	c.Alertmanagers[0].HTTPClientConfig.BasicAuth = &commoncfg.BasicAuth{Username: "u", Password: "old"}
	r.apply(c)
	r.discover(am.URL)
	r.notify(firing("first"))
	eventually(t, "the first is under way", func() bool { return am.count() == 1 })
	r.notify(firing("A"))
	same := amConfig(2) // another one in front: the names of the configurations move
	*same.Alertmanagers[1] = *c.Alertmanagers[0]
	same.Alertmanagers[0].PathPrefix = "/other"
	r.apply(same)
	close(hang)
	eventually(t, "both arrive", func() bool { return len(am.got(t)) == 2 })
	changed := amConfig(1)
	changed.Alertmanagers[0].HTTPClientConfig.BasicAuth = &commoncfg.BasicAuth{Username: "u", Password: "new"}
	r.apply(changed) // the discovery sees no change, so no update comes
	r.notify(firing("B"))
	eventually(t, "the third arrives", func() bool { return len(am.got(t)) == 3 })
	if _, pass, _ := am.requests[am.count()-1].BasicAuth(); pass != "new" {
		t.Errorf("password %q after the reload", pass)
	}
}

func TestBadConfigurationChangesNothing(t *testing.T) {
	am := newReceiver(t)
	r := start(t, Options{})
	r.apply(amConfig(1))
	r.discover(am.URL)
	bad := amConfig(1)
	bad.Alertmanagers[0].HTTPClientConfig.TLSConfig.CAFile = "/does/not/exist"
	if err := r.n.Apply(bad); err == nil || !strings.Contains(err.Error(), "/does/not/exist") || !strings.Contains(err.Error(), "config-0") {
		t.Errorf("error %v", err)
	}
	bad.Webhooks = []Webhook{{}}
	if err := r.n.Check(bad); err == nil || !strings.Contains(err.Error(), "/does/not/exist") || !strings.Contains(err.Error(), "url_file") {
		t.Errorf("check: error %v", err)
	}
	hook := amConfig(1)
	hook.Webhooks = []Webhook{{}}
	if err := r.n.Apply(hook); err == nil || !strings.Contains(err.Error(), "url_file") {
		t.Errorf("error %v", err)
	}
	r.notify(firing("A"))
	eventually(t, "a request", func() bool { return am.count() == 1 })
}

func TestShadowLetsNothingOut(t *testing.T) {
	am, hook := newReceiver(t), newReceiver(t)
	r := start(t, Options{Shadow: true, Timing: quick})
	c := amConfig(1)
	c.Webhooks = []Webhook{{URLFile: urlFile(t, hook.URL), SendResolved: true}}
	r.apply(c)
	r.discover(am.URL)
	r.notify(firing("A"), firing("B"))
	time.Sleep(10 * quick.GroupWait)
	r.stop()
	if am.count()+hook.count() != 0 {
		t.Errorf("%d requests to the Alertmanager, %d to the webhook", am.count(), hook.count())
	}
	if got := r.metric("tidemark_notifications_shadowed_total"); got != 2 {
		t.Errorf("%v counted, want 2", got)
	}
	if got := r.n.Alertmanagers(); len(got) != 1 {
		t.Errorf("alertmanagers %v: they are shown all the same", got)
	}
}
