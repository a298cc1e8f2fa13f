// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// limit is limitk: the first k samples of a group at each step.
type limit struct {
	node  *node
	group *grouping
	k     []int
	count []int // samples taken, by cell
	open  []int // steps at which a group still takes samples
	to    *sparse
}

func newLimit(n *node, k []int) (*limit, error) {
	x := &limit{node: n, group: n.group, k: k, to: newSparse(&n.held, len(k))}
	var err error
	if x.count, err = retain.Make[int](&n.held, n.group.len()*len(k)); err != nil {
		return nil, err
	}
	if x.open, err = retain.Make[int](&n.held, n.group.len()); err != nil {
		return nil, err
	}
	steps := 0
	for _, want := range k {
		if want >= 1 {
			steps++
		}
	}
	for g := range x.open {
		x.open[g] = steps
	}
	return x, nil
}

func (x *limit) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		g := x.group.of[id]
		if g == outside || x.open[g] == 0 {
			continue
		}
		count := x.count[int(g)*b.Steps : (int(g)+1)*b.Steps]
		v, k, h := b.Row(i)
		err := x.to.take(id, v, k, h, func(step int) bool {
			if count[step] >= x.k[step] {
				return false
			}
			if count[step]++; count[step] == x.k[step] {
				x.open[g]--
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *limit) end() (retain.Rows, error) {
	retain.Drop(&x.node.held, x.count)
	retain.Drop(&x.node.held, x.open)
	x.count, x.open = nil, nil
	return x.to, x.to.finish(x.group, nil)
}

// take adds the cells of a row for whose steps want says so.
func (s *sparse) take(id uint32, vs []float64, kinds []vector.Kind, hs []*histogram.FloatHistogram, want func(step int) bool) error {
	for i, kind := range kinds {
		if kind == vector.Absent || !want(i) {
			continue
		}
		var v float64
		var h *histogram.FloatHistogram
		if kind == vector.Histogram {
			h = hs[i]
		} else {
			v = vs[i]
		}
		if err := s.put(i, v, h); err != nil {
			return err
		}
	}
	return s.close(id)
}

// finish names the rows. The rows of a single step come group by group, each in the order of a heap by value: it means
// nothing, but what is computed from them depends on it, and it is Prometheus' order. groups is the groups in their
// order, nil if it is that of the rows.
func (s *sparse) finish(g *grouping, groups []uint32) error {
	if s.steps == 1 {
		order, err := s.heaps(g, groups)
		if err != nil {
			return err
		}
		if err := s.reorder(g.env, order); err != nil {
			return err
		}
		retain.Drop(s.held, order)
	}
	return s.name(g)
}

// heaps returns the rows of a single step group by group, each in the order of a heap by value.
func (s *sparse) heaps(g *grouping, groups []uint32) ([]ranked, error) {
	begin, err := retain.Make[int](s.held, g.len())
	if err != nil {
		return nil, err
	}
	defer retain.Drop(s.held, begin)
	for _, id := range s.ids {
		begin[g.of[id]]++
	}
	if groups == nil {
		if groups, err = retain.Make[uint32](s.held, g.len()); err != nil {
			return nil, err
		}
		defer retain.Drop(s.held, groups)
		groups = groups[:0]
		for _, id := range s.ids {
			if of := g.of[id]; begin[of] > 0 {
				groups = append(groups, of)
				begin[of] = -begin[of]
			}
		}
	}
	at := 0
	for _, of := range groups {
		n := max(begin[of], -begin[of])
		begin[of] = at
		at += n
	}
	end, err := retain.Make[int](s.held, len(begin))
	if err != nil {
		return nil, err
	}
	defer retain.Drop(s.held, end)
	copy(end, begin)
	all, err := retain.Make[ranked](s.held, len(s.ids))
	if err != nil {
		return nil, err
	}
	for from, to := range g.env.Runs(len(s.ids)) {
		for row := from; row < to; row++ {
			of := g.of[s.ids[row]]
			all[end[of]] = ranked{s.v[row], uint32(row)}
			end[of]++
			heap{of: all[begin[of]:end[of]]}.raise()
		}
	}
	return all, g.env.Check()
}

// sampler decides which series limit_ratio takes.
type sampler struct {
	table  *vector.Table
	labels labels.ScratchBuilder
	hash   promql.HashRatioSampler
}

// offset returns the number of a series that is compared with the ratio.
func (s *sampler) offset(id uint32) float64 {
	ls := s.table.Labels(id, &s.labels)
	return s.hash.SampleOffset(&ls)
}

// sampled is limit_ratio as a sink.
type sampled struct {
	node    *node
	group   *grouping
	r       []float64
	sampler sampler
	to      *sparse
	came    []uint32
}

func newSampled(n *node, r []float64) (*sampled, error) {
	came, err := retain.Make[uint32](&n.held, n.group.len())
	for i := range came {
		came[i] = outside
	}
	return &sampled{
		node: n, group: n.group, r: r, came: came,
		sampler: sampler{table: n.group.in}, to: newSparse(&n.held, len(r)),
	}, err
}

func (x *sampled) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		g := x.group.of[id]
		if g == outside || b.Shape[i] == vector.HasGaps {
			continue
		}
		x.came[g] = min(x.came[g], id)
		offset := x.sampler.offset(id)
		v, k, h := b.Row(i)
		err := x.to.take(id, v, k, h, func(step int) bool {
			return x.sampler.hash.AddRatioSampleWithOffset(x.r[step], offset)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *sampled) end() (retain.Rows, error) {
	order, err := ordered(x.group.env, &x.node.held, x.came)
	if err != nil {
		return nil, err
	}
	defer retain.Drop(&x.node.held, order)
	return x.to, x.to.finish(x.group, order)
}

// ratio is limit_ratio over several steps: a row goes through or does not, and nothing is held.
type ratio struct {
	env   *operator.Env
	cfg   Config
	input operator.Node
	notes operator.Notes
	held  retain.Memory
	keep  []bool // by cfg.Where; nil: all
	r     []float64
}

// Open implements operator.Node.
func (n *ratio) Open(ctx context.Context) error {
	if err := n.cfg.Param.Open(ctx); err != nil {
		return err
	}
	if err := n.input.Open(ctx); err != nil {
		return err
	}
	n.held.Account = n.env.Account
	r, err := ratios(&n.held, &n.notes, n.cfg.Param.Values())
	if isParamError(err) {
		// What the input has to say goes first.
		return cmp.Or(n.env.Drain(ctx, n.input, nil, nothing{}.add), err)
	}
	if r == nil && err == nil {
		r, err = retain.Make[float64](&n.held, n.Grid().N)
	}
	n.r = r
	if err == nil && len(n.cfg.Where) > 0 {
		n.keep, err = matching(n.env, &n.held, n.input.Table(), n.cfg.Where)
	}
	return err
}

// Table is that of the input.
func (n *ratio) Table() *vector.Table { return n.input.Table() }

// Grid is that of the input.
func (n *ratio) Grid() vector.Grid { return n.input.Grid() }

// Notes returns what was noted; see the slots.
func (n *ratio) Notes() *operator.Notes { return &n.notes }

// Cursor yields the rows of the input with the cells absent that are not taken.
func (n *ratio) Cursor(ids []uint32) operator.Cursor {
	return &ratioCursor{node: n, input: n.input.Cursor(ids), sampler: sampler{table: n.Table()}}
}

// Close implements operator.Node.
func (n *ratio) Close() {
	n.cfg.Param.Close()
	n.input.Close()
	n.held.Release()
}

type ratioCursor struct {
	node    *ratio
	input   operator.Cursor
	sampler sampler
}

// Next implements operator.Cursor.
func (c *ratioCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	ok, err := c.input.Next(ctx, b)
	if !ok || err != nil {
		return ok, err
	}
	for i, id := range b.IDs {
		_, kinds, _ := b.Row(i)
		if c.node.keep != nil && !c.node.keep[id] {
			clear(kinds)
			b.Shape[i] = vector.HasGaps
			continue
		}
		offset := c.sampler.offset(id)
		out := false
		for step, r := range c.node.r {
			if !c.sampler.hash.AddRatioSampleWithOffset(r, offset) {
				kinds[step], out = vector.Absent, true
			}
		}
		if out {
			b.Measure(i)
		}
	}
	return true, nil
}

// Close implements operator.Cursor.
func (c *ratioCursor) Close() { c.input.Close() }
