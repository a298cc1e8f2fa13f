// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func TestUnchangedGroupKeepsRunningAcrossUpdate(t *testing.T) {
	f := newFixture(t)
	f.rules("groups: [{name: a, rules: [{record: x, expr: m}]}, {name: b, rules: [{record: y, expr: m}]}]")
	a, b := f.group("a"), f.group("b")
	f.rules("groups: [{name: a, rules: [{record: x, expr: m}]}, {name: b, rules: [{record: y, expr: m + 1}]}]")
	if f.group("a") != a {
		t.Error("an unchanged group was replaced")
	}
	if f.group("b") == b {
		t.Error("a changed group was not replaced")
	}
	a = f.group("a")
	f.config.ExternalLabels = labels.FromStrings("cluster", "reef")
	f.rules("groups: [{name: a, rules: [{record: x, expr: m}]}]")
	if f.group("a") == a {
		t.Error("a group was not replaced when the external labels changed, which its templates use")
	}
}

func TestBadFilesLeaveTheOldGroupsAndNameThePlace(t *testing.T) {
	f := newFixture(t)
	f.rules("groups: [{name: g, rules: [{record: x, expr: m}]}]")
	check := func(text string, want ...string) {
		t.Helper()
		err := f.tryRules(text)
		if err == nil {
			t.Errorf("no error for\n%s", text)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q lacks %q", err, w)
			}
		}
		if got := f.m.Groups(); len(got) != 1 || got[0].Rules[0].Name != "x" {
			t.Errorf("groups are %v after an error", got)
		}
	}
	check("groups:\n- name: g\n  rules:\n  - record: x\n    expr: sum(\n", "rules.yml:5:11", `group "g"`, "rule 1", `"x"`, "parse")
	check("groups:\n- name: g\n  rules:\n  - {record: x, expr: m}\n  - alert: A\n    expr: m\n    labels: {__name__: b}\n",
		"rules.yml:5: ", `group "g", rule 2, "A"`, "__name__")
	check("groups:\n- name: g\n  rules:\n  - {record: x, expr: m}\n  - alert: A\n    expr: m\n    annotations: {a: '{{ .x'}\n",
		"rules.yml:5:", `group "g"`, "rule 2", `"A"`)
	check("groups:\n- name: g\n  rules:\n  - {record: x, expr: m, for: 5m}\n", "rules.yml:4:", "'for'")
	check("groups:\n- name: g\n- name: g\n", "rules.yml:3: ", `"g"`, "line 2")
	check("groups:\n- name: g\n- rules: []\n", "rules.yml:3: ", "no name")
	check("groups:\n- name: g\n  nope: 1\n", "rules.yml", "line 3", "nope")
	check(":", "rules.yml")
	f.config.Files = []string{filepath.Join(f.dir, "missing.yml")}
	if err := f.m.Update(f.config); err == nil || !strings.Contains(err.Error(), "missing.yml") {
		t.Errorf("missing file: %v", err)
	}
}

func TestNameValidationOfTheConfigurationIsUsed(t *testing.T) {
	f := newFixture(t)
	const text = "groups: [{name: g, rules: [{record: 'with.dots', expr: m}]}]"
	f.rules(text)
	f.config.NameValidation = model.LegacyValidation
	if err := f.tryRules(text); err == nil || !strings.Contains(err.Error(), "with.dots") {
		t.Errorf("error %v", err)
	}
}

func TestOneErrorNamesAllBadFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yml", "b.yml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("groups: [{name: g, rules: [{record: x}]}]"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Glob([]string{filepath.Join(dir, "*.yml"), filepath.Join(dir, "a*"), filepath.Join(dir, "none*")})
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	err = Check(Config{Files: files}, Options{})
	if err == nil || !strings.Contains(err.Error(), "a.yml:1: ") || !strings.Contains(err.Error(), "b.yml:1: ") {
		t.Errorf("error %v", err)
	}
	if _, err := Glob([]string{"[x"}); err == nil || !strings.Contains(err.Error(), "[x") {
		t.Errorf("bad pattern: %v", err)
	}
}

