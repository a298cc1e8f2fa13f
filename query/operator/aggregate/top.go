// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// top is topk and bottomk: a heap per cell.
//
// Beside the heaps there is one array of the values that the next one has to beat, so that a row that does not make it
// costs one comparison per cell. That value is NaN, which compares with nothing, where the comparison cannot decide.
type top struct {
	node    *node
	group   *grouping
	reverse bool  // bottomk
	k       []int // per step
	from    int   // the first group taken in
	to      int
	steps   int
	size    []int // room in a heap of a group
	begin   []int // of the heaps of a group
	of      []ranked
	count   []uint32  // elements of a heap
	beat    []float64 // what the next value must beat
	came    []uint32
}

// topBytes is what the heaps of a group take.
func topBytes(rows uint32, k []int, steps int) int64 {
	return int64(roomFor(rows, k))*int64(steps)*16 + int64(steps)*12
}

func roomFor(rows uint32, k []int) int {
	room := 0
	for _, n := range k {
		room = max(room, min(n, int(rows)))
	}
	return room
}

// newTop returns the sink of groups from up to to.
func newTop(n *node, k []int, from, to int) (*top, error) {
	x := &top{node: n, group: n.group, reverse: n.cfg.Op == parser.BOTTOMK, k: k, from: from, to: to, steps: n.Grid().N}
	sizes, err := n.group.sizes(&n.held)
	if err != nil {
		return nil, err
	}
	defer retain.Drop(&n.held, sizes)
	sizes = sizes[from:to]
	if x.size, err = retain.Make[int](&n.held, len(sizes)); err != nil {
		return nil, err
	}
	if x.begin, err = retain.Make[int](&n.held, len(sizes)); err != nil {
		return nil, err
	}
	total := 0
	for i, rows := range sizes {
		x.size[i], x.begin[i] = roomFor(rows, k), total
		total += x.size[i] * x.steps
	}
	if x.of, err = retain.Make[ranked](&n.held, total); err != nil {
		return nil, err
	}
	if x.count, err = retain.Make[uint32](&n.held, len(sizes)*x.steps); err != nil {
		return nil, err
	}
	if x.beat, err = retain.Make[float64](&n.held, len(sizes)*x.steps); err != nil {
		return nil, err
	}
	fill(x.beat, math.NaN())
	if x.came, err = retain.Make[uint32](&n.held, len(sizes)); err != nil {
		return nil, err
	}
	for i := range x.came {
		x.came[i] = outside
	}
	return x, nil
}

// free gives back all but the result.
func (x *top) free() {
	h := &x.node.held
	retain.Drop(h, x.size)
	retain.Drop(h, x.begin)
	retain.Drop(h, x.of)
	retain.Drop(h, x.count)
	retain.Drop(h, x.beat)
	retain.Drop(h, x.came)
	x.size, x.begin, x.of, x.count, x.beat, x.came = nil, nil, nil, nil, nil, nil
}

func (x *top) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		shape := b.Shape[i]
		g := x.group.of[id]
		if g == outside || shape == vector.HasGaps {
			continue
		}
		g -= uint32(x.from)
		if x.came[g] == outside {
			x.came[g] = id
		}
		v, k, _ := b.Row(i)
		switch {
		case shape != vector.Full:
			x.mixed(int(g), id, v, k)
		case x.reverse:
			x.least(int(g), id, v)
		default:
			x.greatest(int(g), id, v)
		}
	}
	return nil
}

func (x *top) greatest(g int, id uint32, vs []float64) {
	beat := x.beat[g*x.steps : g*x.steps+len(vs)]
	for i, v := range vs {
		if beat[i] >= v {
			continue
		}
		if beat[i] < v {
			at, k := x.begin[g]+i*x.size[g], x.k[i]
			beat[i] = replaceLeast(x.of[at:at+k], ranked{v, id})
			continue
		}
		x.offer(g, i, v, id)
	}
}

func (x *top) least(g int, id uint32, vs []float64) {
	beat := x.beat[g*x.steps : g*x.steps+len(vs)]
	for i, v := range vs {
		if beat[i] <= v {
			continue
		}
		if beat[i] > v {
			at, k := x.begin[g]+i*x.size[g], x.k[i]
			beat[i] = replaceGreatest(x.of[at:at+k], ranked{v, id})
			continue
		}
		x.offer(g, i, v, id)
	}
}

func (x *top) mixed(g int, id uint32, vs []float64, kinds []vector.Kind) {
	for i, kind := range kinds {
		switch kind {
		case vector.Float:
			x.offer(g, i, vs[i], id)
		case vector.Histogram:
			if x.k[i] >= 1 {
				ignored(&x.node.notes, SlotExpr, x.node.cfg.Op.String())
			}
		case vector.Absent:
		}
	}
}

// offer puts a value into the heap of a cell if it belongs there.
func (x *top) offer(g, step int, v float64, id uint32) {
	k := x.k[step]
	if k < 1 {
		return
	}
	cell := g*x.steps + step
	at, n := x.begin[g]+step*x.size[g], int(x.count[cell])
	if n < k {
		h := heap{x.of[at : at+n+1], x.reverse}
		h.of[n] = ranked{v, id}
		x.count[cell]++
		h.raise()
		if n+1 == k {
			x.beat[cell] = h.of[0].v
		}
		return
	}
	h := heap{x.of[at : at+n], x.reverse}
	if h.belongs(v) {
		h.of[0] = ranked{v, id}
		h.sink()
		x.beat[cell] = h.of[0].v
	}
}

