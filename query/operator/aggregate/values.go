// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// values is count_values: a row of counts for every value that a group has at any step.
type values struct {
	node  *node
	group *grouping
	steps int
	// named: the value is a label of the result. It is not when the aggregation is without that label.
	named bool
	rows  []valueRow
	// slots finds the row of a float, by open addressing: its number plus 1, 0 where there is none. texts finds that of
	// a histogram.
	slots []uint32
	texts map[valueKey]uint32
	// few are the counts of rows that have a value at few steps, as most have where values hardly ever repeat.
	few []fewCounts
}

// valueKey is a histogram of a group.
type valueKey struct {
	group uint32
	text  string
}

// valueRow is a value of a group. Its counts are a list in values.few, the last one first, until there are too many.
type valueRow struct {
	group  uint32
	listed uint32 // in few
	head   uint32 // the last of them, plus 1
	bits   uint64
	text   string   // of a histogram
	counts []uint32 // per step; nil while they are in few
}

type fewCounts struct {
	step, n, next uint32
}

const (
	maxFew     = 8
	firstSlots = 64
	// textRowBytes is about what a histogram's entry of the map takes beside its text.
	textRowBytes = 64
)

func newValues(n *node) *values {
	named := !n.cfg.Without || n.cfg.Label != labels.MetricName && !slices.Contains(n.cfg.Grouping, n.cfg.Label)
	return &values{node: n, group: n.group, steps: n.Grid().N, named: named, texts: map[valueKey]uint32{}}
}

func (x *values) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		g := x.group.of[id]
		if g == outside || b.Shape[i] == vector.HasGaps {
			continue
		}
		if err := x.addRow(g, b, i); err != nil {
			return err
		}
	}
	return nil
}

// addRow counts the values of a row, which often are the same from step to step.
func (x *values) addRow(g uint32, b *vector.Batch, i int) error {
	v, k, h := b.Row(i)
	var row uint32
	var bits uint64
	same := false // as at the step before: a float of these bits
	for step, kind := range k {
		if kind == vector.Absent {
			continue
		}
		if !same || kind != vector.Float || math.Float64bits(v[step]) != bits {
			var err error
			if same = kind == vector.Float; same {
				bits = math.Float64bits(v[step])
				row, err = x.float(g, v[step])
			} else {
				row, err = x.histogram(g, h[step])
			}
			if err != nil {
				return err
			}
		}
		if err := x.count(&x.rows[row], uint32(step)); err != nil {
			return err
		}
	}
	return nil
}

// float returns the row of a float.
func (x *values) float(g uint32, v float64) (uint32, error) {
	var bits uint64
	switch {
	case !x.named:
	case v != v:
		bits = math.Float64bits(math.NaN())
	default:
		bits = math.Float64bits(v)
	}
	if 2*len(x.rows) >= len(x.slots) {
		if err := x.enlarge(); err != nil {
			return 0, err
		}
	}
	slot := x.slot(g, bits)
	if *slot == 0 {
		if err := x.push(valueRow{group: g, bits: bits}); err != nil {
			return 0, err
		}
		*slot = uint32(len(x.rows))
	}
	return *slot - 1, nil
}

// slot returns where the row of a float is found, or is to be.
func (x *values) slot(g uint32, bits uint64) *uint32 {
	const golden = 0x9e3779b97f4a7c15
	at := (bits ^ uint64(g)<<17) * golden
	at ^= at >> 32
	for i := at & uint64(len(x.slots)-1); ; i = (i + 1) & uint64(len(x.slots)-1) {
		n := x.slots[i]
		if n == 0 {
			return &x.slots[i]
		}
		if r := &x.rows[n-1]; r.bits == bits && r.group == g && r.text == "" {
			return &x.slots[i]
		}
	}
}

// enlarge makes the table of floats twice as large.
func (x *values) enlarge() error {
	h := &x.node.held
	slots, err := retain.Make[uint32](h, max(firstSlots, 2*len(x.slots)))
	if err != nil {
		return err
	}
	retain.Drop(h, x.slots)
	x.slots = slots
	env := x.node.feed.env
	for from, to := range env.Runs(len(x.rows)) {
		for i := from; i < to; i++ {
			if r := &x.rows[i]; r.text == "" {
				*x.slot(r.group, r.bits) = uint32(i + 1)
			}
		}
	}
	return env.Check()
}

