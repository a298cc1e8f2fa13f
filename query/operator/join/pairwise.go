// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/schema"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// operation is what is done to a pair of cells.
type operation struct {
	op      parser.ItemType
	truth   bool // the bool modifier
	arith   func(to, l, r []float64)
	compare func(to []vector.Kind, l, r []float64)
}

// pairwise is the operator for arithmetic and comparisons.
type pairwise struct {
	operation

	env    *operator.Env
	call   Call
	many   *operand.Operand
	one    *operand.Operand
	swap   bool // the one side is the left
	labels *labeling
	notes  operator.Notes
	faults faults

	// Valid after Open. Result i is made of the rows pairs.many[i] and pairs.one[i], and streamed unless slot[i],
	// less 1, is a row of done. A nil slot means that all are streamed.
	table   *vector.Table
	pairs   pairs
	slot    []uint32
	done    vector.Batch
	charged int64
}

func newPairwise(env *operator.Env, c Call) *pairwise {
	many, one, swap := c.Left, c.Right, c.Matching.Card == parser.CardOneToMany
	if swap {
		many, one = one, many
	}
	return &pairwise{
		operation: operation{op: c.Op, truth: c.Bool, arith: arithmetic(c.Op), compare: comparison(c.Op)},
		env:       env, call: c, swap: swap,
		many: operand.New(env, many), one: operand.New(env, one),
		done: vector.Batch{Budget: env.Account},
	}
}

// Open implements operator.Node.
func (b *pairwise) Open(ctx context.Context) error {
	first, second := b.many, b.one
	if b.swap {
		first, second = second, first
	}
	if err := first.Open(ctx); err != nil {
		return err
	}
	if err := second.Open(ctx); err != nil {
		return err
	}
	if err := b.charge(int64(b.many.Table().N+b.one.Table().N) * keyBytes); err != nil {
		return err
	}
	b.labels = newLabeling(&b.call, b.removes, b.many.Table(), b.one.Table())
	p := b.plan()
	if err := b.one.Hold(ctx, p.shared); err != nil {
		return err
	}
	if err := b.resolve(ctx, p); err != nil {
		return err
	}
	if b.call.Narrow {
		return nil
	}
	if err := b.many.Discard(ctx, p.unreadMany); err != nil {
		return err
	}
	return b.one.Discard(ctx, p.unreadOne)
}

// removes tells whether the operation takes a label from results.
func (b *pairwise) removes(name string) bool {
	if schema.IsMetadataLabel(name) && (b.arith != nil || b.truth && !b.env.DelayedNameRemoval) {
		return true
	}
	m := b.call.Matching
	return m.Card == parser.CardOneToOne && m.On != slices.Contains(m.MatchingLabels, name)
}

// resolve computes the groups that are not streamed and puts all results in order.
func (b *pairwise) resolve(ctx context.Context, p *plan) error {
	if err := b.charge(int64(len(p.pairs.many)) * int64(12+4*len(b.labels.cols))); err != nil {
		return err
	}
	b.pairs = p.pairs
	if len(p.hardOne) > 0 || len(p.hardMany) > 0 {
		if err := b.exact(ctx, p); err != nil {
			return err
		}
	}
	b.table = b.labels.table(b.pairs)
	if b.truth && b.env.DelayedNameRemoval {
		b.table = b.table.WithDrop(true)
	}
	return nil
}

// exact computes the hard groups of a plan step by step.
func (b *pairwise) exact(ctx context.Context, p *plan) error {
	if err := b.many.Hold(ctx, p.hardMany); err != nil {
		return err
	}
	if err := b.one.Hold(ctx, p.hardOne); err != nil {
		return err
	}
	if err := b.charge(int64(p.keys.n+b.many.Table().N) * exactBytes); err != nil {
		return err
	}
	x := newExact(b, p)
	if err := x.run(ctx); err != nil {
		return err
	}
	if err := b.charge(int64(len(x.orders)) * int64(16+4*len(b.labels.cols))); err != nil {
		return err
	}
	b.merge(x)
	return nil
}

// merge puts the results of x among those that are streamed.
func (b *pairwise) merge(x *exact) {
	n := len(b.pairs.many) + len(x.orders)
	all := pairs{many: make([]uint32, 0, n), one: make([]uint32, 0, n)}
	b.slot = make([]uint32, 0, n)
	next := 0
	for _, at := range x.sorted() {
		for next < len(b.pairs.many) && b.pairs.many[next] < x.orders[at] {
			all.add(b.pairs.many[next], b.pairs.one[next])
			b.slot = append(b.slot, 0)
			next++
		}
		all.add(x.pairs.many[at], x.pairs.one[at])
		b.slot = append(b.slot, at+1)
	}
	for ; next < len(b.pairs.many); next++ {
		all.add(b.pairs.many[next], b.pairs.one[next])
		b.slot = append(b.slot, 0)
	}
	b.pairs = all
}

// matchLabels returns the labels by which a row of the one side matches.
func (b *pairwise) matchLabels(row uint32, sb *labels.ScratchBuilder) labels.Labels {
	m := b.call.Matching
	return b.one.Table().Labels(row, sb).MatchLabels(m.On, m.MatchingLabels...)
}

func (b *pairwise) charge(bytes int64) error {
	if err := b.env.Account.Reserve(bytes); err != nil {
		return err
	}
	b.charged += bytes
	return nil
}

// Table implements operator.Node.
func (b *pairwise) Table() *vector.Table { return b.table }

// Grid implements operator.Node.
func (b *pairwise) Grid() vector.Grid { return b.call.Left.Grid() }

// Notes implements operator.Annotated.
func (b *pairwise) Notes() *operator.Notes {
	b.faults.addTo(&b.notes, b.op)
	return &b.notes
}

// Close implements operator.Node.
func (b *pairwise) Close() {
	b.many.Close()
	b.one.Close()
	b.done.Free()
	b.env.Account.Release(b.charged)
	b.charged = 0
}
