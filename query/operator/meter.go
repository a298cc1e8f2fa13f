// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// Cells counts the cells of a vector step by step.
type Cells struct {
	// Every is how many cells every step has, beside those of the others. A scalar has one.
	Every int64
	// Count and Size add to that, one entry per step: how many cells there are, and how many samples they weigh: a
	// float 1, a histogram by its bytes. nil: none. Size is nil where it is the same as Count.
	Count, Size []int64
	// Rest is how many histograms Prometheus rounds up where they stand in a vector, and down in a matrix. nil where
	// Size is.
	Rest []int64
}

// at returns how many cells there are at a step, and what they weigh.
func (c *Cells) at(i int) (count, size int64) {
	count = c.Every
	if c.Count != nil {
		count += c.Count[i]
	}
	if c.Size != nil {
		return count, c.Every + c.Size[i]
	}
	return count, count
}

// vector returns what the cells of a step weigh as a vector, as which functions return them.
func (c *Cells) vector(i int) int64 {
	_, size := c.at(i)
	if c.Rest != nil {
		size += c.Rest[i]
	}
	return size
}

// same tells whether all steps have the same cells.
func (c *Cells) same() bool { return c.Count == nil }

// weight returns what the cells of n steps weigh.
func (c *Cells) weight(n int) (sum int64) {
	if c.same() {
		return int64(n) * c.Every
	}
	for i := range n {
		_, size := c.at(i)
		sum += size
	}
	return sum
}

// addFull counts the rows of b without gaps and histograms, and tells whether there are others with a cell.
func (c *Cells) addFull(b *vector.Batch) (others bool) {
	for _, s := range b.Shape {
		switch s {
		case vector.Full:
			c.Every++
		case vector.HasGaps:
		default:
			others = true
		}
	}
	return others
}

// addOthers counts the cells of the other rows.
func (c *Cells) addOthers(b *vector.Batch) {
	for i, s := range b.Shape {
		if s == vector.Full || s == vector.HasGaps {
			continue
		}
		_, k, h := b.Row(i)
		if s&vector.HasHistograms != 0 {
			c.addHistograms(k, h)
			continue
		}
		for j, x := range k {
			c.Count[j] += int64(x)
		}
		if c.Size != nil {
			for j, x := range k {
				c.Size[j] += int64(x)
			}
		}
	}
}

func (c *Cells) addHistograms(k []vector.Kind, h []*histogram.FloatHistogram) {
	if c.Size == nil {
		c.Size, c.Rest = make([]int64, len(c.Count)), make([]int64, len(c.Count))
		copy(c.Size, c.Count)
	}
	for j, x := range k {
		switch x {
		case vector.Float:
			c.Count[j]++
			c.Size[j]++
		case vector.Histogram:
			c.Count[j]++
			c.Size[j] += Weight(h[j])
			if h[j].Size()%16 == 0 {
				c.Rest[j]++
			}
		case vector.Absent:
		}
	}
}

// Weight returns for how many samples a histogram counts.
func Weight(h *histogram.FloatHistogram) int64 { return int64((h.Size() + 8) / 16) }

// merge adds the cells of o, and empties it.
func (c *Cells) merge(o *Cells) {
	if o.Size != nil && c.Size == nil {
		c.Size, c.Rest = make([]int64, len(o.Size)), make([]int64, len(o.Size))
		copy(c.Size, c.Count)
	}
	if o.Count != nil && c.Count == nil {
		c.Count = make([]int64, len(o.Count))
	}
	sizes := o.Size
	if sizes == nil {
		sizes = o.Count
	}
	for i := range sizes {
		c.Count[i] += o.Count[i]
		if c.Size != nil {
			c.Size[i] += sizes[i]
		}
	}
	for i, n := range o.Rest {
		c.Rest[i] += n
	}
	c.Every += o.Every
	o.Every = 0
	clear(o.Count)
	clear(o.Size)
	clear(o.Rest)
}

