// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// door is a source of which selecting the metric "closed" waits until the door opens or the query ends, and reading
// the metric "broken" is a mistake.
type door struct {
	*columntest.Store

	opened  chan struct{}
	waiting chan struct{} // gets one for each query that waits
}

func newDoor() *door {
	d := &door{Store: &columntest.Store{}, opened: make(chan struct{}), waiting: make(chan struct{}, 100)}
	for _, name := range []string{"m", "closed", "broken"} {
		for i, job := range []string{"a", "b"} {
			for at := range int64(40) {
				d.Append(labels.FromStrings("__name__", name, "job", job), columntest.Sample{T: at * 15_000, V: float64(i + 1)})
			}
		}
	}
	return d
}

func (d *door) View(mint, maxt int64) (column.View, error) {
	v, err := d.Store.View(mint, maxt)
	return doorView{v, d}, err
}

type doorView struct {
	column.View
	door *door
}

func (v doorView) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	for _, m := range ms {
		if m.Name == labels.MetricName && m.Value == "closed" {
			v.door.waiting <- struct{}{}
			select {
			case <-v.door.opened:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return v.View.Series(ctx, ms, h)
}

func (v doorView) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	var b labels.ScratchBuilder
	if s.Labels(ids[0], &b).Get(labels.MetricName) == "broken" {
		_ = ids[len(ids)] // out of range
	}
	return v.View.Scan(ctx, s, ids, n, dst)
}

var doorEnd = time.UnixMilli(39 * 15_000)

// begin starts a query and returns what will be its result. ready is called when the query is made.
func begin(t *testing.T, e *query.Engine, text string) (promql.Query, <-chan *promql.Result) {
	t.Helper()
	q, err := e.NewInstantQuery(t.Context(), nil, nil, text, doorEnd)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan *promql.Result, 1)
	go func() {
		r := q.Exec(promql.NewOriginContext(context.Background(), map[string]any{"asked": "by a test"}))
		q.Close()
		out <- r
	}()
	return q, out
}

// eventually waits until is says so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 500 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

func TestActiveListsWhatRunsAndWhatWaits(t *testing.T) {
	d := newDoor()
	e := newEngine(t, d, query.Options{MaxConcurrency: 1, Memory: budget.NewRoot("test", 0)})
	_, first := begin(t, e, "topk(1, m) + on (job) closed")
	<-d.waiting
	_, second := begin(t, e, "m * 2")
	eventually(t, "two queries", func() bool { return len(e.Active()) == 2 })
	active := e.Active()
	run, wait := active[0], active[1]
	if !run.Running || run.Query != "topk(1, m) + on (job) closed" || run.Memory <= 0 || run.Peak < run.Memory || run.Rules {
		t.Errorf("the first is %+v", run)
	}
	if run.Start != doorEnd || run.End != doorEnd || run.Step != 0 || run.Origin["asked"] != "by a test" || time.Since(run.Since) > time.Minute {
		t.Errorf("the first is %+v", run)
	}
	if wait.Running || wait.Query != "m * 2" || wait.Memory != 0 || wait.ID <= run.ID {
		t.Errorf("the second is %+v", wait)
	}
	close(d.opened)
	for _, c := range []<-chan *promql.Result{first, second} {
		if r := <-c; r.Err != nil {
			t.Error(r.Err)
		}
	}
	if left := e.Active(); len(left) > 0 {
		t.Errorf("after the end: %+v", left)
	}
}

