// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ready returns a range query over counters(200), and the account that it is charged to.
func ready(t *testing.T, text string, limit int64, o exec.Options, change func(*operator.Env)) (*exec.Query, *budget.Account) {
	t.Helper()
	e := newEngine(t)
	expr, err := e.parser.ParseExpr(text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(expr, plan.Options{
		Start: time.Unix(600, 0), End: time.Unix(3000, 0), Interval: 15 * time.Second, Lookback: 5 * time.Minute, Explain: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	src, ok := counters(200).(column.Source)
	if !ok {
		t.Fatal("not a source")
	}
	view, err := src.View(p.TimeRange())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = view.Close() })
	account := budget.NewRoot("query", limit)
	env := &operator.Env{
		View: view, Dict: vector.NewDict(), Account: account, Samples: operator.NewSamplesum(50_000_000, 0),
		Options: operator.Options{LookbackDelta: 300_000}, Workers: operator.NewWorkers(2),
	}
	if change != nil {
		change(env)
	}
	q, err := exec.New(env, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return q, account
}

// queries exercise every sort of operator.
var queries = []string{
	`c_total`, `sum by (group) (rate(c_total[5m]))`, `c_total / on (id) group_left c_total`, `topk(3, c_total)`,
	`max_over_time(rate(c_total[2m])[10m:1m])`, `label_replace(c_total, "a", "$1", "id", "(.*)")`, `c_total or vector(1)`,
	`count_values("v", c_total % 7)`, `quantile(scalar(sum(c_total)) % 1, c_total)`, `sum(c_total) / count(c_total) + c_total`,
	`absent(c_total)`, `histogram_quantile(0.9, label_replace(c_total, "le", "$1", "id", "(.*)"))`, `-c_total > 3`,
	`sum(c_total @ 1000)`, `timestamp(c_total)`, `sort(c_total)`, `info(c_total)`,
}

func TestQueriesGiveBackWhatTheyHeldHoweverTheyEnd(t *testing.T) {
	for _, text := range queries {
		for _, limit := range []int64{0, 1 << 10, 10 << 10, 40 << 10, 100 << 10, 200 << 10, 400 << 10} {
			q, account := ready(t, text, limit, exec.Options{}, nil)
			_, _, err := q.Result(t.Context())
			var full *budget.ExceededError
			if err != nil && !errors.As(err, &full) {
				t.Errorf("%s with %d bytes: %v", text, limit, err)
			}
			if limit == 0 && err != nil || limit == 1<<10 && err == nil {
				t.Errorf("%s with %d bytes: %v", text, limit, err)
			}
			q.Close()
			if n := account.Used(); n != 0 {
				t.Errorf("%s with %d bytes: %d bytes are still charged", text, limit, n)
			}
		}
	}
}

// failing is a sink that fails, or does something else, after some rows.
type failing struct {
	after int
	do    func() error
}

func (*failing) Begin(parser.ValueType) error { return nil }
func (f *failing) Row(*exec.Row) error {
	if f.after--; f.after < 0 {
		return f.do()
	}
	return nil
}
func (*failing) Scalar(int64, float64) error { return nil }
func (*failing) Text(int64, string) error    { return nil }

func TestQueriesEndWithTheErrorOfTheSink(t *testing.T) {
	want := errors.New("the client went away")
	q, account := ready(t, `c_total`, 0, exec.Options{}, nil)
	_, err := q.Stream(t.Context(), &failing{after: 50, do: func() error { return want }})
	if !errors.Is(err, want) || account.Used() != 0 {
		t.Errorf("got %v and %d bytes, want %v and none", err, account.Used(), want)
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	q, account := ready(t, `c_total`, 0, exec.Options{}, nil)
	_, err := q.Stream(t.Context(), &failing{after: 50, do: func() error { panic("oops") }})
	var p *operator.PanicError
	if !errors.As(err, &p) || err.Error() != "oops" || len(p.Stack) == 0 || account.Used() != 0 {
		t.Errorf("got %v and %d bytes, want the panic and none", err, account.Used())
	}
}

func TestCanceledQueriesEndWithPrometheusErrors(t *testing.T) {
	for _, text := range queries {
		ctx, cancel := context.WithCancel(t.Context())
		q, account := ready(t, text, 0, exec.Options{}, nil)
		cancel()
		_, _, err := q.Result(ctx)
		if want := promql.ErrQueryCanceled("expression evaluation"); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
		q.Close()
		if n := account.Used(); n != 0 {
			t.Errorf("%s: %d bytes are still charged", text, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	q, _ := ready(t, `c_total`, 0, exec.Options{}, nil)
	_, err := q.Stream(ctx, &failing{after: 10, do: func() error { cancel(); return nil }})
	if want := promql.ErrQueryCanceled("expression evaluation"); !errors.Is(err, want) {
		t.Errorf("canceled on the way: got %v, want %v", err, want)
	}
}

// rows collects what a sink is told.
type rows struct {
	failing
	kind   parser.ValueType
	labels []labels.Labels
	points int
}

func (r *rows) Begin(t parser.ValueType) error { r.kind = t; return nil }

func (r *rows) Row(row *exec.Row) error {
	r.labels = append(r.labels, row.Labels)
	for _, k := range row.K {
		if k != vector.Absent {
			r.points++
		}
	}
	return nil
}

func TestStreamedRowsComeInTheOrderOfLabels(t *testing.T) {
	for _, text := range []string{`c_total`, `sum by (id) (c_total)`, `label_replace(c_total, "a", "${1}x", "id", "(.).*")`, `topk(2, c_total) or -c_total`} {
		q, _ := ready(t, text, 0, exec.Options{}, nil)
		var got rows
		if _, err := q.Stream(t.Context(), &got); err != nil {
			t.Fatal(err)
		}
		if got.kind != parser.ValueTypeMatrix || len(got.labels) < 200 || got.points < len(got.labels) {
			t.Errorf("%s: %s of %d rows, %d points", text, got.kind, len(got.labels), got.points)
		}
		for i := range got.labels[1:] {
			if labels.Compare(got.labels[i], got.labels[i+1]) >= 0 {
				t.Errorf("%s: %s before %s", text, got.labels[i], got.labels[i+1])
			}
		}
	}
}

func TestWorkOfTheOperatorsAddsUpToTheTotals(t *testing.T) {
	for _, text := range append(queries, `sum(rate(c_total[5m])) / count(rate(c_total[5m])) + c_total + c_total`) {
		q, account := ready(t, text, 0, exec.Options{Analyze: true}, nil)
		began := time.Now()
		if _, _, err := q.Result(t.Context()); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		took := time.Since(began)
		x := q.Explain()
		var sum exec.Work
		x.Plan.Walk(func(o *exec.Operator) {
			if o.Work == nil {
				return
			}
			sum.Own += o.Work.Own
			sum.Samples += o.Work.Samples
			sum.Bytes += o.Work.Bytes
			sum.Rows += o.Work.Rows
		})
		if sum.Own != x.Totals.Own || sum.Samples != x.Totals.Samples || sum.Bytes != x.Totals.Bytes || sum.Rows != x.Totals.Rows {
			t.Errorf("%s: operators add up to %+v, total is %+v", text, sum, *x.Totals)
		}
		if x.Plan.Work.Total != x.Totals.Own {
			t.Errorf("%s: %d ns at the top, %d ns in total", text, x.Plan.Work.Total, x.Totals.Own)
		}
		if x.Totals.Own <= 0 || x.Totals.Own > 3*int64(took) {
			t.Errorf("%s: %d ns of work in %s", text, x.Totals.Own, took)
		}
		if x.Totals.Samples < 200*10 || x.Totals.Bytes != 16*x.Totals.Samples || x.Totals.Peak != account.Peak() {
			t.Errorf("%s: %+v", text, *x.Totals)
		}
		q.Close()
	}
}

// Without other goroutines time is what the clock says.
func TestWorkTakesTheTimeOfTheQuery(t *testing.T) {
	q, _ := ready(t, `sum by (group) (rate(c_total[5m])) / 2`, 0, exec.Options{Analyze: true}, func(e *operator.Env) { e.Workers = nil })
	began := time.Now()
	if _, _, err := q.Result(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := int64(time.Since(began))
	if got := q.Explain().Totals.Own; got > took || got < took*8/10 {
		t.Errorf("operators worked for %d ns, the query took %d", got, took)
	}
}

func TestExplanationNamesOperatorsPassesAndWork(t *testing.T) {
	text := `sum(c_total{group=~"1"}) / count(c_total{group=~"1"}) > 1 + 1`
	q, _ := ready(t, text, 0, exec.Options{Analyze: true}, nil)
	plain := q.Explain().String()
	for _, want := range []string{
		"pass constants:", "pass share:", "answer: ", "  > with a scalar: ", "join /: ", "sum, fed with others: ",
		"[1] shared: ", `select: c_total{group="1"}`,
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("%q is missing in\n%s", want, plain)
		}
	}
	if _, _, err := q.Result(t.Context()); err != nil {
		t.Fatal(err)
	}
	x := q.Explain()
	if got := x.String(); !strings.Contains(got, "20 rows, 3220 cells") || !strings.Contains(got, "samples decoded") {
		t.Errorf("no work in\n%s", got)
	}
	encoded, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"passes":[{"pass":"constants"`, `"operator":"select"`, `"cpuOwn":`, `"totals":{`} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("%s is missing in %s", want, encoded)
		}
	}
}

func TestQueriesAreExplainedWithoutAView(t *testing.T) {
	for _, text := range queries {
		e := newEngine(t)
		expr, err := e.parser.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		p, err := plan.New(expr, plan.Options{Start: time.Unix(0, 0), End: time.Unix(60, 0), Interval: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		q, err := exec.New(&operator.Env{Dict: vector.NewDict()}, p, exec.Options{Analyze: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Explain().String(); !strings.Contains(got, "answer") {
			t.Errorf("%s: got %s", text, got)
		}
	}
}

func ExampleQuery_Explain() {
	expr, _ := parser.NewParser(parser.Options{}).ParseExpr(`sum by (job) (rate(http_requests_total[5m])) > 10 * 10`)
	p, _ := plan.New(expr, plan.Options{Start: time.Unix(0, 0), End: time.Unix(60, 0), Interval: time.Second, Explain: true})
	q, _ := exec.New(&operator.Env{Dict: vector.NewDict()}, p, exec.Options{})
	fmt.Print(q.Explain())
	// Output:
	// sum by (job) (rate(http_requests_total[5m])) > 10 * 10
	// pass constants:
	//   sum by (job) (rate(http_requests_total[5m])) > (10 * 10)
	//   sum by (job) (rate(http_requests_total[5m])) > 100
	// pass propagate-matchers: not applied, the statistics of the query would tell
	// pass share: not applied, there is one selector at most
	// pass subsets: not applied, the statistics of the query would tell
	// pass multi-aggregation: not applied, nothing is shared
	// pass narrow-joins: not applied, the statistics of the query would tell
	// answer: sum by (job) (rate(http_requests_total[5m])) > 10 * 10 (0..60000/1000)
	//   > with a scalar: sum by (job) (rate(http_requests_total[5m])) > 100 (0..60000/1000)
	//     sum: sum by (job) (rate(http_requests_total[5m])) (0..60000/1000)
	//       rate: rate(http_requests_total[5m]) (0..60000/1000)
	//         select window: http_requests_total[5m] (0..60000/1000)
	//     number: 100 (0..60000/1000)
}
