// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/cache"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// assembly is an answer that is put together from runs of steps: a row per set of labels, a cell per step.
type assembly struct {
	grid    vector.Grid
	first   int64 // number of the first step on the line
	account *budget.Account
	charged int64
	limit   int64 // bytes

	at   map[string]int
	rows []assembled
	key  []byte
}

// assembled is one row; key is its labels as the cache has them.
type assembled struct {
	key    []byte
	labels labels.Labels
	v      []float64
	k      []vector.Kind
	h      []*histogram.FloatHistogram // nil while the row has none
	both   vector.Shape                // vector.HasBoth or nothing
}

func newAssembly(grid vector.Grid, first int64, account *budget.Account) *assembly {
	return &assembly{grid: grid, first: first, account: account, limit: maxKeep, at: map[string]int{}}
}

func (a *assembly) charge(n int64) error {
	if a.charged+n > a.limit {
		return &inPartsError{unkeptLarge}
	}
	if a.account.Reserve(n) != nil {
		return &inPartsError{unkeptMemory}
	}
	a.charged += n
	return nil
}

func (a *assembly) free() {
	a.account.Release(a.charged)
	*a = assembly{account: a.account}
}

// What a row takes besides its cells and its labels.
const assembledBytes = 200

// row returns the row of a key. ls makes its labels.
func (a *assembly) row(key []byte, ls func() (labels.Labels, error)) (*assembled, error) {
	if i, ok := a.at[string(key)]; ok {
		return &a.rows[i], nil
	}
	n := a.grid.N
	if err := a.charge(int64(n)*vector.CellBytes + int64(3*len(key)) + assembledBytes); err != nil {
		return nil, err
	}
	l, err := ls()
	if err != nil {
		return nil, err
	}
	a.at[string(key)] = len(a.rows)
	a.rows = append(a.rows, assembled{key: slices.Clone(key), labels: l, v: make([]float64, n), k: make([]vector.Kind, n)})
	return &a.rows[len(a.rows)-1], nil
}

// addEntry adds what an entry of the cache has of the steps asked for.
func (a *assembly) addEntry(e *cache.Entry) error {
	var sb labels.ScratchBuilder
	from, to := max(e.From, a.first), min(e.To, a.first+int64(a.grid.N))
	for i := range e.Series {
		s := &e.Series[i]
		r, err := a.row(s.Labels, func() (labels.Labels, error) { return cache.DecodeLabels(s.Labels, &sb) })
		if err != nil {
			return err
		}
		copy(r.v[from-a.first:], s.Values[from-e.From:to-e.From])
		for j, p := range s.Present[from-e.From : to-e.From] {
			if p {
				r.k[from-a.first+int64(j)] = vector.Float
			}
		}
	}
	return nil
}

// addRow adds a computed row that begins at a step.
func (a *assembly) addRow(row *exec.Row, step int64) error {
	a.key = cache.AppendLabels(a.key[:0], row.Labels)
	r, err := a.row(a.key, func() (labels.Labels, error) { return row.Labels, nil })
	if err != nil {
		return err
	}
	from := step - a.first
	copy(r.v[from:], row.V)
	copy(r.k[from:], row.K)
	if len(row.H) > 0 {
		if err := a.chargeHistograms(row); err != nil {
			return err
		}
		if r.h == nil {
			if err := a.charge(int64(a.grid.N) * 8); err != nil {
				return err
			}
			r.h = make([]*histogram.FloatHistogram, a.grid.N)
		}
		for i := range row.H {
			if h := row.Histogram(i); h != nil {
				r.h[from+int64(i)] = h.Copy()
			}
		}
		r.both |= row.Shape & vector.HasBoth
	}
	return nil
}

// chargeHistograms charges for the copies of the histograms of a row.
func (a *assembly) chargeHistograms(row *exec.Row) error {
	bytes := 0
	for _, h := range row.H {
		if h != nil {
			bytes += h.Size()
		}
	}
	return a.charge(int64(bytes))
}

// emit hands the rows on in the order of their labels.
func (a *assembly) emit(env *operator.Env, to exec.Sink) error {
	if err := to.Begin(parser.ValueTypeMatrix); err != nil {
		return err
	}
	slices.SortFunc(a.rows, func(x, y assembled) int { return labels.Compare(x.labels, y.labels) })
	for i := range a.rows {
		if err := env.Check(); err != nil {
			return err
		}
		r := &a.rows[i]
		if r.shape() == vector.HasGaps {
			continue // an entry has it for steps that were not asked for
		}
		if err := to.Row(&exec.Row{Labels: r.labels, Grid: a.grid, V: r.v, K: r.k, H: r.h, Shape: r.shape()}); err != nil {
			return err
		}
	}
	return nil
}

