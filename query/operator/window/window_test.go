// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// call is how a function is written, %s being the range vector.
type call struct {
	fn, format string
	args       []func(seconds float64) float64
}

func constant(x float64) func(float64) float64 { return func(float64) float64 { return x } }

var calls = []call{
	{fn: "rate"},
	{fn: "increase"},
	{fn: "delta"},
	{fn: "irate"},
	{fn: "idelta"},
	{fn: "changes"},
	{fn: "resets"},
	{fn: "deriv"},
	{fn: "predict_linear", format: "predict_linear(%s, time() %% 100)", args: []func(float64) float64{
		func(s float64) float64 { return math.Mod(s, 100) },
	}},
	{fn: "double_exponential_smoothing", format: "double_exponential_smoothing(%s, 0.3, 0.1 + (time() %% 4) / 8)", args: []func(float64) float64{
		constant(0.3), func(s float64) float64 { return 0.1 + math.Mod(s, 4)/8 },
	}},
	{fn: "avg_over_time"},
	{fn: "sum_over_time"},
	{fn: "count_over_time"},
	{fn: "first_over_time"},
	{fn: "last_over_time"},
	{fn: "max_over_time"},
	{fn: "min_over_time"},
	{fn: "mad_over_time"},
	{fn: "present_over_time"},
	{fn: "stddev_over_time"},
	{fn: "stdvar_over_time"},
	{fn: "ts_of_first_over_time"},
	{fn: "ts_of_last_over_time"},
	{fn: "ts_of_max_over_time"},
	{fn: "ts_of_min_over_time"},
	{fn: "quantile_over_time", format: "quantile_over_time((time() %% 9) / 7 - 0.1, %s)", args: []func(float64) float64{
		func(s float64) float64 { return math.Mod(s, 9)/7 - 0.1 },
	}},
}

// extent is a range vector as it is written, and its windows.
type extent struct {
	text string
	operator.Windows
}

// randomExtent returns a range vector over metric m.
func randomExtent(r *rand.Rand, end int64) extent {
	grid := vector.NewGrid(r.Int64N(end), end+r.Int64N(100_000), []int64{1000, 7000, 15_000, 60_000, 200_000}[r.IntN(5)])
	if r.IntN(4) == 0 {
		grid = vector.NewGrid(grid.Start, grid.Start, 1)
	}
	rng := []int64{1000, 20_000, 60_000, 300_000, 305_001, 1_500_000}[r.IntN(6)]
	e := extent{text: fmt.Sprintf("m[%dms]", rng), Windows: operator.Windows{Grid: grid, Start: grid.Start, Step: grid.Step, Range: rng}}
	if r.IntN(3) == 0 {
		offset := r.Int64N(200_000) - 50_000
		e.text += fmt.Sprintf(" offset %dms", offset)
		e.Start -= offset
	}
	return e
}

// same is how exact the results of a function are. Which of several zeros of different sign comes out of Prometheus'
// sort is not defined.
func (c call) same(rung window.Rung) func(a, b float64) bool {
	if rung == window.Sequential && c.fn != "quantile_over_time" {
		return bits
	}
	switch c.fn {
	case "quantile_over_time":
		return func(a, b float64) bool { return bits(a, b) || a == 0 && b == 0 }
	case "sum_over_time", "avg_over_time":
		return near
	case "stddev_over_time", "stdvar_over_time":
		return nearly
	}
	return bits
}

func nearly(a, b float64) bool {
	return bits(a, b) || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}

func (c call) query(e extent, rung window.Rung) query {
	format := c.format
	if format == "" {
		format = c.fn + "(%s)"
	}
	return query{text: fmt.Sprintf(format, e.text), fn: c.fn, args: c.args, windows: e.Windows, rung: rung}
}

