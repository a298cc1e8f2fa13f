// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/rules"
)

// maxTicks is how many evaluations of an expression one range query answers at most: a range query decodes each sample
// once, where instant queries decode the samples of their windows again and again. The first has firstTicks, and each
// following one twice as many where the answers of all expressions together take no more than maxHeld bytes.
const (
	maxTicks   = 512
	firstTicks = 16
	maxHeld    = 32 << 20
)

// asker answers the queries of one backtest. Expressions that read nothing the rules write are asked for many
// evaluations at once.
type asker struct {
	engine  promql.QueryEngine
	data    storage.Queryable // nil: the engine's own source
	instant rules.QueryFunc
	end     int64                    // of the backtest, milliseconds
	steps   map[string]time.Duration // the intervals of the expressions that may be asked for ahead
	windows map[phase]*window
	room    int64 // bytes that all answers may take together
	held    int64 // bytes that they take
}

// phase is an expression of groups that are evaluated at the same times.
type phase struct {
	expr   string
	offset int64 // within the interval, milliseconds
}

// window is the answers to one expression at the next evaluations.
type window struct {
	step    time.Duration // between evaluations
	ticks   int64         // that the last query answered
	size    int64         // bytes that its answers took
	query   promql.Query  // whose result the series are; nil: none
	series  promql.Matrix
	floats  []int // of each series the next float and histogram
	hists   []int
	to      int64 // the last time that they are for, milliseconds
	apartTo int64 // up to here each evaluation is asked for apart: together they failed
}

func newAsker(engine promql.QueryEngine, data storage.Queryable, end time.Time, steps map[string]time.Duration) *asker {
	return &asker{
		engine: engine, data: data, instant: rules.EngineQuery(engine, data), end: timestamp.FromTime(end),
		steps: steps, windows: make(map[phase]*window), room: maxHeld,
	}
}

// query is a rules.QueryFunc.
func (a *asker) query(ctx context.Context, expr string, ts time.Time) (promql.Vector, error) {
	step, t := a.steps[expr], timestamp.FromTime(ts)
	if step == 0 {
		return a.instant(ctx, expr, ts)
	}
	at := phase{expr, t % step.Milliseconds()}
	w := a.windows[at]
	if w == nil {
		w = &window{step: step, ticks: firstTicks / 2, to: math.MinInt64, apartTo: math.MinInt64}
		a.windows[at] = w
	}
	if t <= w.apartTo || (t > w.to && !a.fill(ctx, expr, w, ts)) {
		return a.instant(ctx, expr, ts)
	}
	return w.at(t), nil
}

// fill asks for the evaluations from ts on and reports whether that went well.
func (a *asker) fill(ctx context.Context, expr string, w *window, ts time.Time) bool {
	if w.query != nil {
		a.held -= w.size
	}
	w.close()
	step, from := w.step.Milliseconds(), timestamp.FromTime(ts)
	ticks := a.ticks(w)
	if ticks < 2 { // together they would take too much
		w.apartTo, w.ticks, w.size = from+(maxTicks-1)*step, firstTicks/2, 0
		return false
	}
	w.to = min(from+(ticks-1)*step, a.end)
	w.to -= (w.to - from) % step
	q, err := a.engine.NewRangeQuery(ctx, a.data, nil, expr, ts, timestamp.Time(w.to), w.step)
	if err != nil {
		w.apartTo = w.to
		return false
	}
	res := q.Exec(ctx)
	m, ok := res.Value.(promql.Matrix)
	if res.Err != nil || !ok {
		q.Close()
		w.apartTo = w.to
		return false
	}
	w.query, w.series = q, m
	w.floats, w.hists = make([]int, len(m)), make([]int, len(m))
	w.ticks, w.size = (w.to-from)/step+1, sizeOf(m)
	a.held += w.size
	return true
}

// ticks returns how many evaluations the next query of a window is to answer.
func (a *asker) ticks(w *window) int64 {
	each := w.size / max(w.ticks, 1)
	ticks := min(2*w.ticks, maxTicks)
	for ticks > 1 && a.held+ticks*each > a.room {
		ticks /= 2
	}
	return ticks
}

// sizeOf returns about how many bytes a result takes.
func sizeOf(m promql.Matrix) int64 {
	const labels, float, hist = 256, 16, 1024
	size := int64(0)
	for i := range m {
		size += labels + float*int64(len(m[i].Floats)) + hist*int64(len(m[i].Histograms))
	}
	return size
}

// at returns the answer for the time t, which never goes back.
func (w *window) at(t int64) promql.Vector {
	var out promql.Vector
	for i := range w.series {
		s := &w.series[i]
		f, h := w.floats[i], w.hists[i]
		for f < len(s.Floats) && s.Floats[f].T < t {
			f++
		}
		for h < len(s.Histograms) && s.Histograms[h].T < t {
			h++
		}
		w.floats[i], w.hists[i] = f, h
		switch {
		case f < len(s.Floats) && s.Floats[f].T == t:
			out = append(out, promql.Sample{T: t, F: s.Floats[f].F, Metric: s.Metric})
		case h < len(s.Histograms) && s.Histograms[h].T == t:
			out = append(out, promql.Sample{T: t, H: s.Histograms[h].H.Copy(), Metric: s.Metric})
		}
	}
	return out
}

func (w *window) close() {
	if w.query != nil {
		w.query.Close()
	}
	w.query, w.series = nil, nil
}

// close gives back what the answers take.
func (a *asker) close() {
	for _, w := range a.windows {
		w.close()
	}
}

// reads returns the names of the metrics that an expression reads, and whether it may be asked for many evaluations at
// once: an answer must not depend on the range that is asked for, and what it reads must be known ahead.
func reads(expr parser.Expr, written map[string]bool) (names []string, ahead bool) {
	ahead = true
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			name := nameOf(n.LabelMatchers)
			names = append(names, name)
			if name == "" || written[name] || n.StartOrEnd != 0 {
				ahead = false
			}
		case *parser.SubqueryExpr:
			ahead = ahead && n.StartOrEnd == 0
		case *parser.DurationExpr:
			ahead = false
		case *parser.Call:
			switch n.Func.Name {
			case "start", "end", "range", "step", "info":
				ahead = false
			}
		}
		return nil
	})
	return names, ahead
}
