// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/plan"
)

// newParser understands the whole language.
func newParser() parser.Parser {
	return parser.NewParser(parser.Options{
		EnableExperimentalFunctions: true, ExperimentalDurationExpr: true,
		EnableExtendedRangeSelectors: true, EnableBinopFillModifiers: true,
	})
}

func parse(t *testing.T, text string) parser.Expr {
	t.Helper()
	e, err := newParser().ParseExpr(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

// between are the options of a range query; a step of 0 makes it an instant one.
func between(start, end, step int) plan.Options {
	return plan.Options{
		Start: time.Unix(int64(start), 0), End: time.Unix(int64(end), 0), Interval: time.Duration(step) * time.Second,
		Lookback: 5 * time.Minute, DelayedNameRemoval: true,
	}
}

func newPlan(t *testing.T, text string, o plan.Options) *plan.Plan {
	t.Helper()
	p, err := plan.New(parse(t, text), o)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// asked records what an engine asks a storage.
type asked struct {
	mint, maxt int64
	hints      []string
}

func (a *asked) Querier(mint, maxt int64) (storage.Querier, error) {
	a.mint, a.maxt = mint, maxt
	return recorder{storage.NoopQuerier(), a}, nil
}

type recorder struct {
	storage.Querier
	to *asked
}

func (r recorder) Select(_ context.Context, _ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	r.to.hints = append(r.to.hints, fmt.Sprintf("%v %d..%d/%d [%d] %s by=%t%v", ms, h.Start, h.End, h.Step, h.Range, h.Func, h.By, h.Grouping))
	return storage.EmptySeriesSet()
}

// hintsOf lists the hints of the selectors of a plan in the order in which they stand in the query.
func hintsOf(n plan.Node) []string {
	var found []string
	var walk func(n plan.Node)
	note := func(s *plan.Select) {
		h := s.Hint
		found = append(found, fmt.Sprintf("%v %d..%d/%d [%d] %s by=%t%v", s.Written, h.Start, h.End, h.Step, h.Range, h.Func, h.By, h.Grouping))
	}
	walk = func(n plan.Node) {
		switch n := n.(type) {
		case *plan.Select:
			note(n)
		case *plan.Window:
			note(n.Select)
		case *plan.Stamp:
			note(n.Select)
		case *plan.Call:
			for _, a := range n.Args {
				walk(a)
			}
		case *plan.Aggregate:
			walk(n.Expr)
			if n.Param != nil {
				walk(n.Param)
			}
		default:
			for _, in := range n.Inputs() {
				walk(in)
			}
		}
	}
	walk(n)
	return found
}

func TestSelectorsCarryTheHintsOfPrometheus(t *testing.T) {
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, Parser: newParser(),
		LookbackDelta: 5 * time.Minute, NoStepSubqueryIntervalFn: func(int64) int64 { return 60_000 },
	})
	none, err := plan.Switches{}.Without("all")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`x`, `x offset 1m`, `x offset -1m`, `x @ 100`, `x @ start() offset 10s`, `x @ end()`, `x smoothed`,
		`rate(x[2m])`, `rate(x[2m] anchored)`, `rate(x[2m] smoothed)`, `rate(x[2m] @ 50 offset 5s)`,
		`sum by (b, a) (rate(x[2m]))`, `sum without (a) (x)`, `sum by (a) ((x))`, `max(x) - min(y offset 1h)`,
		`sum_over_time(x[5m:])`, `sum_over_time(x[5m:30s] offset 1m)`, `max_over_time(sum_over_time(x[5m:30s] offset 1m)[1h:] @ 77)`,
		`max_over_time(sum_over_time(x[5m:30s] @ 90 offset 1m)[1h:] offset 3m)`, `max_over_time(rate(x[1m])[1h:] @ end())`,
		`sum_over_time((x @ 10)[5m:30s] offset 1m)`, `quantile(scalar(q), x)`, `topk by (a) (2, rate(x[5m] offset 1m))`,
		`abs(sum(x) + on (a) group_left (b) y)`, `label_replace(rate(x[1m]), "a", "$1", "b", "(.*)")`, `-(x)`, `+x`,
		`timestamp(x)`, `absent(x{a="b"})`, `histogram_quantile(0.9, sum by (le) (rate(x[1m])))`, `1`, `vector(1) + time()`,
		`x[5m] offset 1m`, `sort(x)`, `x[step() + 10s]`,
	} {
		for _, o := range []plan.Options{between(1000, 1000, 0), between(1000, 1600, 60)} {
			o.Switches = none
			expr := parse(t, text)
			if o.Interval != 0 && expr.Type() == parser.ValueTypeMatrix {
				continue
			}
			var want asked
			var q promql.Query
			if o.Interval == 0 {
				q, err = engine.NewInstantQuery(t.Context(), &want, nil, text, o.Start)
			} else {
				q, err = engine.NewRangeQuery(t.Context(), &want, nil, text, o.Start, o.End, o.Interval)
			}
			if err != nil {
				if _, ours := plan.New(expr, o); ours == nil || ours.Error() != err.Error() {
					t.Errorf("%s: refused with %v, want %v", text, ours, err)
				}
				continue
			}
			q.Exec(t.Context())
			p := newPlan(t, text, o)
			if d := cmp.Diff(want.hints, hintsOf(p.Root)); d != "" {
				t.Errorf("%s, step %s: hints (-want +got):\n%s", text, o.Interval, d)
			}
			if mint, maxt := p.TimeRange(); mint != want.mint || maxt != want.maxt {
				t.Errorf("%s, step %s: reads %d..%d, want %d..%d", text, o.Interval, mint, maxt, want.mint, want.maxt)
			}
		}
	}
}

func TestRefusesWhatARangeQueryCannotAnswer(t *testing.T) {
	for text, want := range map[string]string{
		`x[5m]`:        `invalid expression type "range vector" for range query, must be Scalar or instant Vector`,
		`"a"`:          `invalid expression type "string" for range query, must be Scalar or instant Vector`,
		`rate(x[-1m])`: "",
	} {
		expr, err := newParser().ParseExpr(text)
		if err != nil {
			continue // refused earlier
		}
		if _, err := plan.New(expr, between(0, 60, 10)); err == nil || want != "" && err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
