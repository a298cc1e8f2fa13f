// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package retain

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// Dense is rows that have all of their cells, in flat arrays.
type Dense struct {
	Names *vector.Table

	memory *Memory
	steps  int
	v      []float64
	k      []vector.Kind
	h      []*histogram.FloatHistogram // nil while there is none
	shape  []vector.Shape
}

// NewDense returns rows whose cells are all absent.
func NewDense(m *Memory, rows, steps int) (*Dense, error) {
	d := &Dense{memory: m, steps: steps}
	var err error
	if d.v, err = Make[float64](m, rows*steps); err != nil {
		return nil, err
	}
	if d.k, err = Make[vector.Kind](m, rows*steps); err != nil {
		return nil, err
	}
	if d.shape, err = Make[vector.Shape](m, rows); err != nil {
		return nil, err
	}
	for i := range d.shape {
		d.shape[i] = vector.HasGaps
	}
	return d, nil
}

// Row returns the cells of row i, to be written. Measure has to follow.
func (d *Dense) Row(i int) (v []float64, k []vector.Kind) {
	from, to := i*d.steps, (i+1)*d.steps
	return d.v[from:to:to], d.k[from:to:to]
}

// SetHistogram writes a cell of row i.
func (d *Dense) SetHistogram(i, step int, h *histogram.FloatHistogram) error {
	if d.h == nil {
		var err error
		if d.h, err = Make[*histogram.FloatHistogram](d.memory, len(d.v)); err != nil {
			return err
		}
	}
	d.h[i*d.steps+step], d.k[i*d.steps+step] = h, vector.Histogram
	return nil
}

// Measure finds out the shape of row i.
func (d *Dense) Measure(i int) {
	_, k := d.Row(i)
	d.shape[i] = ShapeOf(k)
}

// ShapeOf returns the shape of a row of cells.
func ShapeOf(kinds []vector.Kind) vector.Shape {
	var seen [3]bool
	for _, k := range kinds {
		seen[k] = true
	}
	var s vector.Shape
	if seen[vector.Absent] {
		s |= vector.HasGaps
	}
	if seen[vector.Float] {
		s |= vector.HasFloats
	}
	if seen[vector.Histogram] {
		s |= vector.HasHistograms
	}
	return s
}

// Table implements Rows.
func (d *Dense) Table() *vector.Table { return d.Names }

// Histograms implements Rows.
func (d *Dense) Histograms() bool { return d.h != nil }

// Cells implements Rows.
func (d *Dense) Cells(id uint32, v []float64, k []vector.Kind, h []*histogram.FloatHistogram) vector.Shape {
	from, to := int(id)*d.steps, (int(id)+1)*d.steps
	copy(v, d.v[from:to])
	copy(k, d.k[from:to])
	if d.h != nil {
		copy(h, d.h[from:to])
	}
	return d.shape[id]
}
