// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// The rules of the differential tests use everything that has state: for, keep_firing_for, limits that are
// sometimes exceeded, templates with queries, results that sometimes hold duplicates, rules on rules and on
// ALERTS.
const differentialRules = `
groups:
- name: recording
  labels: {origin: group}
  rules:
  - {record: "job:m:sum", expr: sum by (job) (m)}
  - {record: "job:m:ratio", expr: "job:m:sum / scalar(sum(m))", labels: {origin: rule}}
  - {record: "dup", expr: "m > 80", labels: {instance: ""}}
  - {record: "rate", expr: "rate(m[3m])"}
  - {record: "scalar", expr: "time() / 60"}
- name: limited
  limit: 4
  query_offset: 30s
  rules:
  - {record: "limited", expr: "m > 40"}
  - {alert: Limited, expr: "m > 40", labels: {severity: info}}
- name: alerts
  rules:
  - alert: Now
    expr: m > 60
    labels: {severity: page, high: '{{ if gt $value 80.0 }}yes{{ else }}{{ end }}'}
    annotations: {summary: '{{ $labels.instance }} of {{ $externalLabels.cluster }} is at {{ $value | humanize }}'}
  - {alert: Waits, expr: "m > 50", for: 3m, annotations: {n: '{{ with query "count(m)" }}{{ . | first | value }}{{ end }}'}}
  - {alert: Keeps, expr: "m > 70", keep_firing_for: 4m}
  - {alert: Both, expr: "sum by (job) (m) > 150", for: 2m, keep_firing_for: 3m, labels: {job2: '{{ $labels.job }}'}}
  - {alert: Dup, expr: "m > 85", labels: {instance: ""}}
  - {alert: Broken, expr: "m > 90", annotations: {bad: '{{ index $labels.x.y 1 }}'}}
  - {alert: Absent, expr: 'absent(m{instance="0"})'}
  - {record: "alerts:count", expr: 'count by (alertname, alertstate) (ALERTS)'}
  - {alert: Meta, expr: 'count(ALERTS{alertstate="firing"}) > 6', for: 1m}
`

// twins runs the same rules in Prometheus' manager and in ours over equal data.
type twins struct {
	*testing.T
	ours   *fixture
	theirs *promrules.Manager
	tsdb   *teststorage.TestStorage
	sent   []string // by theirs, in one evaluation
	total  int      // sent by theirs
	file   string
}

