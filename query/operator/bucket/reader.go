// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// reader takes in the rows of the input, family by family.
type reader struct {
	node   *Node
	in     *vector.Table
	steps  int
	of     []uint32 // family of a row
	order  []uint32 // the rows family by family; nil: they are so already
	bounds *bounds
	rows   *rows
	params [][]float64
	family family
	work   int // buckets looked at since the query was last asked whether to stop
}

// family is the one being read.
type family struct {
	id     uint32
	inside bool // id counts
	les    []uint32
	values []float64     // of the buckets, row by row
	kinds  []vector.Kind // of the buckets, row by row
	gaps   bool          // not all kinds are floats
	native []*histogram.FloatHistogram
	held   int64 // charged for the histograms of native
	solo   bool  // native counts
	first  uint32
	shape  shape
	// Of one step.
	uppers, counts []float64
	scratch        []float64 // for uppers
	buckets        promql.Buckets
}

func newReader(n *Node) (*reader, error) {
	in := n.cfg.Input.Table()
	r := &reader{node: n, in: in, steps: n.Grid().N, bounds: newBounds(&n.memory, in)}
	if err := n.memory.Charge(int64(in.N) * 16); err != nil { // the family, its first row, where it goes and the order
		return nil, err
	}
	var first []uint32
	var err error
	if r.of, first, err = in.Without(labels.BucketLabel).Groups(); err != nil {
		return nil, err
	}
	r.order = byFamily(r.of, len(first))
	for _, p := range n.cfg.Params {
		r.params = append(r.params, p.Values())
	}
	r.rows, err = newRows(n, first, r.params)
	return r, err
}

// byFamily returns the rows sorted by family, in their order within one; nil if they are.
func byFamily(of []uint32, families int) []uint32 {
	sorted := true
	next := make([]uint32, families+1)
	for i, f := range of {
		sorted = sorted && (i == 0 || of[i-1] <= f)
		next[f+1]++
	}
	if sorted {
		return nil
	}
	for f := range families {
		next[f+1] += next[f]
	}
	order := make([]uint32, len(of))
	for row, f := range of {
		order[next[f]] = uint32(row)
		next[f]++
	}
	return order
}

// add takes in a batch; see Env.Drain.
func (r *reader) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		if b.Shape[i] == vector.HasGaps {
			continue
		}
		if f := r.of[id]; !r.family.inside || f != r.family.id {
			if err := r.end(); err != nil {
				return err
			}
			r.begin(f, id)
		}
		if err := r.addRow(id, b, i); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) begin(id, first uint32) {
	f := &r.family
	f.id, f.inside, f.gaps, f.solo, f.first = id, true, false, false, first
	f.les, f.values, f.kinds = f.les[:0], f.values[:0], f.kinds[:0]
}

func (r *reader) addRow(id uint32, b *vector.Batch, i int) error {
	v, k, h := b.Row(i)
	if b.Shape[i]&vector.HasHistograms != 0 {
		if err := r.addNative(id, k, h); err != nil {
			return err
		}
	}
	if b.Shape[i]&vector.HasFloats == 0 {
		return nil
	}
	le := r.bounds.symbol(id)
	f := &r.family
	if !f.shape.expects(le, len(f.les)) {
		b, err := r.bounds.parse(le)
		if err != nil {
			return err
		}
		if !b.ok {
			r.node.noteBadBound(r.in.Value(id, labels.MetricName), r.in.Dict.Text(le))
			return nil
		}
	}
	if n := len(f.values) + len(v); n > cap(f.values) || len(f.les) == cap(f.les) {
		if err := r.grow(n); err != nil {
			return err
		}
	}
	f.les = append(f.les, le)
	f.values, f.kinds = append(f.values, v...), append(f.kinds, k...)
	f.gaps = f.gaps || b.Shape[i] != vector.Full
	return nil
}

// bucketBytes is what a bucket of a family takes beside its cells: its le, its place in the shape, twice its bound and
// its count, in each of the forms that they have for a step.
const bucketBytes = 4 + 4 + 8 + 2*8 + 8 + 16

// grow makes room for n cells of buckets, and one more bucket.
func (r *reader) grow(n int) error {
	f, m := &r.family, &r.node.memory
	if len(f.les) == cap(f.les) {
		more := max(16, cap(f.les)/2)
		if err := m.Charge(int64(more) * bucketBytes); err != nil {
			return err
		}
		les := make([]uint32, len(f.les), cap(f.les)+more)
		copy(les, f.les)
		f.les = les
	}
	have := len(f.values)
	values, err := retain.Extend(m, f.values, n-have)
	if err != nil {
		return err
	}
	kinds, err := retain.Extend(m, f.kinds, n-have)
	f.values, f.kinds = values[:have], kinds[:have]
	return err
}

// addNative takes in native histograms. A row that has le besides is no part of a classic histogram: it stands alone.
func (r *reader) addNative(id uint32, k []vector.Kind, h []*histogram.FloatHistogram) error {
	if r.bounds.symbol(id) != 0 {
		at, err := r.rows.alone(id)
		if err != nil {
			return err
		}
		for step, kind := range k {
			if kind == vector.Histogram {
				if err := r.native(at, step, h[step], r.name(id)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	f := &r.family
	if f.native == nil {
		var err error
		if f.native, err = retain.Make[*histogram.FloatHistogram](&r.node.memory, r.steps); err != nil {
			return err
		}
	}
	m := &r.node.memory
	bytes := vector.HistogramBytes(k, h)
	if err := m.Charge(bytes); err != nil {
		return err
	}
	m.Refund(f.held)
	f.held = bytes
	f.solo = true
	for step, kind := range k {
		f.native[step] = nil
		if kind == vector.Histogram {
			f.native[step] = h[step]
		}
	}
	return nil
}

// name returns the metric name that annotations have: none when it is gone already.
func (r *reader) name(row uint32) string {
	if !r.node.env.DelayedNameRemoval {
		return ""
	}
	return r.in.Value(row, labels.MetricName)
}
