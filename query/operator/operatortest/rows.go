// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package operatortest is for the tests of operators.
//
// A Node is an operand whose rows are given: it can cut batches small, leave out empty rows and fail, and it counts
// what was read of it and which cursors are open. A Reference asks Prometheus' engine for what an operator should
// answer.
//
// A Node follows the rules of package operator, concurrent cursors included. All memory is that of tests.
package operatortest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Series is one row: labels, and one cell per step.
type Series struct {
	Labels labels.Labels
	Drop   bool // the name goes away when the query ends
	V      []float64
	K      []vector.Kind // nil: all floats
	H      []*histogram.FloatHistogram
}

// Node yields constant rows. Set its fields before Open.
type Node struct {
	// PerBatch is how many rows a batch has; 0: as many as are usual.
	PerBatch int
	// SkipEmpty leaves out rows without a cell.
	SkipEmpty bool
	// Err is what Next returns instead of the last row.
	Err error

	env   *operator.Env
	grid  vector.Grid
	rows  []Series
	table *vector.Table

	mu   sync.Mutex
	read []int // how often each row was read; guarded by mu
	open int   // cursors open; guarded by mu
}

// Rows returns a node of the rows given.
func Rows(env *operator.Env, grid vector.Grid, rows ...Series) *Node {
	return &Node{env: env, grid: grid, rows: rows}
}

// Table returns the labels of rows as a table. The budget of d has to be large enough.
func Table(d *vector.Dict, rows []Series) *vector.Table {
	t := &vector.Table{N: len(rows), Dict: d}
	names := map[string]struct{}{}
	for _, r := range rows {
		r.Labels.Range(func(l labels.Label) { names[l.Name] = struct{}{} })
		if r.Drop && t.Drop == nil {
			t.Drop = make([]bool, len(rows))
		}
	}
	t.Names = slices.Sorted(maps.Keys(names))
	for _, name := range t.Names {
		col := make([]uint32, len(rows))
		for i, r := range rows {
			col[i], _ = d.Symbol(r.Labels.Get(name)) // no error without a budget
		}
		t.Cols = append(t.Cols, col)
	}
	if t.Drop != nil {
		for i, r := range rows {
			t.Drop[i] = r.Drop
		}
	}
	return t
}

// Open implements operator.Node.
func (n *Node) Open(context.Context) error {
	n.table = Table(n.env.Dict, n.rows)
	n.read = make([]int, len(n.rows))
	return nil
}

// Table implements operator.Node.
func (n *Node) Table() *vector.Table { return n.table }

// Grid implements operator.Node.
func (n *Node) Grid() vector.Grid { return n.grid }

// Close implements operator.Node.
func (n *Node) Close() {}

// Read returns how often each row was read.
func (n *Node) Read() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.read)
}

// OpenCursors returns how many cursors were not closed.
func (n *Node) OpenCursors() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open
}

// Cursor implements operator.Node.
func (n *Node) Cursor(ids []uint32) operator.Cursor {
	if ids == nil {
		ids = make([]uint32, len(n.rows))
		for i := range ids {
			ids[i] = uint32(i)
		}
	}
	n.mu.Lock()
	n.open++
	n.mu.Unlock()
	return &cursor{node: n, ids: ids}
}

type cursor struct {
	node *Node
	ids  []uint32
}

func (c *cursor) Close() {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.node.open--
}

func (c *cursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	n := c.node
	b.Reset(n.grid.N)
	limit := n.PerBatch
	if limit == 0 {
		limit = operator.BatchRows(n.grid.N)
	}
	if err := b.Reserve(min(limit, len(c.ids))); err != nil {
		return false, err
	}
	for len(c.ids) > 0 && b.Rows() < limit {
		id := c.ids[0]
		c.ids = c.ids[1:]
		if n.Err != nil && int(id) == len(n.rows)-1 {
			return false, n.Err
		}
		n.mu.Lock()
		n.read[id]++
		n.mu.Unlock()
		if err := n.fill(b, id); err != nil {
			return false, err
		}
	}
	return b.Rows() > 0, nil
}

func (n *Node) fill(b *vector.Batch, id uint32) error {
	s := &n.rows[id]
	if n.SkipEmpty && s.empty() {
		return nil
	}
	i, err := b.Add(id)
	if err != nil {
		return err
	}
	if s.H != nil {
		if err := b.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := b.Row(i)
	copy(v, s.V)
	copy(h, s.H)
	if s.K != nil {
		copy(k, s.K)
	} else {
		for j := range k {
			k[j] = vector.Float
		}
	}
	b.Measure(i)
	return nil
}

func (s *Series) empty() bool {
	return s.K != nil && !slices.ContainsFunc(s.K, func(k vector.Kind) bool { return k != vector.Absent })
}
