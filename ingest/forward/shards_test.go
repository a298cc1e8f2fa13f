// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math"
	"net/http"
	"testing"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// tick is what happens to an endpoint between two looks at its requests.
type tick struct {
	in, out, dropped int64         // items a second
	busy             time.Duration // of requests in each second
	delay            float64
	silent           bool // nothing was sent
}

// run lets ten equal ticks pass, so that averages are what comes.
func (x tick) run(s *sharding, times int) (desired float64) {
	now := time.Now()
	for range times {
		per := int64(shardsEvery / time.Second)
		s.in.events.Add(x.in * per)
		s.out.events.Add(x.out * per)
		s.dropped.events.Add(x.dropped * per)
		s.busy.events.Add(int64(x.busy) * per)
		now = now.Add(shardsEvery)
		if !x.silent {
			s.lastSent.Store(now.UnixMilli())
		}
		desired, _ = s.adapt(now, x.delay)
	}
	return desired
}

// The expected numbers are worked out by Prometheus' rule: the time that a sample takes, times the samples that come and a
// twentieth of those that wait.
func TestAsManyRequestsSideBySideAsPrometheusWouldMake(t *testing.T) {
	check := func(name string, least, most, current int, x tick, wantDesired float64, want int) {
		t.Helper()
		s := newSharding(&promconfig.QueueConfig{MinShards: least, MaxShards: most})
		s.current.Store(int64(current))
		got := x.run(s, 60)
		if math.Abs(got-wantDesired) > 1e-6*wantDesired || s.shards() != want {
			t.Errorf("%s: %v desired and %d made, want %v and %d", name, got, s.shards(), wantDesired, want)
		}
	}
	check("what comes is sent in time", 1, 50, 1, tick{in: 1000, out: 1000, busy: 500 * time.Millisecond}, 0.5, 1)
	check("requests take long", 1, 50, 1, tick{in: 1000, out: 1000, busy: 5 * time.Second}, 5, 5)
	check("half of it is not wanted", 1, 50, 1, tick{in: 2000, out: 1000, dropped: 1000, busy: 5 * time.Second}, 5, 5)
	check("a backlog", 1, 50, 1, tick{in: 1000, out: 1000, busy: time.Second, delay: 100}, 6, 6)
	check("no more than allowed", 1, 4, 1, tick{in: 1000, out: 1000, busy: 20 * time.Second}, 20, 4)
	check("no fewer than asked for", 3, 50, 8, tick{in: 1000, out: 1000, busy: 500 * time.Millisecond}, 0.5, 3)
	check("a small change is none", 1, 50, 10, tick{in: 1000, out: 1000, busy: 12 * time.Second}, 12, 10)
	check("no fewer while far behind", 1, 50, 40, tick{in: 1000, out: 1000, busy: time.Second, delay: 11}, 1.55, 40)
	check("no change while nothing is sent", 1, 50, 2, tick{in: 1000, out: 1000, busy: 20 * time.Second, silent: true}, 20, 2)
	check("nothing was ever sent", 1, 50, 2, tick{in: 1000}, 0, 2)
}

// mixin are the alerts about remote write of Prometheus' mixin.
var mixin = map[string]string{
	"failures": `(rate(prometheus_remote_storage_failed_samples_total[5m]) or rate(prometheus_remote_storage_samples_failed_total[5m]))
		/ ((rate(prometheus_remote_storage_failed_samples_total[5m]) or rate(prometheus_remote_storage_samples_failed_total[5m]))
		+ (rate(prometheus_remote_storage_succeeded_samples_total[5m]) or rate(prometheus_remote_storage_samples_total[5m]))) * 100 > 1`,
	"behind": `(max_over_time(prometheus_remote_storage_queue_highest_timestamp_seconds[5m])
		- max_over_time(prometheus_remote_storage_queue_highest_sent_timestamp_seconds[5m])) > 120`,
	"shards": `max_over_time(prometheus_remote_storage_shards_desired[5m]) > max_over_time(prometheus_remote_storage_shards_max[5m])`,
}

// watcher scrapes the metrics of a forwarder, by a clock of its own.
type watcher struct {
	x  *bench
	db *tsdb.DB
}