// Meter counts what a node yields. Each cursor counts for itself and adds up when it is closed.
type Meter struct {
	env   *Env
	reads bool // the node reads samples
	light bool // what the node yields does not count against the limit
	held  atomic.Int64

	mu     sync.Mutex
	cells  Cells   // guarded by mu
	spare  []Cells // guarded by mu
	memory int64   // guarded by mu
}

// NewMeter returns a meter. reads: the node is a selector, whose cells are samples read.
func NewMeter(env *Env, reads bool) *Meter { return &Meter{env: env, reads: reads} }

// NewLightMeter returns the meter of a node whose values Prometheus' engine forgets to count: a smoothed selector.
func NewLightMeter(env *Env) *Meter { return &Meter{env: env, light: true} }

// Cells returns what was counted. The cursors have to be closed before.
func (m *Meter) Cells() *Cells {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &m.cells
}

// Node returns n with its cells counted.
func (m *Meter) Node(n Node) Node {
	return wrap(n, func(c Cursor) Cursor { return m.cursor(c) }, m.free)
}

func (m *Meter) free() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.env.Account.Release(m.memory)
	m.memory = 0
}

// reserve charges for the counts of a cursor, of all steps.
func (m *Meter) reserve(steps int) error {
	bytes := int64(steps) * 48 // the three columns, those of the sum included
	if err := m.env.Account.Reserve(bytes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.memory += bytes
	return nil
}

func (m *Meter) cursor(in Cursor) *meterCursor {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &meterCursor{in: in, meter: m}
	if n := len(m.spare); n > 0 {
		c.cells, m.spare = m.spare[n-1], m.spare[:n-1]
	}
	return c
}

func (m *Meter) take(c *Cells) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cells.merge(c)
	if c.Count != nil {
		m.spare = append(m.spare, *c)
	}
}

type meterCursor struct {
	in    Cursor
	meter *Meter
	cells Cells
}

// Next implements Cursor.
func (c *meterCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	ok, err := c.in.Next(ctx, b)
	if !ok || err != nil {
		return ok, err
	}
	before := c.cells.Every
	rest := c.cells.addFull(b)
	if rest && c.cells.Count == nil {
		if err := c.meter.reserve(b.Steps); err != nil {
			return false, err
		}
		c.cells.Count = make([]int64, b.Steps)
	}
	if rest {
		c.cells.addOthers(b)
	}
	return true, c.meter.look((c.cells.Every - before) * int64(b.Steps))
}

// look tells the statistics of n more cells. Prometheus holds all values of a node at once, so they have to be within
// the limit.
func (m *Meter) look(n int64) error {
	if m.light {
		return nil
	}
	held, seen := m.held.Add(n), n
	if !m.reads {
		seen = 0
	}
	return m.env.Samples.see(seen, held)
}

// Close implements Cursor.
func (c *meterCursor) Close() {
	c.in.Close()
	if c.meter != nil {
		c.meter.take(&c.cells)
		c.meter = nil
	}
}

// wrap returns n with its cursors wrapped, and still annotated if it was. free is called when it is closed.
func wrap(n Node, cursor func(Cursor) Cursor, free func()) Node {
	w := &wrapped{Node: n, wrap: cursor, free: free}
	if a, ok := n.(Annotated); ok {
		return &wrappedAnnotated{w, a}
	}
	return w
}

type wrapped struct {
	Node
	wrap func(Cursor) Cursor
	free func()
}

// Cursor implements Node.
func (w *wrapped) Cursor(ids []uint32) Cursor { return w.wrap(w.Node.Cursor(ids)) }

// Close implements Node.
func (w *wrapped) Close() {
	w.Node.Close()
	w.free()
}

type wrappedAnnotated struct {
	*wrapped
	notes Annotated
}

// Notes implements Annotated.
func (w *wrappedAnnotated) Notes() *Notes { return w.notes.Notes() }
