// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const minute = time.Minute

// load1m loads one value per minute from the epoch.
func (f *fixture) load1m(series string, values ...float64) {
	f.store.load(series, epoch, minute, values...)
}

func (f *fixture) evalMinutes(from, to int) {
	f.Helper()
	for i := from; i <= to; i++ {
		f.eval(at(time.Duration(i) * minute))
	}
}

func TestAlertGoesFromPendingToFiringToResolved(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m{i="1"}`, 0, 1, 1, 1, 1, 0, 0)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: 'm > 0', for: 2m, labels: {s: page}}]}]")
	f.restored()
	if s := f.m.Groups()[0].Rules[0].State; s != StateUnknown {
		t.Errorf("state %s before the first evaluation", s)
	}
	f.evalMinutes(0, 0)
	if s := f.m.Groups()[0].Rules[0].State; s != StateInactive {
		t.Errorf("state %s without a result", s)
	}
	f.evalMinutes(1, 1)
	f.wantAlerts("first", `pending {alertname="A", i="1", s="page"} 1e+00`)
	f.evalMinutes(2, 3)
	f.wantAlerts("after `for`", `firing {alertname="A", i="1", s="page"} 1e+00`)
	f.evalMinutes(4, 6)
	f.wantAlerts("gone", ``)
	f.wantSeries("ALERTS", `{__name__="ALERTS", alertname="A", alertstate="firing", i="1", s="page"} 180=1 240=1 300=stale
{__name__="ALERTS", alertname="A", alertstate="pending", i="1", s="page"} 60=1 120=1 180=stale`)
	f.wantSeries("ALERTS_FOR_STATE", `{__name__="ALERTS_FOR_STATE", alertname="A", i="1", s="page"} 60=60 120=60 180=60 240=60 300=stale`)
}

func TestPendingAlertThatVanishesStartsAnew(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 1, 0, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: 'm > 0', for: 2m}]}]")
	f.restored()
	f.evalMinutes(0, 4)
	f.wantAlerts("second try", `pending {alertname="A"} 1e+00`)
	if n := len(f.notes.take()); n != 0 {
		t.Errorf("%d notifications of a pending alert", n)
	}
}

func TestKeepFiringForHoldsTheAlert(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 0, 0, 1, 0, 0, 0, 0)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: 'm > 0', keep_firing_for: 3m}]}]")
	f.restored()
	since := func() string {
		a := f.m.Alerts()
		if len(a) != 1 {
			return fmt.Sprint(len(a), " alerts")
		}
		if a[0].KeepFiringSince.IsZero() {
			return "present"
		}
		return "since " + strconv.FormatInt(a[0].KeepFiringSince.Unix(), 10)
	}
	for i, want := range []string{"present", "since 60", "since 60", "present", "since 240", "since 240", "since 240", "0 alerts"} {
		f.evalMinutes(i, i)
		if got := since(); got != want {
			t.Errorf("minute %d: %s, want %s", i, got, want)
		}
	}
}

func TestNotificationsAreResentAndResolvedOnesKept(t *testing.T) {
	f := newFixture(t)
	f.opts.ResendDelay = 2 * minute
	values := make([]float64, 40)
	for i := range 6 {
		values[i] = 1
	}
	f.load1m(`m`, values...)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: 'm > 0'}]}]")
	var sent []string
	for i := range 40 {
		f.evalMinutes(i, i)
		for _, n := range f.notes.take() {
			sent = append(sent, fmt.Sprintf("%d:%d-%d", i, n.StartsAt.Unix(), n.EndsAt.Unix()/60))
			if n.GeneratorURL != "http://tide.example/graph?g0.expr=m+%3E+0&g0.tab=1" {
				t.Errorf("generator %s", n.GeneratorURL)
			}
		}
	}
	// While firing, the end is 4 resend delays ahead; it is resolved at minute 6 and repeated for 15 minutes.
	want := "0:0-8 3:0-11 6:0-6 9:0-6 12:0-6 15:0-6 18:0-6 21:0-6"
	if got := strings.Join(sent, " "); got != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	if n := len(f.group("g").rules[0].alerts.active); n != 0 {
		t.Errorf("%d alerts are kept after the retention of resolved ones", n)
	}
}

func TestEndOfNotificationFollowsTheLongerOfIntervalAndResendDelay(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1)
	f.rules("groups: [{name: g, interval: 10m, rules: [{alert: A, expr: 'm > 0'}]}]")
	f.evalMinutes(0, 0)
	if n := f.notes.take(); len(n) != 1 || !n[0].EndsAt.Equal(at(40*minute)) {
		t.Errorf("sent %v", n)
	}
}

func TestTemplates(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m{i="1"}`, 75)
	f.load1m(`m{i="2"}`, 85)
	f.config.ExternalLabels = labels.FromStrings("cluster", "reef")
	f.rules(`
groups:
- name: g
	rules:
	- alert: A
		expr: m{i="1"}
		labels:
			plain: text
			templated: '{{ $labels.i }}/{{ $value }}/{{ .Value }}'
			empty: '{{ "" }}'
			external: '{{ $externalLabels.cluster }}'
		annotations:
			url: '{{ $externalURL }}'
			query: '{{ range query "sort(m)" }}{{ .Labels.i }}={{ .Value }};{{ end }}'
			bad: '{{ index .NoSuchField 1 }}'
			prefix: '{{ pathPrefix }}'
`)
	f.eval(at(0))
	a := f.m.Alerts()
	if len(a) != 1 {
		t.Fatalf("%d alerts", len(a))
	}
	if got, want := a[0].Labels.String(), `{alertname="A", external="reef", i="1", plain="text", templated="1/75/75"}`; got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
	want := map[string]string{"url": "http://tide.example", "query": "1=75;2=85;", "prefix": ""}
	for name, v := range want {
		if got := a[0].Annotations.Get(name); got != v {
			t.Errorf("annotation %s %q, want %q", name, got, v)
		}
	}
	if got := a[0].Annotations.Get("bad"); !strings.HasPrefix(got, "<error expanding template: ") {
		t.Errorf("annotation of a broken template %q", got)
	}
}