func TestStateIsKeptAcrossReload(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m{i="1"}`, 1, 1, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0, for: 1m}, {record: r, expr: m}, {record: r, expr: m + 1, labels: {n: '2'}}]}]")
	f.restored()
	f.evalMinutes(0, 1)
	f.rules("groups: [{name: g, interval: 2m, rules: [{record: r, expr: m + 1, labels: {n: '2'}}, {alert: A, expr: m >= 1, for: 1m}]}]")
	f.wantAlerts("reloaded", `firing {alertname="A", i="1"} 1e+00`)
	if a := f.m.Alerts(); !a[0].ActiveAt.Equal(at(0)) {
		t.Errorf("active since %v", a[0].ActiveAt)
	}
	f.evalMinutes(2, 2)
	f.wantSeries(`ALERTS{alertstate="firing"}`, `{__name__="ALERTS", alertname="A", alertstate="firing", i="1"} 60=1 120=1`)
	f.wantSeries(`r`, `{__name__="r", i="1", n="2"} 0=2 60=2 120=2
{__name__="r", i="1"} 0=1 60=1 120=stale`)
}

func TestLongerForSendsAFiringAlertBackToPending(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 1, 1, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}]}]")
	f.restored()
	f.evalMinutes(0, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0, for: 5m}]}]")
	f.evalMinutes(2, 2)
	f.wantAlerts("longer", `pending {alertname="A"} 1e+00`)
	f.evalMinutes(3, 5)
	f.wantAlerts("served", `firing {alertname="A"} 1e+00`)
}

func TestRestorationSurvivesAReloadBeforeIt(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}]}]")
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}, {alert: B, expr: m > 0}]}]")
	g := f.group("g")
	if !g.restoreSeries || g.rules[0].alerts.restored || !g.rules[1].alerts.restored {
		t.Errorf("group %t, old rule %t, new rule %t", g.restoreSeries, g.rules[0].alerts.restored, g.rules[1].alerts.restored)
	}
}

// running runs a fixture's manager in a synctest bubble and stops it.
func (f *fixture) running(body func()) {
	f.Helper()
	var ended bool
	go func() {
		if err := f.m.Run(context.Background()); err != nil {
			f.Error(err)
		}
		ended = true
	}()
	synctest.Wait()
	body()
	f.m.Stop()
	synctest.Wait()
	if !ended {
		f.Error("Run has not returned after Stop")
	}
}

// timeList is a list of times that goroutines share.
type timeList struct {
	mu   sync.Mutex
	list []time.Time
}

// add appends t and returns how many there are.
func (l *timeList) add(t time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, t)
	return len(l.list)
}

func (l *timeList) all() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

func TestGroupsAreEvaluatedAtTheirSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var times timeList
		f.opts.Query = func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
			times.add(ts)
			return nil, nil
		}
		f.rules("groups: [{name: g, interval: 10s, rules: [{record: x, expr: m}]}]")
		g := f.group("g")
		f.running(func() {
			time.Sleep(45 * time.Second)
			synctest.Wait()
		})
		asked := times.all()
		if len(asked) != 4 && len(asked) != 5 {
			t.Fatalf("%d evaluations in 45 s", len(asked))
		}
		for i, ts := range asked {
			if got := time.Duration(ts.UnixNano()) % g.interval; got != g.slotOffset() {
				t.Errorf("evaluation %d at offset %v, want %v", i, got, g.slotOffset())
			}
			if i > 0 && ts.Sub(asked[i-1]) != g.interval {
				t.Errorf("evaluation %d comes %v after the one before", i, ts.Sub(asked[i-1]))
			}
		}
	})
}

func TestLateEvaluationIsCountedAsMissedAndNeverRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		reg := prometheus.NewRegistry()
		f.opts.Registerer = reg
		took := []time.Duration{0, 15 * time.Second, 0, 35 * time.Second, 0}
		var times timeList
		f.opts.Query = func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
			if n := times.add(ts); n <= len(took) {
				time.Sleep(took[n-1])
			}
			return nil, nil
		}
		f.rules("groups: [{name: g, interval: 10s, rules: [{record: x, expr: m}]}]")
		f.running(func() {
			for len(times.all()) < 7 {
				time.Sleep(time.Second)
				synctest.Wait()
			}
		})
		var slots []int
		asked := times.all()
		for _, ts := range asked {
			slots = append(slots, int(ts.Sub(asked[0])/(10*time.Second)))
		}
		// The evaluation of slot 1 takes until 2.5: slot 2 runs late. That of slot 3 takes until 6.5: 4 and 5
		// are missed, 6 runs late.
		if want := []int{0, 1, 2, 3, 6, 7, 8}; !slices.Equal(slots, want) {
			t.Errorf("slots %v, want %v", slots, want)
		}
		key := f.group("g").key
		if got := metricValue(t, reg, "prometheus_rule_group_iterations_missed_total", key); got != 2 {
			t.Errorf("%v missed, want 2", got)
		}
		if got := metricValue(t, reg, "prometheus_rule_group_iterations_total", key); got != 9 {
			t.Errorf("%v iterations, want 9", got)
		}
	})
}

// metricValue returns a counter or gauge of a group.
func metricValue(t *testing.T, reg *prometheus.Registry, name, group string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (group == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == group) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func TestScheduleMatchesPrometheusSlots(t *testing.T) {
	s := schedule{offset: 7 * time.Second, interval: time.Minute}
	check := func(now, want time.Duration) {
		t.Helper()
		if got := s.before(at(now)); !got.Equal(at(want)) {
			t.Errorf("before(%v) = %v, want %v", now, got, want)
		}
	}
	check(time.Hour, time.Hour-53*time.Second)
	check(time.Hour+7*time.Second, time.Hour+7*time.Second)
	check(time.Hour+7*time.Second-1, time.Hour-53*time.Second)

	next := func(now, want time.Duration, wantMissed int64) {
		t.Helper()
		got, missed := s.next(at(time.Hour), at(now))
		if !got.Equal(at(want)) || missed != wantMissed {
			t.Errorf("next at %v = %v with %d missed, want %v with %d", now, got, missed, want, wantMissed)
		}
	}
	next(time.Hour+time.Second, 61*time.Minute, 0)
	next(61*time.Minute, 61*time.Minute, 0)
	next(62*time.Minute-1, 61*time.Minute, 0) // late, but not missed
	next(62*time.Minute, 62*time.Minute, 1)
	next(65*time.Minute+1, 65*time.Minute, 4)
}

func TestOrphansAreMarkedWithTheQueryOffset(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 1, 1, 1)
	f.rules("groups: [{name: g, query_offset: 30s, rules: [{record: gone, expr: m}, {record: stays, expr: m}]}]")
	f.evalMinutes(1, 2)
	f.rules("groups: [{name: g, query_offset: 30s, rules: [{record: stays, expr: m}]}]")
	f.evalMinutes(3, 3)
	f.wantSeries(`gone`, `{__name__="gone"} 30=1 90=1 150=stale`)
	f.wantSeries(`stays`, `{__name__="stays"} 30=1 90=1 150=1`)
}

func TestStateOfAReplacedGroupIsNotWritten(t *testing.T) {
	f := newFixture(t)
	f.opts.FS, f.opts.StateDir = fsx.NewCrashable(), "/s"
	f.rules("groups: [{name: g, rules: [{alert: A, expr: '1'}]}]")
	old := f.group("g")
	old.iterate(t.Context(), at(0))
	f.rules("groups: [{name: g, rules: [{alert: B, expr: '1'}]}]")
	f.m.keeper.note(old)
	if n := len(f.m.keeper.mu.noted); n != 0 {
		t.Errorf("%d groups are noted", n)
	}
}

func TestRemovedGroupIsMarkedStaleAfterTwoIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.opts.Query = func(_ context.Context, expr string, ts time.Time) (promql.Vector, error) {
			return promql.Vector{{Metric: labels.FromStrings("i", expr), T: millis(ts), F: 1}}, nil
		}
		f.rules(`groups:
- {name: a, interval: 10s, rules: [{record: gone, expr: x}, {record: moved, expr: x}]}
- {name: b, interval: 10s, rules: [{record: stays, expr: x}]}`)
		f.running(func() {
			time.Sleep(25 * time.Second)
			synctest.Wait()
			f.rules(`groups:
- {name: b, interval: 10s, rules: [{record: stays, expr: x}]}
- {name: c, interval: 10s, rules: [{record: moved, expr: x}]}`)
			time.Sleep(19 * time.Second)
			synctest.Wait()
			if s := f.store.dump(t, `gone`); strings.Contains(s, "stale") {
				t.Errorf("marked too early: %s", s)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
		})
		if s := f.store.dump(t, `gone`); strings.Count(s, "stale") != 1 {
			t.Errorf("not marked: %s", s)
		}
		for _, name := range []string{"moved", "stays"} {
			if s := f.store.dump(t, name); strings.Contains(s, "stale") {
				t.Errorf("a series that is still written was marked: %s", s)
			}
		}
	})
}

func TestStopDoesNotWaitForRetiredGroupsNorMarkTheirSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.opts.Query = func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
			return promql.Vector{{T: millis(ts), F: 1}}, nil
		}
		f.rules(`groups: [{name: a, interval: 1h, rules: [{record: x, expr: m}]}]`)
		f.running(func() {
			time.Sleep(61 * time.Minute)
			synctest.Wait()
			f.rules(`groups: []`)
			synctest.Wait()
		})
		if s := f.store.dump(t, `x`); s == "" || strings.Contains(s, "stale") {
			t.Errorf("series after stop: %q", s)
		}
	})
}

func TestGroupsLoadedWhileRunningStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.opts.Query = func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
			return promql.Vector{{T: millis(ts), F: 1}}, nil
		}
		f.rules(`groups: []`)
		f.running(func() {
			f.rules(`groups: [{name: a, interval: 10s, rules: [{record: x, expr: m}]}]`)
			time.Sleep(11 * time.Second)
			synctest.Wait()
			if f.store.dump(t, `x`) == "" {
				t.Error("a group loaded after Run was not evaluated")
			}
		})
		if err := f.m.Update(f.config); err != nil {
			t.Errorf("Update after Stop: %v", err)
		}
	})
}

func TestMetricsOfARemovedGroupGo(t *testing.T) {
	f := newFixture(t)
	reg := prometheus.NewRegistry()
	f.opts.Registerer = reg
	f.rules(`groups: [{name: a, rules: [{record: x, expr: "1"}]}]`)
	key := f.group("a").key
	f.eval(at(0))
	check := func(name string, want float64) {
		t.Helper()
		if got := metricValue(t, reg, name, key); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	check("prometheus_rule_group_rules", 1)
	check("prometheus_rule_evaluations_total", 1)
	check("prometheus_rule_evaluation_failures_total", 0)
	check("prometheus_rule_group_last_evaluation_samples", 1)
	check("prometheus_rule_group_interval_seconds", 60)
	f.rules(`groups: []`)
	check("prometheus_rule_group_rules", -1)
	check("prometheus_rule_evaluations_total", -1)
}

func TestNewSaysEverythingThatIsMissing(t *testing.T) {
	_, err := New(Options{StateDir: "x"})
	for _, want := range []string{"Query", "Appender", "FS"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}
