// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// source makes random data and queries.
type source struct {
	*rand.Rand
	// mixed: there are floats and histograms, and no query makes series the same. Prometheus can merge a float and a
	// histogram of one time into one series; which of the two counts then depends on who reads it.
	mixed bool
}

func pick[T any](r source, xs ...T) T { return xs[r.IntN(len(xs))] }

func (r source) number() float64 {
	switch r.IntN(8) {
	case 0:
		return pick(r, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0)
	case 1:
		return pick(r, 1e300, -1e300, 5e-324, 1e-310, math.MaxFloat64)
	case 2, 3:
		return float64(r.IntN(11) - 5)
	case 4:
		return float64(r.Int64N(4e9) - 1e9)
	default:
		return r.NormFloat64() * 10
	}
}

func (r source) histogram() *histogram.FloatHistogram {
	var h *histogram.FloatHistogram
	if r.IntN(3) == 0 {
		h = tsdbutil.GenerateTestCustomBucketsFloatHistogram(r.Int64N(10))
	} else {
		h = tsdbutil.GenerateTestFloatHistogram(r.Int64N(10))
	}
	h.CounterResetHint = histogram.GaugeType // others the storage decides on
	return h
}

// data makes up to 12 series on a grid.
func (r *source) data() *data {
	d := &data{grid: vector.Grid{Start: r.Int64N(3e12) - 1e12, Step: 1 + r.Int64N(1e7), N: pick(*r, 1, 1, 2, 5, 40)}}
	d.grid.Step = max(d.grid.Step, 2)
	// Of 16 samples so many are floats and histograms.
	floats, histograms := pick(*r, 16, 12, 10, 3), 0
	if floats < 16 {
		histograms = pick(*r, 0, 4, 6)
	} else if r.IntN(8) == 0 {
		floats, histograms = 0, 12
	}
	r.mixed = floats > 0 && histograms > 0
	seen := map[string]bool{}
	for range 1 + r.IntN(12) {
		m := map[string]string{
			"__name__": pick(*r, "m", "m", "n"), "a": pick(*r, "", "x1", "x10", "x2", "y"), "b": pick(*r, "", "1", "2", "01"),
		}
		if !r.mixed {
			m["__type__"], m["__unit__"] = pick(*r, "", "", "gauge"), pick(*r, "", "", "bytes")
		}
		ls := labels.FromMap(m).WithoutEmpty()
		if seen[ls.String()] {
			continue
		}
		seen[ls.String()] = true
		d.rows = append(d.rows, r.series(ls, d.grid.N, floats, histograms))
	}
	sortRows(d.rows)
	return d
}

func (r source) series(ls labels.Labels, n, floats, histograms int) operatortest.Series {
	s := operatortest.Series{Labels: ls, V: make([]float64, n), K: make([]vector.Kind, n)}
	// Some series end where others begin, so that they can be merged.
	from, to := 0, n
	switch r.IntN(4) {
	case 0:
		to = n / 2
	case 1:
		from = n / 2
	}
	for j := from; j < to; j++ {
		switch x := r.IntN(16); {
		case x < floats:
			s.V[j], s.K[j] = r.number(), vector.Float
		case x < floats+histograms:
			if s.H == nil {
				s.H = make([]*histogram.FloatHistogram, n)
			}
			s.H[j], s.K[j] = r.histogram(), vector.Histogram
		}
	}
	return s
}

func (r source) query(d *data) *query {
	q := &query{grid: d.grid, delayed: r.IntN(2) == 0, instant: d.grid.N == 1 && r.IntN(3) > 0}
	q.end = d.grid.End()
	if !q.instant {
		q.end += pick(r, 0, d.grid.Step-1)
	}
	if r.IntN(12) == 0 {
		q.text = r.scalar(2)
	} else {
		q.text = r.vector(1 + r.IntN(3))
	}
	return q
}

func (r source) literal() string {
	return pick(r, "0", "1", "-1", "2", "0.5", "NaN", "Inf", "-Inf", "1e300", "3.7", "100")
}

func (r source) scalar(depth int) string {
	if depth == 0 || r.IntN(2) == 0 {
		return pick(r, r.literal(), r.literal(), "time()", "pi()", "scalar("+r.selector()+")", "(-time())")
	}
	a, b := r.scalar(depth-1), r.scalar(depth-1)
	switch r.IntN(6) {
	case 0:
		return "max_of(" + a + ", " + b + ")"
	case 1:
		return "min_of(" + a + ", " + b + ")"
	case 2:
		return "-(" + a + ")"
	case 3:
		return "(" + a + pick(r, " > bool ", " <= bool ", " == bool ", " != bool ", " < bool ", " >= bool ") + b + ")"
	case 4:
		return "scalar(" + r.vector(depth-1) + ")"
	default:
		return "(" + a + pick(r, " + ", " - ", " * ", " / ", " ^ ", " % ", " atan2 ") + b + ")"
	}
}

func (r source) selector() string {
	if r.mixed {
		return pick(r, "m", "n", `m{a=~"x.*", b!="1"}`)
	}
	return pick(r, "m", "m", "n", `{__name__=~"m|n"}`, `m{a="x1"}`, `{a=~"x.*", b="1"}`, "nothing", `m{a="x1", b="2"}`)
}