// scrape takes the metrics in at a time.
func (w *watcher) scrape(at time.Time) {
	w.x.t.Helper()
	families, err := w.x.reg.Gather()
	if err != nil {
		w.x.t.Fatal(err)
	}
	var b sample.Batch
	for _, f := range families {
		for _, m := range f.GetMetric() {
			l := labels.NewBuilder(labels.FromStrings("__name__", f.GetName()))
			for _, p := range m.GetLabel() {
				l.Set(p.GetName(), p.GetValue())
			}
			refs := make([]sample.Ref, 1)
			if err := w.db.Resolve([]labels.Labels{l.Labels()}, refs); err != nil {
				w.x.t.Fatal(err)
			}
			b.AppendFloat(refs[0], 0, at.UnixMilli(), m.GetCounter().GetValue()+m.GetGauge().GetValue(), 0)
		}
	}
	if _, err := w.db.Commit(w.x.t.Context(), &b, &sample.Result{}); err != nil {
		w.x.t.Fatal(err)
	}
}

// firing returns which of the alerts' expressions have a result at a time.
func (w *watcher) firing(at time.Time) map[string]bool {
	w.x.t.Helper()
	e := query.NewEngine(w.db, query.Options{})
	defer func() {
		if err := e.Close(); err != nil {
			w.x.t.Error(err)
		}
	}()
	out := map[string]bool{}
	for name, expr := range mixin {
		q, err := e.NewInstantQuery(w.x.t.Context(), nil, nil, expr, at)
		if err != nil {
			w.x.t.Fatal(err)
		}
		res := q.Exec(w.x.t.Context())
		v, err := res.Vector()
		if err != nil {
			w.x.t.Fatal(err)
		}
		if len(v) > 0 {
			out[name] = true
		}
		q.Close()
	}
	return out
}

func TestTheAlertsOfPrometheusMixinTellWhatIsWrong(t *testing.T) {
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: "/data", FS: fsx.NewCrashable(), MaxFuture: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	clock := make(chan time.Time, 1)
	clock <- time.Now()
	read := func() time.Time { t := <-clock; clock <- t; return t }
	x, to := newBench(t, Options{Now: read}), newReceiver(t)
	status := http.StatusOK
	to.answer = func(int) int { return status }
	answer := func(s int) {
		to.mu.Lock()
		defer to.mu.Unlock()
		status = s
	}
	x.configure(to, `remote_write: [{name: far, url: URL`+quick+`}]`)
	w := &watcher{x, db}
	ref := x.store.ref(1, "__name__", "a")
	rare := x.store.ref(2, "__name__", "rare")
	x.row(rare, read().UnixMilli(), 1)
	// pass lets minutes pass, with a row in each.
	pass := func(minutes int, settled bool) {
		t.Helper()
		for range minutes {
			now := (<-clock).Add(time.Minute)
			clock <- now
			x.row(ref, now.UnixMilli(), 1)
			for q := x.f.queue.Load(); settled && q.behind(q.journal.Last()); {
				time.Sleep(time.Millisecond)
			}
			x.f.maintain()
			w.scrape(now)
		}
	}
	check := func(name string, want ...string) {
		t.Helper()
		got := w.firing(read())
		if len(got) != len(want) {
			t.Errorf("%s: %v fire, want %v", name, got, want)
		}
		for _, alert := range want {
			if !got[alert] {
				t.Errorf("%s: %q does not fire", name, alert)
			}
		}
	}
	pass(10, true)
	check("all is well")
	answer(http.StatusBadRequest)
	pass(6, true)
	check("the receiver refuses", "failures", "behind") // what is refused was not sent
	answer(http.StatusOK)
	pass(10, true)
	check("all is well again")
	answer(http.StatusBadGateway)
	pass(10, false)
	check("the receiver is away", "behind")
	e := x.f.endpoints["far"]
	e.metrics.shardsDesired.Set(5)
	w.scrape(read().Add(time.Second))
	if got := w.firing(read().Add(time.Second)); !got["shards"] {
		t.Errorf("more requests are desired than allowed, and %v fire", got)
	}
}