func newTwins(t *testing.T, text string) *twins {
	t.Helper()
	w := &twins{T: t, ours: newFixture(t), tsdb: teststorage.New(t)}
	t.Cleanup(func() { w.tsdb.Close() })
	w.file = filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.theirs = w.newTheirs()
	external := labels.FromStrings("cluster", "reef")
	if err := w.theirs.Update(time.Minute, []string{w.file}, external, "", nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.ours.m, err = New(w.ours.opts); err != nil {
		t.Fatal(err)
	}
	w.ours.config.ExternalLabels, w.ours.config.ExternalURL = external, ""
	w.ours.config.Files = []string{w.file}
	if err := w.ours.m.Update(w.ours.config); err != nil {
		t.Fatal(err)
	}
	return w
}

// newTheirs returns Prometheus' manager over its storage.
func (w *twins) newTheirs() *promrules.Manager {
	m := promrules.NewManager(&promrules.ManagerOptions{
		QueryFunc: promrules.EngineQueryFunc(newEngine(), w.tsdb), Appendable: w.tsdb, Queryable: w.tsdb,
		Context: w.Context(), Logger: slog.New(slog.DiscardHandler), Parser: parser.NewParser(parser.Options{}),
		OutageTolerance: time.Hour, ForGracePeriod: 10 * time.Minute, ResendDelay: time.Minute,
		NotifyFunc: func(_ context.Context, _ string, alerts ...*promrules.Alert) {
			for _, a := range alerts {
				end := a.ValidUntil
				if !a.ResolvedAt.IsZero() {
					end = a.ResolvedAt
				}
				w.sent = append(w.sent, sentLine(a.Labels, a.Annotations, a.FiredAt, end))
			}
		},
	})
	w.Cleanup(func() { // its groups can be stopped only once they were started
		var run sync.WaitGroup
		run.Go(m.Run)
		m.Stop()
		run.Wait()
	})
	return m
}

func sentLine(lset, annotations labels.Labels, start, end time.Time) string {
	return fmt.Sprintf("%s %s %d-%d", lset, annotations, start.Unix(), end.Unix())
}

// put gives both the same samples.
func (w *twins) put(ts time.Time, values map[string]float64) {
	w.Helper()
	app := w.tsdb.Appender(w.Context())
	for series, v := range values {
		lset, err := parser.NewParser(parser.Options{}).ParseMetric(series)
		if err != nil {
			w.Fatal(err)
		}
		if _, err := app.Append(0, lset, millis(ts), v); err != nil {
			w.Fatal(err)
		}
		w.ours.store.Append(lset, columntest.Sample{T: millis(ts), V: v})
	}
	if err := app.Commit(); err != nil {
		w.Fatal(err)
	}
}

// eval evaluates every group of both, in the same order, and compares what was sent.
func (w *twins) eval(ts time.Time) {
	w.Helper()
	for _, g := range w.theirs.RuleGroups() {
		w.sent = nil
		g.Eval(w.Context(), ts)
		w.ours.group(g.Name()).eval(w.Context(), ts)
		w.ours.m.outbox.deliver(w.Context())
		var sent []string
		for _, n := range w.ours.notes.take() {
			sent = append(sent, sentLine(n.Labels, n.Annotations, n.StartsAt, n.EndsAt))
		}
		w.total += len(w.sent)
		slices.Sort(w.sent)
		slices.Sort(sent)
		if diff := cmp.Diff(w.sent, sent); diff != "" {
			w.Fatalf("%v: group %s: sent (-theirs +ours)\n%s", ts, g.Name(), diff)
		}
	}
}

// compareAlerts compares alerts, health and errors of all rules.
func (w *twins) compareAlerts(ts time.Time) {
	w.Helper()
	var theirs, ours []string
	for _, g := range w.theirs.RuleGroups() {
		for i, r := range g.Rules() {
			theirs = append(theirs, fmt.Sprint(g.Name(), i, r.Name(), r.Query().String(), r.Labels().String(), r.LastError()))
			if a, ok := r.(*promrules.AlertingRule); ok {
				theirs = append(theirs, fmt.Sprint(g.Name(), i, a.State(), a.HoldDuration(), a.KeepFiringFor(), a.Annotations().String()))
				for _, x := range a.ActiveAlerts() {
					theirs = append(theirs, fmt.Sprint(g.Name(), i, x.State, x.Labels, x.Annotations, x.ActiveAt.Unix(), x.KeepFiringSince.Unix(), fmt.Sprintf("%e", x.Value)))
				}
			}
		}
	}
	for _, g := range w.ours.m.Groups() {
		for i, r := range g.Rules {
			var lastErr any
			if r.LastError != "" {
				lastErr = r.LastError
			}
			ours = append(ours, fmt.Sprint(g.Name, i, r.Name, r.Query, r.Labels.String(), lastErr))
			if r.Alerting {
				ours = append(ours, fmt.Sprint(g.Name, i, r.State, r.Hold, r.KeepFiringFor, r.Annotations.String()))
				for _, x := range r.Alerts {
					var v float64
					fmt.Sscan(x.Value, &v)
					ours = append(ours, fmt.Sprint(g.Name, i, x.State, x.Labels, x.Annotations, x.ActiveAt.Unix(), x.KeepFiringSince.Unix(), fmt.Sprintf("%e", v)))
				}
			}
		}
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		w.Fatalf("%v: rules and alerts (-theirs +ours)\n%s", ts, diff)
	}
}

func (w *twins) compareSeries() {
	w.Helper()
	const written = `{__name__=~".+",__name__!="m"}`
	theirs := strings.Split(dumpQueryable(w.T, w.tsdb, written), "\n")
	ours := strings.Split(w.ours.store.dump(w.T, written), "\n")
	if diff := cmp.Diff(theirs, ours); diff != "" {
		w.Fatalf("written series (-theirs +ours)\n%s", diff)
	}
}

// randomWalk makes the values of one tick: series come and go, and move slowly enough that `for` matters.
type randomWalk struct {
	rng    *rand.Rand
	values map[string]float64
}

func (r *randomWalk) tick() map[string]float64 {
	for job := range 2 {
		for i := range 3 {
			s := fmt.Sprintf(`m{job="%d",instance="%d"}`, job, i)
			v, ok := r.values[s]
			switch {
			case !ok && r.rng.IntN(6) == 0:
				r.values[s] = r.rng.Float64() * 100
			case ok && r.rng.IntN(12) == 0:
				delete(r.values, s)
			case ok:
				r.values[s] = min(max(v+r.rng.Float64()*50-25, 0), 100)
			}
		}
	}
	return r.values
}

func TestSameSeriesAlertsAndNotificationsAsPrometheus(t *testing.T) {
	for round := range 3 {
		seed := uint64(time.Now().UnixNano())
		if round == 0 {
			seed = 1
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := newTwins(t, differentialRules)
			walk := &randomWalk{rng: rand.New(rand.NewPCG(seed, 0)), values: map[string]float64{}}
			for i := range 150 {
				ts := at(time.Hour + time.Duration(i)*time.Minute)
				w.put(ts.Add(-5*time.Second), walk.tick())
				w.eval(ts)
				w.compareAlerts(ts)
				if i == 1 { // as both do after the second evaluation
					w.restore(ts)
				}
			}
			w.compareSeries()
			if w.total < 100 {
				t.Errorf("only %d notifications: the rules hardly fired", w.total)
			}
		})
	}
}