func TestCancelEndsWhatRunsAndWhatWaits(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	d := newDoor()
	memory := budget.NewRoot("test", 0)
	e := newEngine(t, d, query.Options{MaxConcurrency: 1, Memory: memory})
	_, first := begin(t, e, "topk(1, m) + on (job) closed")
	<-d.waiting
	_, second := begin(t, e, "m")
	third, last := begin(t, e, "m + m")
	eventually(t, "three queries", func() bool { return len(e.Active()) == 3 })
	for _, a := range e.Active() {
		if a.Query == "m" && !e.Cancel(a.ID) {
			t.Error("a query that waits was not found")
		}
	}
	if r := <-second; !errors.Is(r.Err, query.ErrCanceled) {
		t.Errorf("what waited: %v", r.Err)
	}
	third.Cancel()
	if r := <-last; !errors.As(r.Err, new(promql.ErrQueryCanceled)) && !errors.Is(r.Err, context.Canceled) {
		t.Errorf("what was canceled by its caller while it waited: %v", r.Err)
	}
	if !e.Cancel(e.Active()[0].ID) {
		t.Error("a query that runs was not found")
	}
	if r := <-first; !errors.Is(r.Err, query.ErrCanceled) {
		t.Errorf("what ran: %v", r.Err)
	}
	own, result := begin(t, e, "closed")
	<-d.waiting
	own.Cancel()
	if r := <-result; !errors.As(r.Err, new(promql.ErrQueryCanceled)) {
		t.Errorf("what was canceled by its caller: %v", r.Err)
	}
	if e.Cancel(1) || e.Cancel(0) || e.Cancel(1<<60) {
		t.Error("a query that is none was canceled")
	}
	own.Cancel() // once more, when all is over
	if memory.Used() != 0 || d.OpenViews() != 0 {
		t.Errorf("%d bytes are charged, %d views are open", memory.Used(), d.OpenViews())
	}
}

func TestWhatWaitsTooLongTimesOut(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		d := newDoor()
		e := newEngine(t, d, query.Options{MaxConcurrency: 1, Timeout: 300 * time.Millisecond, ActiveQueryDir: dir})
		_, first := begin(t, e, "closed")
		<-d.waiting
		q, err := e.NewInstantQuery(t.Context(), nil, nil, "m", doorEnd)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // shorter than the engine's
		if r := q.Exec(ctx); !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("a query in the queue: %v, want a timeout", r.Err)
		}
		cancel()
		q.Close()
		if r := <-first; !errors.As(r.Err, new(promql.ErrQueryTimeout)) {
			t.Errorf("a query that runs: %v, want a timeout", r.Err)
		}
		if n := d.OpenViews(); n > 0 {
			t.Errorf("%d views are open", n)
		}
	}
}

// A crash leaves behind what ran, queries of rules among it.
func TestQueriesAreNotedWhileTheyRun(t *testing.T) {
	d, dir := newDoor(), t.TempDir()
	e := newEngine(t, d, query.Options{MaxConcurrency: 1, ActiveQueryDir: dir})
	noted := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "queries.active"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	rules := e.ForRules(nil)
	_, first := begin(t, e, "closed * 1")
	<-d.waiting
	_, second := begin(t, rules, "closed * 2")
	<-d.waiting
	_, third := begin(t, e.ForRules(nil), "closed * 3") // there is no line for it
	<-d.waiting
	_, waits := begin(t, rules, "closed * 4")
	eventually(t, "four queries", func() bool { return len(e.Active()) == 4 })
	if text := noted(); !strings.Contains(text, "closed * 1") || !strings.Contains(text, "closed * 2") || strings.Contains(text, "closed * 4") {
		t.Errorf("noted is %s", strings.ReplaceAll(text, "\x00", ""))
	}
	close(d.opened)
	for _, done := range []<-chan *promql.Result{first, second, third, waits} {
		if r := <-done; r.Err != nil {
			t.Error(r.Err)
		}
	}
	if text := noted(); strings.Contains(text, "closed") {
		t.Errorf("after their end noted is %s", strings.ReplaceAll(text, "\x00", ""))
	}
}