// histogram returns the row of a histogram.
func (x *values) histogram(g uint32, h *histogram.FloatHistogram) (uint32, error) {
	if err := x.node.feed.env.Check(); err != nil {
		return 0, err // a text takes as long as thousands of floats
	}
	key := valueKey{g, h.String()} // which some histograms have not: they fail, named or not
	if !x.named {
		return x.float(g, 0)
	}
	if n, ok := x.texts[key]; ok {
		return n, nil
	}
	if err := x.node.held.Charge(int64(len(key.text)) + textRowBytes); err != nil {
		return 0, err
	}
	if err := x.push(valueRow{group: g, text: key.text}); err != nil {
		return 0, err
	}
	n := uint32(len(x.rows) - 1)
	x.texts[key] = n
	return n, nil
}

func (x *values) push(r valueRow) (err error) {
	x.rows, err = retain.Push(&x.node.held, x.rows, r)
	return err
}

// count counts a value at a step.
func (x *values) count(r *valueRow, step uint32) (err error) {
	if r.counts != nil {
		r.counts[step]++
		return nil
	}
	for at := r.head; at != 0; at = x.few[at-1].next {
		if x.few[at-1].step == step {
			x.few[at-1].n++
			return nil
		}
	}
	if r.listed < maxFew {
		x.few, err = retain.Push(&x.node.held, x.few, fewCounts{step, 1, r.head})
		r.head, r.listed = uint32(len(x.few)), r.listed+1
		return err
	}
	if r.counts, err = retain.Make[uint32](&x.node.held, x.steps); err != nil {
		return err
	}
	for at := r.head; at != 0; at = x.few[at-1].next {
		r.counts[x.few[at-1].step] = x.few[at-1].n
	}
	r.counts[step]++
	return nil
}

func (x *values) end() (retain.Rows, error) {
	h := &x.node.held
	retain.Drop(h, x.slots)
	x.slots, x.texts = nil, nil
	s := newSparse(h, x.steps)
	first, err := retain.Make[uint32](h, len(x.rows))
	if err != nil {
		return nil, err
	}
	symbols, err := retain.Make[uint32](h, len(x.rows))
	if err != nil {
		return nil, err
	}
	for i := range x.rows {
		if err := x.node.feed.env.Check(); err != nil {
			return nil, err
		}
		r := &x.rows[i]
		first[i] = x.group.first[r.group]
		if err := x.write(s, r); err != nil {
			return nil, err
		}
		if err := s.close(first[i]); err != nil {
			return nil, err
		}
		if !x.named {
			continue
		}
		text := r.text
		if text == "" {
			text = strconv.FormatFloat(math.Float64frombits(r.bits), 'f', -1, 64)
		}
		if symbols[i], err = x.node.feed.env.Dict.Symbol(text); err != nil {
			return nil, err
		}
	}
	retain.Drop(h, x.few)
	retain.Drop(h, x.rows)
	x.few, x.rows = nil, nil
	if s.table, err = x.group.table(h, first, nil); err != nil {
		return nil, err
	}
	retain.Drop(h, first)
	if x.named { // else the table is distinct already
		s.table = s.table.With(x.node.cfg.Label, symbols)
		s.table.Distinct = true
	}
	return s, nil
}

// write puts the counts of a row, and gives back the memory they were in.
func (x *values) write(s *sparse, r *valueRow) error {
	if r.counts != nil {
		for step, n := range r.counts {
			if n == 0 {
				continue
			}
			if err := s.put(step, float64(n), nil); err != nil {
				return err
			}
		}
		retain.Drop(&x.node.held, r.counts)
		r.counts = nil
		return nil
	}
	var list [maxFew]fewCounts
	n := 0
	for at := r.head; at != 0; at = x.few[at-1].next {
		list[n] = x.few[at-1]
		n++
	}
	slices.SortFunc(list[:n], func(a, b fewCounts) int { return cmp.Compare(a.step, b.step) })
	for _, c := range list[:n] {
		if err := s.put(int(c.step), float64(c.n), nil); err != nil {
			return err
		}
	}
	return nil
}