func (r *assembled) shape() vector.Shape {
	s := r.both
	for _, k := range r.k {
		switch k {
		case vector.Absent:
			s |= vector.HasGaps
		case vector.Float:
			s |= vector.HasFloats
		case vector.Histogram:
			s |= vector.HasHistograms
		}
	}
	return s
}

// entry returns the steps [from, to) as an entry. Answers with histograms are not kept: ok is false.
func (a *assembly) entry(from, to int64, stamp uint64) (e *cache.Entry, ok bool) {
	e = &cache.Entry{From: from, To: to, Stamp: stamp}
	for i := range a.rows {
		r := &a.rows[i]
		if r.h != nil {
			return nil, false
		}
		s := cache.Series{Labels: r.key, Values: r.v[from-a.first : to-a.first], Present: make([]bool, to-from)}
		some := false
		for j, k := range r.k[from-a.first : to-a.first] {
			s.Present[j] = k == vector.Float
			some = some || s.Present[j]
		}
		if some {
			e.Series = append(e.Series, s)
		}
	}
	return e, true
}

// adder is the sink of a run of steps that goes into an assembly.
type adder struct {
	to    *assembly
	first int64
}

// Begin implements exec.Sink.
func (adder) Begin(parser.ValueType) error { return nil }

// Row implements exec.Sink.
func (s adder) Row(r *exec.Row) error { return s.to.addRow(r, s.first) }

// Scalar implements exec.Sink; a range query has rows only.
func (adder) Scalar(int64, float64) error { return nil }

// Text implements exec.Sink; a range query has rows only.
func (adder) Text(int64, string) error { return nil }

// tee is the sink of a query of which nothing was kept: rows go to the caller and, while they can be kept, into an
// assembly.
type tee struct {
	exec.Sink
	keep *assembly // nil once the answer is none to keep
	why  string    // it is none
}

// Row implements exec.Sink.
func (s *tee) Row(r *exec.Row) error {
	if s.keep != nil {
		if r.Shape&vector.HasHistograms != 0 {
			s.drop(unkeptHistograms)
		} else if err := s.keep.addRow(r, s.keep.first); err != nil {
			s.drop(reasonOf(err))
		}
	}
	err := s.Sink.Row(r)
	if err != nil {
		s.drop(unkeptCut)
	}
	return err
}

func (s *tee) drop(why string) {
	if s.keep != nil {
		s.keep.free()
		s.keep, s.why = nil, why
	}
}

// maxKeep is how large an answer may be that is put together, to be kept or to be sent, and how large the entries are
// that it is put together from.
const maxKeep = 64 << 20

// streamKept answers from the cache what it has, computes the rest and keeps that. What cannot be put together like that
// is computed as a whole.
func (q *Query) streamKept(ctx context.Context, env *operator.Env, r *recall, to exec.Sink) (annotations.Annotations, error) {
	q.use.Outdated = r.outdated
	if r.reused == 0 {
		return q.streamWhole(ctx, env, r, to)
	}
	a := newAssembly(q.grid(), r.from, env.Account)
	defer a.free()
	n := int64(q.grid().N)
	q.use.Reused, q.use.Computed = r.reused, n-r.reused
	warnings, err := q.assemble(ctx, env, r, a)
	if why := reasonOf(err); why != "" {
		a.free()
		r.free()
		q.use.Reused, q.use.Computed, q.use.Kept, q.use.NotKept = 0, n, 0, why
		return q.last().Stream(ctx, to)
	}
	if err != nil {
		return warnings, err
	}
	if err := a.emit(env, to); err != nil && !errors.Is(err, exec.ErrEnough) {
		return nil, err
	}
	return env.View.Warnings(), nil
}

// streamWhole computes the answer and keeps it.
func (q *Query) streamWhole(ctx context.Context, env *operator.Env, r *recall, to exec.Sink) (annotations.Annotations, error) {
	// What is kept is no part of what the query needs, so the query does not fail for it.
	t := &tee{Sink: to, keep: newAssembly(q.grid(), r.from, q.engine.memory)}
	defer t.drop("")
	warnings, err := q.last().Stream(ctx, t)
	switch {
	case err != nil || t.keep == nil:
		q.use.NotKept = t.why
	case len(warnings) > 0 || len(env.View.Warnings()) > 0:
		q.use.NotKept = unkeptAnnotations
	case env.Whole():
		q.use.NotKept = unkeptReserved
	default:
		q.keep(r, t.keep)
	}
	return warnings, err
}

