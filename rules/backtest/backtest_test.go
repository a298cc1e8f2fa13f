// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func open(t *testing.T) *tsdb.DB {
	t.Helper()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: t.TempDir(), Sync: journal.Process, MaxFuture: -1, Shards: 1, Scrub: -1, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// write stores values of a series, one every 15 seconds from the start on.
func write(t testing.TB, db *tsdb.DB, n int, ls labels.Labels, value func(i int) float64) {
	t.Helper()
	refs := make([]sample.Ref, 1)
	if err := db.Resolve([]labels.Labels{ls}, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	for i := range n {
		b.AppendFloat(refs[0], 0, start.Add(time.Duration(i)*15*time.Second).UnixMilli(), value(i), 0)
	}
	var r sample.Result
	if _, err := db.Commit(t.Context(), &b, &r); err != nil || r.Floats != n {
		t.Fatalf("%d of %d stored, %v", r.Floats, n, err)
	}
}

// options are those of a backtest of a text over an hour of history.
func options(t *testing.T, db *tsdb.DB, text string) Options {
	t.Helper()
	engine := query.NewEngine(db, query.Options{})
	t.Cleanup(func() { _ = engine.Close() })
	return Options{
		Rules: rules.Config{Files: []string{"rules.yml"}, Read: func(string) ([]byte, error) { return []byte(text), nil }},
		Start: start, End: start.Add(time.Hour), Engine: engine, History: db, Scratch: open(t), Parser: parser.NewParser(parser.Options{}),
	}
}

func backtest(t *testing.T, o Options) *Report {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// show prints the episodes of a rule, times in seconds after the start.
func show(r *Report, name string) string {
	var out []string
	for i := range r.Rules {
		if r.Rules[i].Name != name {
			continue
		}
		for _, e := range r.Rules[i].Episodes {
			at := func(t *time.Time) string {
				if t == nil {
					return "-"
				}
				return t.Sub(start).String()
			}
			out = append(out, fmt.Sprintf("%s pending %s firing %s end %s told %d", e.Labels.Get("instance"), at(&e.Pending), at(e.Firing), at(e.End), e.Notifications))
		}
	}
	return strings.Join(out, "\n")
}

// up is 0 from 10 to 20 minutes, and for a minute from 40 on.
func up(i int) float64 {
	if (i >= 40 && i < 80) || (i >= 160 && i < 164) {
		return 0
	}
	return 1
}

const down = `groups: [{name: g, interval: 1m, rules: [{alert: Down, expr: up == 0, for: 5m, annotations: {summary: "{{ $labels.instance }}"}}]}]`

func TestEpisodesAreThoseOfAServer(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "up", "instance", "a"), up)
	o := options(t, db, down)
	var done []float64
	o.Progress = func(d float64) { done = append(done, d) }
	r := backtest(t, o)
	g := r.Rules[0]
	if g.Evaluations != 60 || g.Failures != 0 || g.Firings != 1 || g.Notifications != 2 || g.Type != "alerting" {
		t.Errorf("%+v", g)
	}
	// Evaluations are where a server has them: at an offset within the minute that hangs on the group's name.
	offset := r.Rules[0].Episodes[0].Pending.Sub(start) % time.Minute
	at := func(minute int) time.Duration { return time.Duration(minute)*time.Minute + offset }
	want := fmt.Sprintf("a pending %s firing %s end %s told 2\na pending %s firing - end %s told 0", at(10), at(15), at(20), at(40), at(41))
	if got := show(r, "Down"); got != want {
		t.Errorf("episodes\n%s\nwant\n%s", got, want)
	}
	if s := g.Episodes[0].Annotations.Get("summary"); s != "a" {
		t.Errorf("annotation %q", s)
	}
	for i, d := range done {
		if d < 0 || d > 1 || (i > 0 && d < done[i-1]) {
			t.Errorf("progress %v", done)
		}
	}
}

