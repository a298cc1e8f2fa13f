// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function_test

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
)

func parse(t *testing.T, text string) parser.Expr {
	t.Helper()
	e, err := parser.NewParser(promqltest.TestParserOpts).ParseExpr(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

const f, h, no = vector.Float, vector.Histogram, vector.Absent

func gauge(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	h.CounterResetHint = histogram.GaugeType // others the storage decides on
	return h
}

// Queries that the random ones may miss: errors, bounds, and annotations that depend on the order of series.
func TestCasesAnswerAsPrometheusDoes(t *testing.T) {
	h1, h2 := gauge(tsdbutil.GenerateTestFloatHistogram(3)), gauge(tsdbutil.GenerateTestCustomBucketsFloatHistogram(4))
	checkAll(t, &data{grid: vector.Grid{Start: -86_400_000, Step: 43_200_000, N: 4}, rows: []operatortest.Series{
		{
			Labels: labels.FromStrings("__name__", "m", "a", "1"), V: []float64{math.NaN(), 0, 2.5, 1 << 60},
			K: []vector.Kind{f, h, f, f}, H: []*histogram.FloatHistogram{nil, h1, nil, nil},
		},
		{
			Labels: labels.FromStrings("__name__", "m", "a", "2"), V: []float64{0, -0.5, 0, math.Inf(-1)},
			K: []vector.Kind{h, f, no, f}, H: []*histogram.FloatHistogram{h2, nil, nil, nil},
		},
		{Labels: labels.FromStrings("__name__", "n", "a", "1"), V: []float64{1, 2, 3, 4}, K: []vector.Kind{f, f, f, f}},
	}}, `label_replace(m, "a", "$1", "a", "(")`, `label_replace(m, "", "$1", "a", ".*")`, `label_replace(m, "\xff", "$1", "a", ".*")`,
		`label_join(m, "", "-", "a")`, `label_join(m, "b", "-", "")`, `label_join(m, "b", "-", "a", "\xff")`,
		`label_replace(n, "__name__", "", "a", "1")`, `label_replace(-n, "__name__", "x", "a", "(1)")`, `label_join(-n, "__name__", "x", "a")`,
		`1 </ m`, `1 >/ m`, `m </ 2`, `m >/ 2`, `m </ NaN`, `m + 1`, `1 - m`, `m * -2`, `-2 * m`, `m / 0`, `0 / m`, `m ^ 2`, `m > 1`,
		`1 > bool m`, `m == NaN`, `m != bool NaN`, `1 < bool 2 < bool m`, `m % 0`, `m % time()`, `time() % m`, `time() atan2 m`,
		`1 </ 2`, `1 >/ scalar(m)`, `vector(1 </ 2)`, `clamp(m, 1, 0)`, `clamp(m, NaN, 1)`, `clamp(m, 0, NaN)`, `clamp(m, Inf, Inf)`,
		`clamp(m, -Inf, -Inf)`, `clamp(m, time(), 0)`, `clamp(m, -time(), time())`, `clamp_min(m, time())`, `clamp_max(m, -Inf)`, `round(m, 0)`,
		`round(m, Inf)`, `round(m, -0.3)`, `round(m, time())`, `absent(m)`, `absent(nothing)`, `absent(x{a="1",b=~"2",c!="3"})`,
		`absent(x{a="1",a="2",b="3"})`, `absent(m{a="2"})`, `absent(abs(m) > 100)`, `hour(m)`, `year(m)`, `hour()`, `minute()`, `year()`,
		`days_in_month()`, `scalar(m)`, `scalar(n)`, `scalar(m{a="1"})`, `scalar(nothing)`, `vector(scalar(m))`, `-m`, `+m`, `--m`,
		`abs({a="1"})`, `{a="1"} + 1`, `{a="1"} > 2`, `sort(m)`, `sort_desc(m)`, `sort_by_label(m)`, `sort(-m)`, `-sort(m)`,
		`sort_by_label_desc({a=~".+"}, "__name__")`, `timestamp(-m)`, `start_timestamp(-m)`, `histogram_count(-m)`,
		`histogram_avg(m / 0)`, `histogram_stddev(m)`, `histogram_stdvar(0 * m)`, `max_of(time(), 1)`, `min_of(NaN, time())`, `time() == bool 0`,
		`-(time())`, `sgn(m)`, `ln(m)`, `histogram_sum({a="2"})`)
}

// Queries after which series are the same, over floats and over histograms.
func TestCollisionsAnswerAsPrometheusDoes(t *testing.T) {
	hs := func(cells ...bool) (out []*histogram.FloatHistogram) {
		for i, there := range cells {
			out = append(out, nil)
			if there {
				out[i] = gauge(tsdbutil.GenerateTestFloatHistogram(int64(i)))
			}
		}
		return out
	}
	series := func(of vector.Kind, text, typ string, cells ...bool) operatortest.Series {
		s := operatortest.Series{Labels: labels.FromMap(map[string]string{"__name__": "m", "a": text, "__type__": typ}).WithoutEmpty()}
		for i, there := range cells {
			s.V, s.K = append(s.V, float64(i)), append(s.K, no)
			if there {
				s.K[i] = of
			}
		}
		if of == h {
			s.H = hs(cells...)
		}
		return s
	}
	for _, of := range []vector.Kind{f, h} {
		d := &data{grid: vector.Grid{Start: 60_000, Step: 60_000, N: 3}, rows: []operatortest.Series{
			series(of, "1", "", true, false, false), series(of, "1", "gauge", false, true, false),
			series(of, "2", "", false, true, false), series(of, "2", "gauge", false, true, false), series(of, "3", "", false, false, true),
		}}
		sortRows(d.rows)
		checkAll(t, d, `label_join(m, "a", "-")`, `label_replace(m, "a", "", "", "")`, `label_replace({a="1"}, "__name__", "x", "", "")`, `-m`,
			`-m{a="1"}`, `-{a="2"}`, `label_replace(m{a="1"}, "__type__", "", "", "")`, `label_replace(m{a!="2"}, "a", "", "__type__", "")`,
			`abs(m{a="1"})`, `abs(m)`, `m{a="1"} + 1`, `m{a="1"} * 2`, `2 * m`, `m{a="1"} > 0`, `m{a="1"} >= bool 1`, `timestamp(-m{a="1"})`,
			`histogram_count(m{a="1"})`, `histogram_count(m)`, `clamp_max(m{a="1"}, 0)`, `label_join(-m{a="1"}, "__name__", "", "a")`,
			`label_join(label_replace(-m{a="1"}, "__name__", "x", "__type__", "gauge"), "__type__", "")`)
	}
}

// checkAll compares answers over the steps of d, and at each alone, with both ways of name removal.
func checkAll(t *testing.T, d *data, texts ...string) {
	t.Helper()
	sortRows(d.rows)
	for _, text := range texts {
		if readsSampleTimes(t, text) {
			t.Fatalf("%s: is another operator's", text)
		}
		for _, delayed := range []bool{false, true} {
			sameAnswers(t, d, &query{text: text, grid: d.grid, end: d.grid.End(), delayed: delayed}, 2)
			for j := range d.grid.N {
				one := d.at(j)
				sameAnswers(t, one, &query{text: text, grid: one.grid, end: one.grid.Start, instant: true, delayed: delayed}, 2)
			}
		}
	}
}

// at returns the data of one step.
func (d *data) at(step int) *data {
	one := &data{grid: vector.Grid{Start: d.grid.At(step), Step: 1, N: 1}}
	for _, r := range d.rows {
		s := operatortest.Series{Labels: r.Labels, V: r.V[step : step+1], K: r.K[step : step+1]}
		if r.H != nil {
			s.H = r.H[step : step+1]
		}
		one.rows = append(one.rows, s)
	}
	return one
}