// assemble puts the answer together and keeps what is new of it. Annotations come with an error only.
func (q *Query) assemble(ctx context.Context, env *operator.Env, r *recall, a *assembly) (annotations.Annotations, error) {
	for _, x := range r.blocks {
		if x.entry == nil {
			continue
		}
		if err := env.Check(); err != nil {
			return nil, err
		}
		if err := a.addEntry(x.entry); err != nil {
			return nil, err
		}
	}
	for _, m := range r.missing() {
		warnings, err := q.compute(ctx, env, r.line, m, adder{a, m.from})
		if err != nil {
			return warnings, err
		}
		if len(warnings) > 0 {
			return nil, &inPartsError{unkeptAnnotations} // they count over all steps
		}
		if env.Whole() {
			return nil, &inPartsError{unkeptReserved}
		}
	}
	q.keep(r, a)
	return nil, nil
}

// compute evaluates the query at some of its steps.
func (q *Query) compute(ctx context.Context, env *operator.Env, l cache.Line, m run, to exec.Sink) (annotations.Annotations, error) {
	expr, err := q.engine.parser.ParseExpr(q.text)
	if err != nil {
		return nil, err
	}
	o := q.plan.Options()
	o.Start, o.End = time.UnixMilli(l.Time(m.from)), time.UnixMilli(l.Time(m.to-1))
	p, err := plan.New(expr, o)
	if err != nil {
		return nil, err
	}
	x, err := exec.New(env, p, exec.Options{Analyze: q.analyze, Rung: q.engine.rung()})
	if err != nil {
		return nil, err
	}
	defer x.Close()
	warnings, err := x.Stream(ctx, to)
	if q.analyze {
		q.parts = append(q.parts, x.Explain())
	}
	return warnings, err
}

// What a series takes besides its points, and what a point takes, while an entry is made, joined and encoded.
const (
	keptSeriesBytes = 300
	keptPointBytes  = 3 * 9
)

// keep puts what was computed into the cache, if there is memory to do so.
func (q *Query) keep(r *recall, a *assembly) {
	bytes := int64(len(a.rows)) * (cache.BlockSteps*keptPointBytes + keptSeriesBytes)
	for i := range a.rows {
		bytes += 2 * int64(len(a.rows[i].key)) // encoded, and to find it when entries are joined
	}
	short := q.engine.memory.Reserve(bytes) != nil
	if !short {
		defer q.engine.memory.Release(bytes)
	}
	for i := range r.blocks {
		x := &r.blocks[i]
		kept, why := x.known(), unkeptMemory
		if !short {
			kept, why = q.keepBlock(r, a, x)
		}
		q.use.Kept += kept
		if kept < x.to-x.from && q.use.NotKept == "" {
			q.use.NotKept = why
		}
	}
}

// keepBlock keeps what there is of a block, and returns of how many steps of the query the cache has it then, and why not
// of the others.
func (q *Query) keepBlock(r *recall, a *assembly, x *recalled) (kept int64, why string) {
	switch {
	case x.changed:
		return 0, unkeptChanged
	case x.keep.to <= x.keep.from:
		return 0, unkeptRecent
	case x.entry != nil && x.keep == (run{x.entry.From, x.entry.To}):
		return x.known(), unkeptRecent
	}
	to := min(x.to, x.keep.to)
	e, ok := a.entry(x.from, to, x.stamp)
	if !ok {
		return x.known(), unkeptHistograms
	}
	if x.keep.from < x.from {
		e, _ = x.entry.Slice(x.keep.from, x.from).Join(e)
	}
	if x.keep.to > to {
		e, _ = e.Join(x.entry.Slice(to, x.keep.to))
	}
	e.Stamp = x.stamp
	if !q.engine.cache.Put(r.line, x.block, e) {
		return x.known(), unkeptLarge
	}
	return to - x.from, unkeptRecent
}

// reasonOf says why an answer is not kept, given what went wrong; "" where that is no matter of the cache.
func reasonOf(err error) string {
	if parts, ok := errors.AsType[*inPartsError](err); ok {
		return parts.why
	}
	if _, ok := errors.AsType[*budget.ExceededError](err); ok {
		return unkeptMemory
	}
	return ""
}