func TestAlertsReadWhatRulesOfTheBacktestRecord(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "load", "instance", "a"), func(i int) float64 { return float64(i) })
	// What a server recorded then shall not count.
	write(t, db, 240, labels.FromStrings("__name__", "instance:load", "instance", "a"), func(int) float64 { return 1e9 })
	text := `groups: [{name: g, interval: 15s, rules: [{record: "instance:load", expr: load * FACTOR}, {alert: High, expr: "instance:load > 100"}]}]`
	run := func(factor string) *Report {
		return backtest(t, options(t, db, strings.Replace(text, "FACTOR", factor, 1)))
	}
	one, two := run("1"), run("2")
	if one.Rules[0].Samples != 240 || one.Rules[0].Type != "recording" {
		t.Errorf("%+v", one.Rules[0])
	}
	began := func(r *Report) time.Duration { return r.Rules[1].Episodes[0].Firing.Sub(start).Round(15 * time.Second) }
	if a, b := began(one), began(two); a < 25*time.Minute || a > 26*time.Minute || b < 12*time.Minute || b > 13*time.Minute {
		t.Errorf("fires after %v and %v: it should be some 25 and 13 minutes", a, b)
	}
	d := Diff(one, two)
	if len(d) != 1 || len(d[0].Moved) != 1 || len(d[0].Added)+len(d[0].Gone) != 0 {
		t.Errorf("difference %+v", d)
	}
	if d := Diff(one, one); len(d) != 0 {
		t.Errorf("a difference to itself: %+v", d)
	}
	never := run("0")
	if d := Diff(one, never); len(d) != 1 || len(d[0].Gone) != 1 {
		t.Errorf("difference to one that never fires: %+v", d)
	}
	if d := Diff(never, one); len(d) != 1 || len(d[0].Added) != 1 {
		t.Errorf("difference of one that never fires: %+v", d)
	}
}

// TestAskingAheadChangesNothing compares backtests of random rules over random series, with gaps, with those that ask for
// each evaluation apart.
func TestAskingAheadChangesNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	db := open(t)
	for i := range 8 {
		gone := rnd.IntN(200)
		write(t, db, 100+rnd.IntN(140), labels.FromStrings("__name__", "m", "instance", string(rune('a'+i)), "job", string(rune('x'+i%2))), func(i int) float64 {
			if i > gone && i < gone+30 {
				return 0
			}
			return float64(rnd.IntN(6))
		})
	}
	exprs := []string{
		"m > 4", "rate(m[1m]) > 0.1", "sum by (job) (m) > 12", "m offset 5m == 3", "topk(2, m) > 4", "absent(m{job=\"x\"})", "absent(n)",
		"m{job=\"x\"} == on () group_left () max(m)", "max_over_time(m[2m:30s]) - m > 4", "vector(1)", "m and on (job) (count by (job) (m) > 3)",
		"rec > 4", "last_over_time(m[3m]) == 0", "m @ start() > 2", "m > on () group_left () scalar(rec{instance=\"a\"})", "m / 0", "label_replace(m, \"instance\", \"one\", \"\", \"\")",
	}
	var text strings.Builder
	text.WriteString("groups:\n")
	for g, interval := range []string{"15s", "15s", "1m", "37s"} {
		fmt.Fprintf(&text, "- name: g%d\n  interval: %s\n  rules:\n  - {record: rec, expr: \"m + %d\", labels: {g: g%d}}\n", g, interval, g, g)
		for i := range 6 {
			expr := exprs[rnd.IntN(len(exprs))]
			fmt.Fprintf(&text, "  - {alert: A%d, expr: '%s', for: %ds}\n  - {record: out%d, expr: '%s'}\n", i, expr, rnd.IntN(4)*30, i, expr)
		}
	}
	apart, err := run(t.Context(), options(t, db, text.String()), 0)
	if err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	for _, room := range []int64{maxHeld, 20_000} { // the second has room for few answers
		ahead, err := run(t.Context(), options(t, db, text.String()), room)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(apart, ahead, cmp.Comparer(labels.Equal)); diff != "" {
			t.Errorf("- each apart, + ahead with %d bytes:\n%s\n%s", room, diff, text.String())
		}
	}
	episodes := 0
	for _, r := range apart.Rules {
		episodes += len(r.Episodes)
	}
	if episodes == 0 {
		t.Errorf("no rule ever fired:\n%s", text.String())
	}
}