// Whoever closes the engine does not wait for its queries.
func TestAQueryMayEndAfterItsEngineIsClosed(t *testing.T) {
	d := newDoor()
	e := query.NewEngine(d, query.Options{ActiveQueryDir: t.TempDir()})
	_, done := begin(t, e, "closed")
	<-d.waiting
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	close(d.opened)
	if r := <-done; r.Err != nil {
		t.Error(r.Err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestRulesNeitherWaitForQueriesNorLackMemory(t *testing.T) {
	d := newDoor()
	memory := budget.NewRoot("process", 10<<20)
	reserve, err := memory.Guarantee("rules", 1<<20, 0)
	if err != nil {
		t.Fatal(err)
	}
	queries := memory.Child("queries", 0)
	e := newEngine(t, d, query.Options{MaxConcurrency: 1, Memory: queries})
	rules := e.ForRules(reserve)
	_, first := begin(t, e, "closed")
	<-d.waiting
	_, second := begin(t, e, "m")
	eventually(t, "two queries", func() bool { return len(e.Active()) == 2 })
	all := memory.Limit() - memory.Used()
	if err := queries.Reserve(all); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, rules, nil, "sum by (job) (rate(m[5m]))"); r.Err != nil {
		t.Errorf("a rule beside queries that took all memory and places: %v", r.Err)
	}
	// A rule waits at its own gate, and is listed as one.
	_, rule := begin(t, rules, "closed")
	<-d.waiting
	listed := false
	for _, a := range e.Active() {
		listed = listed || a.Rules && a.Running && a.Query == "closed"
	}
	if !listed {
		t.Errorf("the rule is not listed: %+v", e.Active())
	}
	close(d.opened)
	var refused *budget.ExceededError
	if r := <-second; !errors.As(r.Err, &refused) || !strings.Contains(r.Err.Error(), "memory.per_query") {
		t.Errorf("a query without memory: %v", r.Err)
	}
	<-first
	if r := <-rule; r.Err != nil {
		t.Error(r.Err)
	}
	queries.Release(all)
	if reserve.Used() != 0 || queries.Used() != 0 {
		t.Errorf("%d and %d bytes are charged", reserve.Used(), queries.Used())
	}
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logLines) WithGroup(string) slog.Handler            { return l }
func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.Key + "=" + a.Value.String()
		return true
	})
	l.lines = append(l.lines, line)
	return nil
}

