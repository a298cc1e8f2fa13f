// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// grouped is the sink of the aggregations that have one row per group.
type grouped struct {
	node  *node
	group *grouping
	acc   accumulator
	state *state
	drops dropping
	// came is the first row of a group that had a sample: groups are in that order.
	came []uint32
	// Scratch for batches of one step.
	gs []uint32
	vs []float64
}

func newGrouped(n *node) (*grouped, error) {
	g := n.group
	x := &grouped{node: n, group: g, drops: g.drops()}
	return x, x.start()
}

func (x *grouped) start() (err error) {
	n, g := x.node, x.group
	if x.state, err = newState(n, &n.state, &n.held, g.len()); err != nil {
		return err
	}
	var sizes []uint32
	if n.cfg.Op == parser.QUANTILE {
		if sizes, err = g.sizes(&n.state); err != nil {
			return err
		}
	}
	if x.acc, err = n.newAccumulator(x.state, sizes); err != nil {
		return err
	}
	if x.came, err = retain.Make[uint32](&n.state, g.len()); err != nil {
		return err
	}
	for i := range x.came {
		x.came[i] = outside
	}
	return nil
}

func (x *grouped) add(b *vector.Batch) error {
	if b.Steps == 1 && len(b.H) == 0 && !x.state.spoilt && x.drops != dropSome {
		x.addFlat(b)
		return x.state.err
	}
	for i, id := range b.IDs {
		g := x.group.of[id]
		shape := b.Shape[i]
		if g == outside || shape == vector.HasGaps {
			continue
		}
		if x.came[g] == outside {
			x.came[g] = id
		}
		r := row{id: id, shape: shape}
		r.v, r.k, r.h = b.Row(i)
		if x.drops == dropSome && x.group.in.Drop[id] {
			x.nameless(g, r)
		}
		if err := x.acc.row(g, r); err != nil {
			return err
		}
	}
	return x.state.err
}

// addFlat adds a batch of floats with one step.
func (x *grouped) addFlat(b *vector.Batch) {
	gs, vs := x.gs[:0], x.vs[:0]
	if cap(gs) < len(b.IDs) {
		gs, vs = make([]uint32, 0, len(b.IDs)), make([]float64, 0, len(b.IDs))
	}
	of, mark := x.group.of, x.state.mark
	gs, vs = gs[:len(b.IDs)], vs[:len(b.IDs)]
	kinds, values := b.K[:len(b.IDs)], b.V[:len(b.IDs)]
	n := 0
	for i, id := range b.IDs {
		g := of[id]
		if kinds[i] == vector.Absent || g == outside {
			continue
		}
		if mark[g]&has == 0 {
			mark[g] |= has
			x.came[g] = min(x.came[g], id)
		}
		gs[n], vs[n] = g, values[i]
		n++
	}
	x.gs, x.vs = gs, vs
	x.acc.flat(gs[:n], vs[:n])
}

// nameless notes the steps at which a series without a name joins a group. A histogram that is ignored before the
// group has a value leaves no trace.
func (x *grouped) nameless(g uint32, r row) {
	at := int(g) * x.state.steps
	takes := takesHistograms(x.node.cfg.Op)
	for i, kind := range r.k {
		if kind == vector.Float || kind == vector.Histogram && (takes || x.state.seen(g, at+i)) {
			x.state.mark[at+i] |= nameless
		}
	}
}

func takesHistograms(op parser.ItemType) bool {
	switch op {
	case parser.SUM, parser.AVG, parser.COUNT, parser.GROUP:
		return true
	default:
		return false
	}
}

// end turns the state into rows, in the order in which the groups came.
func (x *grouped) end() (retain.Rows, error) {
	defer x.close()
	n := x.node
	order, err := ordered(n.feed.env, &n.state, x.came)
	if err != nil {
		return nil, err
	}
	d, err := retain.NewDense(&n.held, len(order), x.state.steps)
	if err != nil {
		return nil, err
	}
	first, err := retain.Make[uint32](&n.state, len(order))
	if err != nil {
		return nil, err
	}
	drop, err := x.dropped(len(order))
	if err != nil {
		return nil, err
	}
	var at int
	set := func(step int, h *histogram.FloatHistogram) { err = cmp.Or(err, d.SetHistogram(at, step, h)) }
	for i, g := range order {
		if i&1023 == 0 {
			if err := n.feed.env.Check(); err != nil {
				return nil, err
			}
		}
		first[i] = x.group.first[g]
		v, k := d.Row(i)
		at = i
		x.acc.finish(g, out{v: v, k: k, h: set})
		if err = cmp.Or(err, x.state.err); err != nil {
			return nil, err
		}
		d.Measure(i)
		if x.drops == dropSome {
			drop[i] = x.droppedLast(g, k)
		}
	}
	d.Names, err = x.group.table(&n.held, first, drop)
	return d, err
}

// dropped returns the marks of a number of groups that lose their names.
func (x *grouped) dropped(groups int) ([]bool, error) {
	if x.drops == dropSome {
		return retain.Make[bool](&x.node.held, groups)
	}
	return x.drops.all(&x.node.held, groups)
}

// close lets go of the state.
func (x *grouped) close() {
	x.acc, x.state = nil, nil
	x.node.state.Release()
}

// droppedLast tells whether a series without a name was in the group at the last step that has a result.
func (x *grouped) droppedLast(g uint32, kinds []vector.Kind) bool {
	for i, kind := range slices.Backward(kinds) {
		if kind != vector.Absent {
			return x.state.mark[int(g)*x.state.steps+i]&nameless != 0
		}
	}
	return false
}
