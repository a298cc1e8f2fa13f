// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// kernel changes a batch in place. Several goroutines run it at a time, on batches and works of their own.
type kernel func(w *work, b *vector.Batch) error

// work is what a cursor gives its kernel beside the batch.
type work struct {
	env *operator.Env
	// made is charged for the histograms that were made for the batch.
	made held
}

// copyOf returns a copy of a histogram, which is charged until the next batch.
func (w *work) copyOf(h *histogram.FloatHistogram) (*histogram.FloatHistogram, error) {
	if err := w.env.Check(); err != nil {
		return nil, err
	}
	if err := w.made.charge(int64(h.Size())); err != nil {
		return nil, err
	}
	return h.Copy(), nil
}

// rowwise is a node whose row i is made from row i of its input.
type rowwise struct {
	env *operator.Env
	in  operator.Node
	// args are opened after in, before it with argsFirst.
	args      []operator.Scalar
	argsFirst bool
	// names says what becomes of the metric name.
	names naming
	// bind chooses the kernel, when the arguments are known.
	bind  func() (kernel, error)
	notes operator.Notes
	// settle adds the last notes; nil: none.
	settle func(*operator.Notes)

	run   kernel
	table *vector.Table
	held  held
}

// Open implements operator.Node.
func (n *rowwise) Open(ctx context.Context) error {
	n.held.account = n.env.Account
	if n.argsFirst {
		if err := n.openArgs(ctx); err != nil {
			return err
		}
	}
	if err := n.in.Open(ctx); err != nil {
		return err
	}
	if !n.argsFirst {
		if err := n.openArgs(ctx); err != nil {
			return err
		}
	}
	t, err := n.names.apply(n.env, n.in.Table(), &n.held)
	if err != nil {
		return err
	}
	n.table = t
	n.run, err = n.bind()
	return err
}

func (n *rowwise) openArgs(ctx context.Context) error {
	for _, a := range n.args {
		if err := a.Open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Table implements operator.Node.
func (n *rowwise) Table() *vector.Table { return n.table }

// Grid implements operator.Node.
func (n *rowwise) Grid() vector.Grid { return n.in.Grid() }

// Notes implements operator.Annotated.
func (n *rowwise) Notes() *operator.Notes {
	if n.settle != nil {
		n.settle(&n.notes)
	}
	return &n.notes
}

// Close implements operator.Node.
func (n *rowwise) Close() {
	n.in.Close()
	for _, a := range n.args {
		a.Close()
	}
	n.held.release()
}

// Cursor implements operator.Node.
func (n *rowwise) Cursor(ids []uint32) operator.Cursor {
	c := &rowwiseCursor{Cursor: n.in.Cursor(ids), run: n.run}
	c.work.env, c.work.made.account = n.env, n.env.Account
	return c
}

type rowwiseCursor struct {
	operator.Cursor
	run  kernel
	work work
}

// Next implements operator.Cursor.
func (c *rowwiseCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	c.work.made.release()
	ok, err := c.Cursor.Next(ctx, b)
	if err != nil || !ok {
		return false, err
	}
	return true, c.run(&c.work, b)
}

// Close implements operator.Cursor.
func (c *rowwiseCursor) Close() {
	c.Cursor.Close()
	c.work.made.release()
}

// fixed is the bind of a kernel that depends on no argument.
func fixed(k kernel) func() (kernel, error) {
	return func() (kernel, error) { return k, nil }
}

// dropHistograms makes the histograms of b absent.
func dropHistograms(b *vector.Batch) {
	if len(b.H) == 0 {
		return
	}
	for i, s := range b.Shape {
		if s&vector.HasHistograms == 0 {
			continue
		}
		_, k, h := b.Row(i)
		for j := range k {
			if k[j] == vector.Histogram {
				k[j], h[j] = vector.Absent, nil
			}
		}
		b.Shape[i] = s&^vector.HasHistograms | vector.HasGaps
	}
	b.H = b.H[:0]
}

// shapes is the or of the shapes of all rows.
func shapes(b *vector.Batch) vector.Shape {
	var all vector.Shape
	for _, s := range b.Shape {
		all |= s
	}
	return all
}