// restore has both restore for-timers from what is in their storages.
func (w *twins) restore(ts time.Time) {
	for _, g := range w.theirs.RuleGroups() {
		g.RestoreForState(ts)
		w.ours.group(g.Name()).restoreFromSeries(w.Context(), ts)
	}
}

func TestSameRestorationFromSeriesAsPrometheus(t *testing.T) {
	const text = `
groups:
- name: g
  rules:
  - {alert: Long, expr: "m > 10", for: 30m, labels: {a: b, t: '{{ $labels.instance }}'}}
  - {alert: Short, expr: "m > 10", for: 5m}
  - {alert: Grace, expr: "m > 10", for: 12m}
`
	for _, down := range []time.Duration{0, 7 * time.Minute, 25 * time.Minute, 2 * time.Hour} {
		for _, before := range []int{1, 11, 20, 40} {
			t.Run(fmt.Sprintf("down=%v/before=%d", down, before), func(t *testing.T) {
				w := newTwins(t, text)
				high := map[string]float64{`m{instance="0"}`: 20, `m{instance="1"}`: 20}
				ts := at(time.Hour)
				for i := range before {
					if i == 2 {
						w.restore(ts)
					}
					w.put(ts, high)
					w.eval(ts)
					ts = ts.Add(time.Minute)
				}
				w.restart()
				delete(high, `m{instance="1"}`) // gone while both were down, back later
				for i := range 45 {
					ts = ts.Add(time.Minute)
					if i == 0 {
						ts = ts.Add(down)
					}
					if i == 3 {
						high[`m{instance="1"}`] = 20
					}
					w.put(ts, high)
					w.eval(ts)
					if i == 1 {
						w.restore(ts.Add(3 * time.Second))
					}
					w.compareAlerts(ts)
				}
				w.compareSeries()
			})
		}
	}
}

// restart replaces both managers by new ones over the same storages.
func (w *twins) restart() {
	w.Helper()
	w.theirs = w.newTheirs()
	if err := w.theirs.Update(time.Minute, []string{w.file}, w.ours.config.ExternalLabels, "", nil); err != nil {
		w.Fatal(err)
	}
	var err error
	if w.ours.m, err = New(w.ours.opts); err != nil {
		w.Fatal(err)
	}
	if err := w.ours.m.Update(w.ours.config); err != nil {
		w.Fatal(err)
	}
}