func (r source) vector(depth int) string {
	if depth == 0 {
		return r.selector()
	}
	v := r.vector(depth - 1)
	switch r.IntN(12) {
	case 0, 1, 2:
		op := pick(r, "+", "-", "*", "/", "^", "%", "atan2", "</", ">/", "==", "!=", ">", "<", ">=", "<=", "> bool", "<= bool",
			"== bool", "!= bool", "< bool", ">= bool")
		if r.IntN(2) == 0 {
			return "(" + v + " " + op + " " + r.scalar(1) + ")"
		}
		if r.mixed && strings.Contains(op, "/") {
			v = r.selector() // the last series of a step decides what is noted, and only selectors have an order
		}
		return "(" + r.scalar(1) + " " + op + " " + v + ")"
	case 3:
		return "-" + v
	case 4:
		return r.relabel(v)
	case 5:
		return r.oddFunction(v)
	case 6:
		return pick(r, "clamp("+v+", "+r.scalar(1)+", "+r.scalar(1)+")", "clamp_min("+v+", "+r.scalar(1)+")",
			"clamp_max("+v+", "+r.scalar(1)+")", "round("+v+")", "round("+v+", "+r.scalar(1)+")")
	default:
		return pick(r, "abs", "ceil", "floor", "sqrt", "sgn", "deg", "rad", "exp", "ln", "log2", "log10", "sin", "cos", "tan",
			"asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "minute", "hour", "day_of_week",
			"day_of_month", "day_of_year", "days_in_month", "month", "year", "histogram_count", "histogram_sum",
			"histogram_avg", "histogram_stddev", "histogram_stdvar", "abs", "timestamp") + "(" + v + ")"
	}
}

func (r source) relabel(v string) string {
	dst := pick(r, "__name__", "a", "b", "c", "__type__", "é")
	if r.mixed {
		dst = "c"
		if strings.Contains(v, "label_") {
			return v
		}
	}
	if r.IntN(2) == 0 {
		return fmt.Sprintf("label_replace(%s, %q, %q, %q, %q)", v, dst, pick(r, "", "$1", "q$0", "${1}z"),
			pick(r, "a", "b", "__name__", "nope"), pick(r, "(.*)", "x(.)", "m", "", "y|x1", "(x)(1)?.*"))
	}
	return fmt.Sprintf("label_join(%s, %q, %q%s)", v, dst, pick(r, "", "-"), pick(r, "", `, "a"`, `, "b", "a"`, `, "nope", "b"`,
		`, "__name__", "b", "b"`))
}

func (r source) oddFunction(v string) string {
	switch r.IntN(7) {
	case 0:
		return pick(r, "sort(", "sort_desc(") + v + ")"
	case 1:
		return pick(r, "sort_by_label(", "sort_by_label_desc(") + v + pick(r, "", `, "a"`, `, "b", "a"`, `, "nope"`) + ")"
	case 2:
		return "absent(" + v + ")"
	case 3:
		return "vector(" + r.scalar(2) + ")"
	case 4:
		return pick(r, "hour()", "minute()", "day_of_week()", "day_of_month()", "year()", "month()", "days_in_month()", "day_of_year()")
	case 5:
		return "start_timestamp(" + v + ")"
	default:
		return "(" + v + ")"
	}
}

// readsSampleTimes tells whether a query has timestamp(selector), which is another operator's business.
func readsSampleTimes(t *testing.T, text string) bool {
	t.Helper()
	found := false
	parser.Inspect(parse(t, text), func(n parser.Node, _ []parser.Node) error {
		if c, ok := n.(*parser.Call); ok && strings.HasSuffix(c.Func.Name, "timestamp") {
			_, selects := unwrap(c.Args[0]).(*parser.VectorSelector)
			found = found || selects
		}
		return nil
	})
	return found
}

func TestEveryFunctionAnswersAsPrometheusDoes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := source{Rand: rand.New(rand.NewPCG(seed, 1))}
	failed, ran := 0, 0
	for range 1200 {
		d := r.data()
		for range 3 {
			q := r.query(d)
			if readsSampleTimes(t, q.text) || !q.instant && strings.Contains(q.text, "sort") && strings.Contains(q.text, "vector(") {
				continue // what does not depend on the time is evaluated once, and sorted: the builder's business
			}
			ran++
			if !sameAnswers(t, d, q, r.IntN(5)) {
				failed++
			}
		}
		if failed > 5 {
			t.Fatalf("stopped after %d of %d queries differed", failed, ran)
		}
	}
}

// sameAnswers compares both engines.
func sameAnswers(t *testing.T, d *data, q *query, perBatch int) bool {
	t.Helper()
	want, got := q.prometheus(t, d), q.ours(t, d, perBatch)
	if unordered(q, want) {
		sortStrings(want.rows)
		sortStrings(got.rows)
	}
	diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{}))
	if diff == "" {
		return true
	}
	t.Errorf("%s\ndelayed=%v instant=%v grid=%v end=%d (-prometheus +ours):\n%s", q.text, q.delayed, q.instant, q.grid, q.end, diff)
	for _, row := range d.rows {
		t.Logf("%s %v %v", row.Labels, row.V, row.K)
	}
	return false
}