// check compares a call with Prometheus' engine.
func check(t *testing.T, opts operator.Options, c call, e extent, rung window.Rung, data []series) {
	t.Helper()
	q := c.query(e, rung)
	want := reference(t, opts, q, data)
	got := run(t, newEnv(t, opts), q, data)
	if d := diff(got, want, c.same(rung)); d != "" {
		t.Errorf("%s at %v, rung %d: %s", q.text, q.windows.Grid, rung, d)
	}
}

const dataEnd = 3_000_000

func eachCall(t *testing.T, rounds int, body func(t *testing.T, m maker, c call)) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range calls {
		t.Run(c.fn, func(t *testing.T) {
			for i := range rounds {
				m := newMaker(seed + uint64(i))
				body(t, m, c)
				if t.Failed() {
					t.Fatalf("seed %d, round %d", seed, i)
				}
			}
		})
	}
}

func TestFunctionsGiveWhatPrometheusGives(t *testing.T) {
	eachCall(t, 6, func(t *testing.T, m maker, c call) {
		data := m.data(dataEnd, false)
		opts := operator.Options{DelayedNameRemoval: m.one(2), TypeAndUnitLabels: m.one(2)}
		for _, rung := range []window.Rung{window.Adaptive, window.Sequential, window.Prefix} {
			check(t, opts, c, randomExtent(m.Rand, dataEnd), rung, data)
		}
	})
}

func TestFunctionsHeedStartTimestampsAsPrometheusDoes(t *testing.T) {
	eachCall(t, 4, func(t *testing.T, m maker, c call) {
		data := m.data(dataEnd, true)
		check(t, operator.Options{DelayedNameRemoval: true, UseStartTimestamps: true}, c, randomExtent(m.Rand, dataEnd), window.Adaptive, data)
	})
}

func TestExtendedSelectorsGiveWhatPrometheusGives(t *testing.T) {
	eachCall(t, 4, func(t *testing.T, m maker, c call) {
		data := m.data(dataEnd, m.one(2))
		for _, modifier := range []string{"anchored", "smoothed"} {
			e := randomExtent(m.Rand, dataEnd)
			e.text = fmt.Sprintf("m[%dms] %s", e.Range, modifier)
			e.Start = e.Grid.Start
			e.Anchored, e.Smoothed = modifier == "anchored", modifier == "smoothed"
			e.Lookback = lookback.Milliseconds()
			check(t, operator.Options{DelayedNameRemoval: true, UseStartTimestamps: true}, c, e, window.Adaptive, data)
		}
	})
}

func TestFixedWindowsGiveWhatPrometheusGives(t *testing.T) {
	eachCall(t, 2, func(t *testing.T, m maker, c call) {
		data := m.data(dataEnd, false)
		e := randomExtent(m.Rand, dataEnd)
		at := m.Int64N(dataEnd)
		e.text = fmt.Sprintf("m[%dms] @ %d.%03d", e.Range, at/1000, at%1000)
		e.Start, e.Step = at, 0
		check(t, operator.Options{}, c, e, window.Adaptive, data)
	})
}

func TestEachSeriesIsJudgedByItsOwnWindows(t *testing.T) {
	// Two metrics become histograms at the same time, a third has the same times and stays as it is.
	m := newMaker(3)
	var data []series
	for i, name := range []string{"a", "b", "c"} {
		s := series{ls: labels.FromStrings(labels.MetricName, name, "i", name)}
		for j := range 200 {
			x := columntest.Sample{T: int64(j) * 10_000, V: float64(j)}
			if i < 2 && j > 100 {
				x.FH = m.of([]float64{1, 2, 3, 4, 5, float64(j)}, 1, false, false)
			}
			s.samples = append(s.samples, x)
		}
		data = append(data, s)
	}
	e := extent{text: "m[1m]", Windows: operator.Windows{
		Grid: vector.NewGrid(0, 2_000_000, 10_000), Step: 10_000, Range: 60_000,
	}}
	for _, c := range calls {
		check(t, operator.Options{DelayedNameRemoval: true}, c, e, window.Adaptive, data)
	}
}