// TestAnswersThatAreAskedForAheadTakeNoMoreThanTheirRoom has 40 rules of 50 series each.
func TestAnswersThatAreAskedForAheadTakeNoMoreThanTheirRoom(t *testing.T) {
	db := open(t)
	for i := range 50 {
		write(t, db, 240, labels.FromStrings("__name__", "m", "instance", strconv.Itoa(i)), func(i int) float64 { return float64(i) })
	}
	o := options(t, db, "")
	steps := map[string]time.Duration{}
	for i := range 40 {
		steps[fmt.Sprintf("m + %d", i)] = 15 * time.Second
	}
	a := newAsker(o.Engine, nil, o.End, steps)
	a.room = 1 << 20
	defer a.close()
	longest := int64(0)
	for ts := o.Start; !ts.After(o.End); ts = ts.Add(15 * time.Second) {
		for expr := range steps {
			v, err := a.query(t.Context(), expr, ts)
			if err != nil || len(v) != 50 {
				t.Fatalf("%s at %v: %d samples, %v", expr, ts, len(v), err)
			}
		}
		held := int64(0)
		for _, w := range a.windows {
			longest = max(longest, w.ticks)
			if w.query != nil {
				held += sizeOf(w.series)
			}
		}
		if held > a.room+a.room/4 || held != a.held {
			t.Fatalf("%v: %d bytes are held, counted as %d, of %d", ts, held, a.held, a.room)
		}
	}
	if longest < 8 {
		t.Errorf("at most %d evaluations were asked for at once", longest)
	}
}

// TestSeriesThatLeftTheScratchStoreAreMadeAgain has a rule that is evaluated more rarely than idle series stay in a store,
// while others keep its time going.
func TestSeriesThatLeftTheScratchStoreAreMadeAgain(t *testing.T) {
	db := open(t)
	write(t, db, 4*60*48, labels.FromStrings("__name__", "up", "instance", "a"), func(int) float64 { return 1 })
	const text = `groups:
- {name: fast, interval: 1m, rules: [{record: quick, expr: up}, {record: second, expr: quick}]}
- {name: slow, interval: 12h, rules: [{record: slowly, expr: up}]}
- {name: reads, interval: 1m, rules: [{alert: Gone, expr: 'absent_over_time(slowly[12h5m])'}]}
`
	o := options(t, db, text)
	o.End = start.Add(47 * time.Hour)
	o.Scratch = &maintained{DB: o.Scratch.(*tsdb.DB)}
	r := backtest(t, o)
	gone := r.Rules[len(r.Rules)-1]
	if len(gone.Episodes) != 1 || gone.Episodes[0].Pending.Sub(start) > time.Hour { // until the first evaluation of the slow group
		t.Errorf("episodes\n%s", show(r, "Gone"))
	}
}

// maintained is a store that is maintained before every hundredth commit.
type maintained struct {
	*tsdb.DB
	commits int
}

func (m *maintained) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	if m.commits++; m.commits%100 == 0 {
		if err := m.Maintain(ctx); err != nil {
			return 0, err
		}
	}
	return m.DB.Commit(ctx, b, r)
}

func TestWhatABacktestCannotDoIsSaid(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "up", "instance", "a"), up)
	write(t, db, 240, labels.FromStrings("__name__", "up", "instance", "b"), up)
	check := func(what, text, want string) {
		t.Helper()
		r, err := Run(t.Context(), options(t, db, text))
		switch {
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", what, err, want)
		case err == nil && (r.Rules[0].Failures != r.Rules[0].Evaluations || !strings.Contains(r.Rules[0].LastError, want)):
			t.Errorf("%s: %+v, want failures with %q", what, r.Rules[0], want)
		}
	}
	check("no yaml", "groups: 1", "rules.yml")
	check("no query", "groups: [{name: g, rules: [{record: a, expr: 'sum('}]}]", "parse error")
	check("a selector without a name", "groups: [{name: g, rules: [{record: a, expr: 'count({instance=\"a\"})'}]}]", "name the metric")
	check("duplicates", "groups: [{name: g, rules: [{record: a, expr: up, labels: {instance: c}}]}]", "same labelset")
	o := options(t, db, down)
	o.End = o.Start
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not after") {
		t.Errorf("an end at the start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, options(t, db, down)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestEpisodesAboveTheLimitAreCounted(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "up", "instance", "a"), func(i int) float64 { return float64(i / 8 % 2) })
	o := options(t, db, `groups: [{name: g, interval: 1m, rules: [{alert: Down, expr: up == 0}]}]`)
	o.MaxEpisodes = 3
	r := backtest(t, o).Rules[0]
	if len(r.Episodes) != 3 || r.LeftOut < 10 || r.Firings != 3+r.LeftOut {
		t.Errorf("%d episodes, %d left out, %d firings", len(r.Episodes), r.LeftOut, r.Firings)
	}
}