// with returns the lines that have all of some parts.
func (l *logLines) with(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for _, line := range l.lines {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

func TestAMistakeOfTheEngineEndsOneQueryAndIsLoggedWithIt(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	d, log, memory := newDoor(), &logLines{}, budget.NewRoot("test", 0)
	e := newEngine(t, d, query.Options{Logger: slog.New(log), Memory: memory, MaxConcurrency: 1})
	for _, text := range []string{"broken", "sum(broken)", "rate(broken[5m])", "m + on (job) broken", "topk(1, broken)", "sort(broken)", "max_over_time(broken[5m:15s])", "broken[5m]", "absent(broken)", "scalar(broken)"} {
		r := ask(t, e, nil, text)
		if r.Err == nil || !strings.HasPrefix(r.Err.Error(), "unexpected error: ") || r.Value != nil {
			t.Errorf("%s: %v, %v", text, r.Value, r.Err)
		}
		if n := len(log.with("ERROR", "query="+text+" ", "stack=", "out of range")); n != 1 {
			t.Errorf("%s: %d lines in the log", text, n)
		}
		if memory.Used() != 0 || d.OpenViews() != 0 {
			t.Errorf("%s: %d bytes are charged, %d views are open", text, memory.Used(), d.OpenViews())
		}
	}
	if r := ask(t, e, nil, "m"); r.Err != nil {
		t.Errorf("the next query: %v", r.Err)
	}
	if r := ask(t, newEngine(t, trapdoor{}, query.Options{}), nil, "m"); r.Err == nil || r.Err.Error() != "trapdoor" {
		t.Errorf("a source that panics: %v", r.Err)
	}
}

// trapdoor is a source without views.
type trapdoor struct{}

func (trapdoor) View(int64, int64) (column.View, error) { panic("trapdoor") }

func TestSlowQueriesAreLogged(t *testing.T) {
	d, log := newDoor(), &logLines{}
	limit := time.Hour
	e := newEngine(t, d, query.Options{Logger: slog.New(log), SlowLog: func() time.Duration { return limit }, Registerer: prometheus.NewRegistry()})
	ask(t, e, nil, "m")
	if got := log.with("slow query"); len(got) > 0 {
		t.Errorf("logged %q", got)
	}
	limit = time.Nanosecond // it may change while the server runs
	ask(t, e, nil, "m + 1")
	ask(t, e, nil, "m + on () m")
	if got := log.with("WARN slow query query=m + 1 duration=", "samples_read=2", "peak_memory_bytes=", "rules=false", "step=0s"); len(got) != 1 {
		t.Errorf("logged %q", log.lines)
	}
	if got := log.with("slow query", "err=found duplicate series"); len(got) != 1 {
		t.Errorf("logged %q", log.lines)
	}
}

func TestMetricsCountQueriesAndRefusals(t *testing.T) {
	reg := prometheus.NewRegistry()
	d := newDoor()
	e := newEngine(t, d, query.Options{Registerer: reg, MaxConcurrency: 3, PerQuery: 64 << 10, MaxSamples: 50, Timeout: 50 * time.Millisecond, Memory: budget.NewRoot("test", 0)})
	ask(t, e, nil, "1")
	_, slow := begin(t, e, "closed")
	<-d.waiting
	current := `
# HELP prometheus_engine_queries Queries being executed or waiting.
# TYPE prometheus_engine_queries gauge
prometheus_engine_queries 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(current), "prometheus_engine_queries"); err != nil {
		t.Error(err)
	}
	<-slow
	ask(t, e, nil, "m[10y] @ 600")
	q, err := e.NewRangeQuery(t.Context(), nil, nil, "m", time.Unix(0, 0), time.Unix(10_000, 0), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	q.Exec(t.Context())
	q.Close()
	want := `
# HELP prometheus_engine_queries Queries being executed or waiting.
# TYPE prometheus_engine_queries gauge
prometheus_engine_queries 0
# HELP prometheus_engine_queries_concurrent_max How many queries run at once at most.
# TYPE prometheus_engine_queries_concurrent_max gauge
prometheus_engine_queries_concurrent_max 3
# HELP tidemark_query_refused_total Queries that ended because they reached a limit.
# TYPE tidemark_query_refused_total counter
tidemark_query_refused_total{limit="memory"} 1
tidemark_query_refused_total{limit="samples"} 1
tidemark_query_refused_total{limit="timeout"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "prometheus_engine_queries", "prometheus_engine_queries_concurrent_max", "tidemark_query_refused_total"); err != nil {
		t.Error(err)
	}
}

// failing is a sink that fails at a call.
type failing struct {
	calls, at int
	err       error
}

func (s *failing) call() error {
	if s.calls++; s.calls == s.at {
		return s.err
	}
	return nil
}
func (s *failing) Begin(parser.ValueType) error { return s.call() }
func (s *failing) Row(*exec.Row) error          { return s.call() }
func (s *failing) Scalar(int64, float64) error  { return s.call() }
func (s *failing) Text(int64, string) error     { return s.call() }

func TestASinkThatFailsEndsTheQuery(t *testing.T) {
	d, memory := newDoor(), budget.NewRoot("test", 0)
	e := newEngine(t, d, query.Options{Memory: memory, ResultCache: 0})
	for _, text := range []string{"m", "sort(m)", "sum by (job) (m)", "m[1m]", "1", `"text"`} {
		for at := 1; at <= 3; at++ {
			pq, err := e.NewInstantQuery(t.Context(), nil, nil, text, doorEnd)
			if err != nil {
				t.Fatal(err)
			}
			q, _ := pq.(*query.Query)
			sink := &failing{at: at, err: errors.New("the client is gone")}
			_, err = q.Stream(t.Context(), sink)
			if sink.calls >= at && !errors.Is(err, sink.err) || sink.calls < at && err != nil {
				t.Errorf("%s: %d calls, %v", text, sink.calls, err)
			}
			if sink.calls > at {
				t.Errorf("%s: the sink was called after it failed", text)
			}
			if memory.Used() != 0 || d.OpenViews() != 0 {
				t.Errorf("%s: %d bytes are charged, %d views are open", text, memory.Used(), d.OpenViews())
			}
			q.Close()
			q.Close()
		}
	}
}

func TestAQueryIsExplainedBeforeAndAfterItRuns(t *testing.T) {
	d := newDoor()
	e := newEngine(t, d, query.Options{})
	pq, err := e.NewInstantQuery(t.Context(), nil, nil, "sum by (job) (rate(m[5m]))", doorEnd)
	if err != nil {
		t.Fatal(err)
	}
	q, _ := pq.(*query.Query)
	before, err := q.Explain()
	if err != nil || !strings.Contains(before.String(), "rate(m[5m])") || d.OpenViews() != 0 {
		t.Fatalf("before: %v, %v, %d views", before, err, d.OpenViews())
	}
	if strings.Contains(before.String(), "samples 4") {
		t.Errorf("before it ran: %s", before)
	}
	q.Analyze()
	if r := q.Exec(t.Context()); r.Err != nil {
		t.Fatal(r.Err)
	}
	after, err := q.Explain()
	if err != nil || len(after.String()) <= len(before.String()) {
		t.Errorf("after: %v, %v", after, err)
	}
	q.Close()
}

func TestTheMemoryOfAnAnswerIsChargedUntilItIsClosed(t *testing.T) {
	memory := budget.NewRoot("test", 0)
	e := newEngine(t, newDoor(), query.Options{Memory: memory})
	q, err := e.NewInstantQuery(t.Context(), nil, nil, "m[10m]", doorEnd)
	if err != nil {
		t.Fatal(err)
	}
	if r := q.Exec(t.Context()); r.Err != nil || len(r.Value.(promql.Matrix)) != 2 {
		t.Fatal(r)
	}
	if memory.Used() < 2*40*16 {
		t.Errorf("%d bytes are charged for an answer of 80 samples", memory.Used())
	}
	q.Close()
	q.Close()
	if memory.Used() != 0 {
		t.Errorf("%d bytes are charged after Close", memory.Used())
	}
}

func TestAQueryThatIsRunTwiceAnswersTwiceAndHoldsNothingAfterwards(t *testing.T) {
	memory := budget.NewRoot("test", 0)
	e := newEngine(t, newDoor(), query.Options{Memory: memory})
	for _, text := range []string{"m", "m[10m]", "sum by (job) (rate(m[5m])) + on (job) m", "m - m", "topk(1, m)", "1 + 1", "count_values('v', m or m)"} {
		for _, ranged := range []bool{false, true} {
			q, err := e.NewInstantQuery(t.Context(), nil, nil, text, doorEnd)
			if ranged {
				q, err = e.NewRangeQuery(t.Context(), nil, nil, text, doorEnd.Add(-2*time.Minute), doorEnd, 15*time.Second)
			}
			if err != nil {
				continue // a range vector
			}
			first := q.Exec(t.Context())
			want := fmt.Sprint(first)
			second := q.Exec(t.Context())
			if got := fmt.Sprint(second); got != want || first.Err != nil {
				t.Errorf("%s: the second answer is %s\n the first %s", text, got, want)
			}
			if still := fmt.Sprint(first); still != want {
				t.Errorf("%s: after the second run the first answer is %s\n it was %s", text, still, want)
			}
			q.Close()
			if memory.Used() != 0 {
				t.Errorf("%s: %d bytes are charged after Close", text, memory.Used())
			}
		}
	}
}

func TestAQueryThatFailedCanBeLookedAt(t *testing.T) {
	store := newDoor()
	store.ScanErr = errors.New("bad checksum")
	e := newEngine(t, store, query.Options{})
	q, err := e.NewInstantQuery(t.Context(), nil, nil, "m", doorEnd)
	if err != nil {
		t.Fatal(err)
	}
	q.Cancel() // before it runs
	if r := q.Exec(t.Context()); !errors.Is(r.Err, store.ScanErr) {
		t.Errorf("error %v", r.Err)
	}
	if q.String() != "m" || q.Statement() == nil || q.Stats() == nil {
		t.Error("a query that failed has no text, statement or statistics")
	}
	if x, err := q.(*query.Query).Explain(); err != nil || x == nil {
		t.Errorf("explained as %v, %v", x, err)
	}
	q.Close()
	q.Cancel()
}