func TestTemplateOfNativeHistogram(t *testing.T) {
	f := newFixture(t)
	h := &histogram.FloatHistogram{
		Count: 3, Sum: 4.5, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1, 2},
	}
	f.store.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: 0, FH: h})
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m, annotations: {v: '{{ $value }}'}}]}]")
	f.eval(at(0))
	if a := f.m.Alerts(); len(a) != 1 || a[0].Annotations.Get("v") != h.String() {
		t.Errorf("alerts %v", a)
	}
}

func TestDuplicateAlertLabelsFailTheRule(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m{i="1"}`, 1)
	f.load1m(`m{i="2"}`, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m, labels: {i: ''}}]}]")
	f.eval(at(0))
	if got := f.m.Groups()[0].Rules[0].LastError; got != ErrDuplicateAlertLabelSet.Error() {
		t.Errorf("error %q", got)
	}
	f.wantAlerts("duplicates", "")
}

func TestAlertLimitDropsAllAlertsOfTheRule(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m{i="1"}`, 1, 1)
	f.load1m(`m{i="2"}`, 0, 1)
	f.rules("groups: [{name: g, limit: 1, rules: [{alert: A, expr: m > 0}]}]")
	f.restored()
	f.eval(at(0))
	f.wantAlerts("within", `firing {alertname="A", i="1"} 1e+00`)
	f.eval(at(minute))
	f.wantAlerts("beyond", ``)
	if got, want := f.m.Groups()[0].Rules[0].LastError, "exceeded limit of 1 with 2 alerts"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestFailedQueryLeavesAlertsAsTheyAre(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 1, 1, 1)
	boom := errors.New("boom")
	var fail bool
	query := f.opts.Query
	f.opts.Query = func(ctx context.Context, expr string, ts time.Time) (promql.Vector, error) {
		if fail {
			return nil, boom
		}
		return query(ctx, expr, ts)
	}
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0, for: 2m}]}]")
	f.restored()
	f.evalMinutes(0, 0)
	fail = true
	f.evalMinutes(1, 1)
	if r := f.m.Groups()[0].Rules[0]; r.Health != HealthBad || r.LastError != "boom" || r.State != StatePending {
		t.Errorf("%s %s %q after a failure", r.State, r.Health, r.LastError)
	}
	fail = false
	f.evalMinutes(2, 2) // `for` goes on through the missing evaluation
	f.wantAlerts("well again", `firing {alertname="A"} 1e+00`)
}