func (x *top) end() (retain.Rows, error) {
	s := newSparse(&x.node.held, x.steps)
	if x.steps == 1 {
		if err := x.instant(s); err != nil {
			return nil, err
		}
	} else if err := x.collect(s); err != nil {
		return nil, err
	}
	x.free()
	return s, s.name(x.group)
}

// instant writes the result of a single step: the groups as they came, each from its first to its k-th.
func (x *top) instant(s *sparse) error {
	env := x.node.feed.env
	order, err := ordered(env, &x.node.held, x.came)
	if err != nil {
		return err
	}
	defer retain.Drop(&x.node.held, order)
	for _, g := range order {
		h := heap{x.of[x.begin[g] : x.begin[g]+int(x.count[g])], x.reverse}
		h.sortReversed(env)
		if err := env.Check(); err != nil {
			return err // else what was sorted may be out of order
		}
		for _, e := range h.of {
			if err := s.put(0, e.v, nil); err != nil {
				return err
			}
			if err := s.close(e.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect writes the series that are in any heap, in the order of the input.
func (x *top) collect(s *sparse) error {
	h := &x.node.held
	next, err := retain.Make[uint32](h, x.group.in.N+1)
	if err != nil {
		return err
	}
	defer retain.Drop(h, next)
	total := 0
	err = x.entries(func(_ int, e ranked) {
		next[e.id]++
		total++
	})
	if err != nil {
		return err
	}
	end := len(s.v)
	for id, n := range next {
		if id&0xffff == 0xffff {
			if err := x.node.feed.env.Check(); err != nil {
				return err
			}
		}
		if n == 0 {
			continue
		}
		if s.ids, err = retain.Push(h, s.ids, uint32(id)); err != nil {
			return err
		}
		next[id] = uint32(end)
		end += int(n)
		if s.ends, err = retain.Push(h, s.ends, end); err != nil {
			return err
		}
	}
	if s.step, err = retain.Extend(h, s.step, total); err != nil {
		return err
	}
	if s.v, err = retain.Extend(h, s.v, total); err != nil {
		return err
	}
	return x.entries(func(step int, e ranked) {
		at := next[e.id]
		s.step[at], s.v[at] = uint32(step), e.v
		next[e.id]++
	})
}

// entries calls f for what is in the heaps; that of one series in the order of steps.
func (x *top) entries(f func(step int, e ranked)) error {
	done := pollEntries // so that it looks at once
	for g := range x.size {
		for i := range x.steps {
			if done >= pollEntries {
				done = 0
				if err := x.node.feed.env.Check(); err != nil {
					return err
				}
			}
			at, n := x.begin[g]+i*x.size[g], int(x.count[g*x.steps+i])
			for _, e := range x.of[at : at+n] {
				f(i, e)
			}
			done += n + 1
		}
	}
	return nil
}

// pollEntries is after how many entries of heaps a loop looks whether to stop.
const pollEntries = 1 << 14

// ordered returns the groups in the order in which they came, those only that did.
func ordered(env *operator.Env, h *retain.Memory, came []uint32) ([]uint32, error) {
	order, err := retain.Make[uint32](h, len(came))
	if err != nil {
		return nil, err
	}
	n, last, sorted := 0, uint32(0), true
	for g, id := range came {
		if id != outside {
			order[n] = uint32(g)
			n++
			sorted = sorted && last <= id
			last = id
		}
	}
	order = order[:n]
	if !sorted {
		slices.SortFunc(order, operator.Until(env, func(a, b uint32) int { return cmp.Compare(came[a], came[b]) }))
	}
	return order, env.Check()
}

// topByParts takes in as many groups at a time as fit the limit of the state. Where all fit it does nothing.
func (n *node) topByParts(ctx context.Context) (done bool, err error) {
	k, invalid := counted(&n.held, n.cfg.Param.Values())
	if invalid != nil && !isParamError(invalid) {
		return false, invalid
	}
	if k == nil || invalid != nil {
		return false, nil
	}
	sizes, err := n.group.sizes(&n.held)
	if err != nil {
		return false, err
	}
	ends := parts(sizes, n.limit, func(rows uint32) int64 { return topBytes(rows, k, len(k)) })
	retain.Drop(&n.held, sizes)
	if len(ends) < 2 {
		retain.Drop(&n.held, k)
		return false, nil
	}
	rows, begin, err := n.group.sorted(&n.held)
	if err != nil {
		return false, err
	}
	s := newSparse(&n.held, len(k))
	from := 0
	for _, to := range ends {
		x, err := newTop(n, k, from, to)
		if err != nil {
			return false, err
		}
		if err := n.feed.env.Drain(ctx, n.feed.input, rows[begin[from]:begin[to]], x.add); err != nil {
			return false, err
		}
		if err := x.collect(s); err != nil {
			return false, err
		}
		x.free()
		from = to
	}
	n.result = s
	return true, s.name(n.group)
}

// parts cuts groups into runs whose state keeps to the limit, if only one group makes up a run.
func parts(sizes []uint32, limit int64, bytes func(rows uint32) int64) (ends []int) {
	var sum int64
	for g, rows := range sizes {
		n := bytes(rows)
		if sum > 0 && sum+n > limit {
			ends = append(ends, g)
			sum = 0
		}
		sum += n
	}
	return append(ends, len(sizes))
}
