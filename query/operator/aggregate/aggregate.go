// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package aggregate holds the aggregation operators of PromQL.
//
// Nouns: a config says what to aggregate and how; a grouping numbers the groups of the input's rows from its symbol
// columns; an accumulator holds the state of groups x steps cells of one sort of aggregation and is fed rows; a sink is
// an aggregation fed by the one loop over the input, of which there may be several; a result is rows that are done.
//
// An aggregation is evaluated when it is opened, because only then is known which groups have a value. What it holds is
// groups x steps cells: the rows of the input pass through a batch at a time. An aggregation into so many cells that
// they would not fit the cache (stateLimit) instead reads its input in the order of groups while its own cursors move:
// a group is complete before the next begins, and the state is that of one group per cursor.
//
// Values are added in the order of the input's rows, as Prometheus adds them, so sums are the same to the bit whatever
// the number of workers.
//
// Nodes are for one query; cursors of one node may run side by side.
package aggregate

import (
	"cmp"
	"context"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// The slots of the annotations of an aggregation.
const (
	SlotExpr  = 0 // the aggregation itself
	SlotInput = 1 // what it aggregates
	SlotParam = 2 // its parameter
)

// Config says what an aggregation does.
type Config struct {
	Op       parser.ItemType
	Grouping []string
	Without  bool
	// Param is the number of topk, bottomk, limitk, the quantile, or the ratio; nil for the others.
	Param operator.Scalar
	// Label is the label of count_values.
	Label string
	// Where leaves out the rows that do not match: the aggregation then is of a part of what its input selects.
	Where []*labels.Matcher
}

// Node is an aggregation. Its annotations have the slots above.
type Node interface {
	operator.Node
	operator.Annotated
}

// New returns the aggregation of the rows of a node.
func New(env *operator.Env, cfg Config, input operator.Node) Node {
	return NewMulti(env, []Config{cfg}, input)[0]
}

// NewMulti returns several aggregations of the rows of one node, which are read once. The first of them to be opened
// reads them; opening the others costs nothing.
func NewMulti(env *operator.Env, cfgs []Config, input operator.Node) []Node {
	f := &feed{env: env, input: input}
	nodes := make([]Node, len(cfgs))
	for i, cfg := range cfgs {
		if cfg.Op == parser.LIMIT_RATIO && len(cfgs) == 1 && input.Grid().N > 1 {
			nodes[i] = &ratio{env: env, cfg: cfg, input: input}
			continue
		}
		n := &node{feed: f, cfg: cfg, held: retain.Memory{Account: env.Account}, state: retain.Memory{Account: env.Account}, limit: stateLimit}
		f.nodes = append(f.nodes, n)
		nodes[i] = n
	}
	f.open = len(f.nodes)
	return nodes
}

// feed is the one loop over an input that serves several aggregations.
type feed struct {
	env    *operator.Env
	input  operator.Node
	nodes  []*node
	opened bool
	err    error
	open   int // nodes not closed yet
}

// node is one aggregation of a feed.
type node struct {
	feed   *feed
	cfg    Config
	notes  operator.Notes
	held   retain.Memory
	state  retain.Memory // goes when the result is there
	group  *grouping
	result retain.Rows
	stream *stream // instead of a result: group order
	limit  int64   // bytes of state; more is avoided by group order
	closed bool
}

// sink is an aggregation fed by the loop over its input. An error of add ends the loop.
type sink interface {
	add(b *vector.Batch) error
	// end is called once, when all rows have been added.
	end() (retain.Rows, error)
}

// Open reads the input, unless another aggregation of the same input did.
func (n *node) Open(ctx context.Context) error {
	if !n.feed.opened {
		n.feed.opened = true
		n.feed.err = n.feed.run(ctx)
	}
	return n.feed.err
}

// Table names the groups, or for topk and its like the series that occur in the result.
func (n *node) Table() *vector.Table {
	if n.stream != nil {
		return n.stream.table
	}
	return n.result.Table()
}

// Grid is that of the input.
func (n *node) Grid() vector.Grid { return n.feed.input.Grid() }

// Notes returns what was noted; see the slots.
func (n *node) Notes() *operator.Notes { return &n.notes }

// Cursor yields rows of the result.
func (n *node) Cursor(ids []uint32) operator.Cursor {
	if n.stream != nil {
		return n.stream.cursor(ids)
	}
	return retain.NewCursor(n.feed.env, n.result, n.Grid().N, ids)
}

// Close gives back the result; the last of several aggregations closes the input.
func (n *node) Close() {
	if n.closed {
		return
	}
	n.closed = true
	n.result = nil
	n.held.Release()
	n.state.Release()
	if n.cfg.Param != nil {
		n.cfg.Param.Close()
	}
	if n.feed.open--; n.feed.open == 0 {
		n.feed.input.Close()
	}
}

// run opens the parameters and the input, reads it and leaves every aggregation with its result.
func (f *feed) run(ctx context.Context) error {
	for _, n := range f.nodes {
		if n.cfg.Op == parser.COUNT_VALUES && !model.UTF8Validation.IsValidLabelName(n.cfg.Label) {
			return fmt.Errorf("invalid label name %s", &parser.StringLiteral{Val: n.cfg.Label})
		}
		if n.cfg.Param == nil {
			continue
		}
		if err := n.cfg.Param.Open(ctx); err != nil {
			return err
		}
	}
	if err := f.input.Open(ctx); err != nil {
		return err
	}
	if len(f.nodes) == 1 {
		return f.nodes[0].alone(ctx)
	}
	return f.together(ctx)
}

// together feeds all aggregations in one loop.
func (f *feed) together(ctx context.Context) error {
	sinks := make([]sink, len(f.nodes))
	var invalid error
	read := f.env.DrainBriefly
	for i, n := range f.nodes {
		s, err := n.sink()
		if err != nil && !isParamError(err) {
			return err
		}
		invalid = cmp.Or(invalid, err)
		sinks[i] = s
		if _, ok := s.(*grouped); !ok {
			read = f.env.Drain
		}
	}
	err := read(ctx, f.input, nil, func(b *vector.Batch) error {
		for _, s := range sinks {
			if err := s.add(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err = cmp.Or(err, invalid); err != nil {
		return err
	}
	for i, n := range f.nodes {
		if n.result, err = sinks[i].end(); err != nil {
			return err
		}
	}
	return nil
}

// alone reads the input for one aggregation, in group order where the state would be large.
func (n *node) alone(ctx context.Context) error {
	if done, err := n.inGroupOrder(ctx); done || err != nil {
		return err
	}
	s, invalid := n.sink()
	if invalid != nil && !isParamError(invalid) {
		return invalid
	}
	read := n.feed.env.Drain
	if _, ok := s.(*grouped); ok {
		read = n.feed.env.DrainBriefly
	}
	err := read(ctx, n.feed.input, nil, s.add)
	if err = cmp.Or(err, invalid); err != nil {
		return err
	}
	n.result, err = s.end()
	return err
}
