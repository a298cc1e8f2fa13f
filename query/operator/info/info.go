// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package info has the function info(): it adds to series the labels that info metrics, such as target_info, have for
// the same instance and job.
//
// Which info series there are depends on the series to be enriched, so they are selected when the operator is opened,
// after its input. All of them are held, as the times of their samples: of several that match the same target, the
// one with the newest sample counts at each step. What comes out is, for each target, a list of variants: sets of
// labels to add, each with the steps at which it holds. One variant for all steps is the rule, and its rows are
// streamed; rows of targets whose labels change, or whose results could clash, are held.
//
// Cost: streamed rows pass unchanged. Per info series the memory of its row, 9 B a step.
package info

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// identifying are the labels that make a target, sorted.
var identifying = [...]string{"instance", "job"}

// Call is one call of info().
type Call struct {
	// Base is the first argument.
	Base operator.Node
	// Matchers are those of the second argument; nil where there is none.
	Matchers []*labels.Matcher
	// Select returns the selector of info series for some matchers, on the grid of Base, with the offset and the time
	// that Reference returns for the first argument. A cell of it is the time of the sample that the step finds, in
	// milliseconds, as a float; and a histogram where the sample is one. Its rows have all labels, names included.
	// It is called when Base is open, up to three times; Open and Close are done here.
	Select func(ms []*labels.Matcher) operator.Node
}

// Node is the operator of a call.
type Node interface {
	operator.Node
	// Infos counts the samples of info series that Prometheus' engine reads: it knows which series of the first argument
	// have a sample, and reads nothing for others. It is to be called once all rows were read, before Close.
	Infos() *operator.Cells
}

// New returns the operator for a call. It has no annotations.
func New(env *operator.Env, c Call) Node {
	p := &presence{Node: c.Base, env: env}
	return &node{env: env, call: c, seen: p, base: operand.New(env, p), done: vector.Batch{Budget: env.Account}}
}

type node struct {
	env   *operator.Env
	call  Call
	seen  *presence // what base reads
	base  *operand.Operand
	infos []*operand.Operand
	// isInfo and targets are those of the rows of base.
	isInfo  []bool
	targets []target
	charged int64

	// Valid after Open. A result is streamed, or, where slot is not nil and slot[i] not 0, row slot[i]-1 of done.
	table   *vector.Table
	results []result
	slot    []uint32
	done    vector.Batch
}

// Open implements operator.Node.
func (n *node) Open(ctx context.Context) error {
	if err := n.base.Open(ctx); err != nil {
		return err
	}
	if n.Grid().N == 1 {
		// An instant holds little, and then it is known which series there are: targets of others do not count.
		if err := n.base.HoldAll(ctx); err != nil {
			return err
		}
	}
	e := newEnrichment(n)
	if err := e.fetch(ctx); err != nil {
		return err
	}
	return e.combine(ctx)
}

// Table implements operator.Node.
func (n *node) Table() *vector.Table { return n.table }

// Grid implements operator.Node.
func (n *node) Grid() vector.Grid { return n.call.Base.Grid() }

// Infos implements Node.
func (n *node) Infos() *operator.Cells {
	var wanted targetSet
	for row, there := range n.seen.there {
		if there && !n.isInfo[row] {
			wanted.add(n.targets[row])
		}
	}
	c := &operator.Cells{Count: make([]int64, n.Grid().N)}
	for _, o := range n.infos {
		for row, t := range targetsOf(o.Table()) {
			if id := uint32(row); wanted.has(t) && o.Holds(id) {
				for step, k := range o.Held(id).Kinds() {
					c.Count[step] += int64(min(k, vector.Float))
				}
			}
		}
	}
	return c
}

// Close implements operator.Node.
func (n *node) Close() {
	n.base.Close()
	for _, i := range n.infos {
		i.Close()
	}
	n.done.Free()
	n.env.Account.Release(n.charged)
	n.charged = 0
}

func (n *node) charge(bytes int64) error {
	if err := n.env.Account.Reserve(bytes); err != nil {
		return err
	}
	n.charged += bytes
	return nil
}