func TestSeriesAreHeldBackUntilRestored(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}]}]")
	f.evalMinutes(0, 1)
	f.wantSeries(`{__name__=~"ALERTS.*"}`, "")
	f.group("g").restoreFromSeries(t.Context(), at(minute))
	f.evalMinutes(2, 2)
	f.wantSeries(`ALERTS`, `{__name__="ALERTS", alertname="A", alertstate="firing"} 120=1`)
	if n := len(f.notes.take()); n != 2 { // at 0 and, for the second time, at 2 minutes
		t.Errorf("%d notifications: they do not wait for restoration", n)
	}
}

func TestAlertsGoOutWhenTheStoreTakesNoWrites(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1)
	f.store.commitErr = &sample.UnavailableError{Condition: "read_only"}
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}]}]")
	f.restored()
	f.eval(at(0))
	if n := len(f.notes.take()); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
	if got := f.m.Groups()[0].Rules[0].LastError; !strings.Contains(got, "read_only") {
		t.Errorf("error %q", got)
	}
}

func TestNotificationsWaitForDurableSamples(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1)
	var order []string
	f.store.durableFn = func(_ context.Context, lsn sample.LSN) error {
		order = append(order, fmt.Sprintf("durable %d, sent %d", lsn, len(f.notes.got)))
		return nil
	}
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}, {alert: B, expr: m > 0}]}]")
	f.restored()
	f.eval(at(0))
	if want := []string{"durable 2, sent 0"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v: one wait for both rules", order, want)
	}
	if n := len(f.notes.take()); n != 2 {
		t.Errorf("%d notifications, want 2", n)
	}
}

func TestAlertsGoOutWhenSyncsFail(t *testing.T) {
	f := newFixture(t)
	f.load1m(`m`, 1)
	f.store.durableFn = func(context.Context, sample.LSN) error { return errors.New("sync failed") }
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0}]}]")
	f.restored()
	f.eval(at(0))
	if n := len(f.notes.take()); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

func TestNoAlertResolvesWhileIngestionIsStopped(t *testing.T) {
	f := newFixture(t)
	stopped := false
	f.opts.IngestionStopped = func() bool { return stopped }
	f.load1m(`m{i="fires"}`, 1, 1, 1, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, 1, 1, 1, 0)
	f.load1m(`m{i="ended"}`, 1, 1, 1, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, 0, 0, 0, 0)
	f.load1m(`m{i="waits"}`, 0, 0, 1, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0, for: 2m}]}]")
	f.restored()
	f.evalMinutes(0, 2)
	const before = `firing {alertname="A", i="ended"} 1e+00
firing {alertname="A", i="fires"} 1e+00
pending {alertname="A", i="waits"} 1e+00`
	f.wantAlerts("before", before)
	stopped = true
	// The samples stay visible for the lookback of 5 minutes: what is still seen goes on as ever.
	f.evalMinutes(3, 12)
	f.wantAlerts("stopped", strings.Replace(before, "pending", "firing", 1))
	f.notes.take()
	stopped = false
	f.evalMinutes(13, 13)
	f.wantAlerts("one sample not back yet", strings.Replace(before, "pending", "firing", 1))
	f.evalMinutes(14, 14)
	f.wantAlerts("all are back but one that ended", strings.Replace(before, "pending", "firing", 1))
	f.evalMinutes(15, 15)
	f.wantAlerts("grace is over", `firing {alertname="A", i="fires"} 1e+00
firing {alertname="A", i="waits"} 1e+00`)
	f.evalMinutes(16, 16)
	f.wantAlerts("seen since: resolves at once", `firing {alertname="A", i="waits"} 1e+00`)
}

func TestPendingAlertThatIsHeldDoesNotFire(t *testing.T) {
	f := newFixture(t)
	stopped := false
	f.opts.IngestionStopped = func() bool { return stopped }
	f.load1m(`m`, 1)
	f.rules("groups: [{name: g, rules: [{alert: A, expr: m > 0, for: 8m}]}]")
	f.restored()
	f.evalMinutes(0, 0)
	stopped = true
	f.evalMinutes(1, 30)
	f.wantAlerts("held", `pending {alertname="A"} 1e+00`)
}
