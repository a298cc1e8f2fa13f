// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package operand has what operators with several inputs have in common: an Operand is an input of which some rows
// are held in memory and all others are streamed, each once, in the order in which the operator needs them.
//
// Held are rows that are needed more than once, or at the same time as rows far away; they are charged to the query.
// An Operand is for one goroutine until all that is to be held is; Readers may then run side by side.
package operand

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Operand is one input.
type Operand struct {
	env   *operator.Env
	node  operator.Node
	table *vector.Table

	held    vector.Batch
	slot    []uint32 // of a held row, plus 1; nil while none is held
	charged int64
}

// New returns the operand for a node. It opens and closes it.
func New(env *operator.Env, n operator.Node) *Operand { return &Operand{env: env, node: n} }

// Open opens the node.
func (o *Operand) Open(ctx context.Context) error {
	if err := o.node.Open(ctx); err != nil {
		return err
	}
	o.table = o.node.Table()
	return nil
}

// Close closes the node and gives back what is held.
func (o *Operand) Close() {
	o.node.Close()
	o.held.Free()
	o.env.Account.Release(o.charged)
	o.slot, o.charged = nil, 0
}

// Table names the rows. Valid after Open.
func (o *Operand) Table() *vector.Table { return o.table }

// Grid is the steps of a row.
func (o *Operand) Grid() vector.Grid { return o.node.Grid() }

// Hold reads rows into memory. Those that are held already are not read again.
func (o *Operand) Hold(ctx context.Context, ids []uint32) error {
	if len(ids) == 0 {
		return nil
	}
	if err := o.init(); err != nil {
		return err
	}
	if err := o.held.Reserve(len(ids)); err != nil {
		return err
	}
	read := make([]uint32, 0, len(ids))
	for _, id := range ids {
		if o.slot[id] != 0 {
			continue
		}
		i, err := o.held.Add(id)
		if err != nil {
			return err
		}
		o.slot[id] = uint32(i + 1)
		read = append(read, id)
	}
	return o.env.Drain(ctx, o.node, read, func(b *vector.Batch) error {
		for i, id := range b.IDs {
			if err := o.charge(b.HistogramBytes(i)); err != nil {
				return err
			}
			if err := CopyRow(&o.held, int(o.slot[id]-1), b, i); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *Operand) charge(n int64) error {
	if err := o.env.Account.Reserve(n); err != nil {
		return err
	}
	o.charged += n
	return nil
}

func (o *Operand) init() error {
	if o.slot != nil {
		return nil
	}
	if err := o.charge(int64(4 * o.table.N)); err != nil {
		return err
	}
	o.slot = make([]uint32, o.table.N)
	o.held.Budget = o.env.Account
	o.held.Reset(o.Grid().N)
	return nil
}

// HoldAll reads all rows into memory.
func (o *Operand) HoldAll(ctx context.Context) error {
	return o.Hold(ctx, All(nil, o.table.N))
}

// Holds tells whether a row is held.
func (o *Operand) Holds(id uint32) bool { return o.slot != nil && o.slot[id] != 0 }

// HoldsAny tells whether any row is held.
func (o *Operand) HoldsAny() bool { return o.slot != nil }

// Held returns where a held row is.
func (o *Operand) Held(id uint32) Row { return Row{&o.held, int(o.slot[id] - 1)} }

// Kind returns what step i of a held row is.
func (o *Operand) Kind(id uint32, i int) vector.Kind {
	return o.held.K[int(o.slot[id]-1)*o.held.Steps+i]
}

// Present sets there[i] where a held row has a cell at step i.
func (o *Operand) Present(there []bool) {
	for i, k := range o.held.K {
		if k != vector.Absent {
			there[i%len(there)] = true
		}
	}
}

// Discard reads rows that no result comes from, for what reading them has to say: annotations, errors, statistics.
// Those that are held have been read.
func (o *Operand) Discard(ctx context.Context, ids []uint32) error {
	rest := make([]uint32, 0, len(ids))
	for _, id := range ids {
		if !o.Holds(id) {
			rest = append(rest, id)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return o.env.Drain(ctx, o.node, rest, func(*vector.Batch) error { return nil })
}

// Row is a row of a batch.
type Row struct {
	*vector.Batch
	At int
}

// Kinds returns the kinds of the cells.
func (r Row) Kinds() []vector.Kind { return r.K[r.At*r.Steps : (r.At+1)*r.Steps] }

// HasHistograms tells whether there may be histograms.
func (r Row) HasHistograms() bool { return r.Shape[r.At]&vector.HasHistograms != 0 }

// CopyRow makes row i of to what row j of from is.
func CopyRow(to *vector.Batch, i int, from *vector.Batch, j int) error {
	if len(from.H) > 0 && from.Shape[j]&vector.HasHistograms != 0 {
		if err := to.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := to.Row(i)
	fv, fk, fh := from.Row(j)
	copy(v, fv)
	copy(k, fk)
	if fh != nil {
		copy(h, fh)
	}
	to.Shape[i] = from.Shape[j]
	return nil
}
