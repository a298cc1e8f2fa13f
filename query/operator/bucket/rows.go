// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// rows is the result: per value of a parameter one row per histogram. Histograms are the families, then the native
// ones that have a label le.
type rows struct {
	memory *retain.Memory
	steps  int
	first  []uint32 // row of the input, by histogram
	le     []bool   // whether a histogram keeps its le, by histogram
	parts  int      // how many different values of parameters there are
	part   [][]int  // of the i-th parameter at a step
	texts  []string // of the values, for the label; nil where there is none
	v      []float64
	k      []vector.Kind
	table  *vector.Table
	place  []int // where a row of the table is in v and k
}

func newRows(n *Node, first []uint32, params [][]float64) (*rows, error) {
	r := &rows{memory: &n.memory, steps: n.Grid().N, first: first, parts: 1}
	var err error
	if r.le, err = retain.Make[bool](r.memory, len(first)); err != nil {
		return nil, err
	}
	if n.cfg.Kind == Quantiles {
		// At a single step with delayed name removal Prometheus does not look for series that are the same.
		if err := r.split(params, n.Grid().Instant() && n.env.DelayedNameRemoval); err != nil {
			return nil, err
		}
	}
	return r, r.room(len(first))
}

// partBytes is about what a quantile takes until it is a label: its text, and an entry of a map.
const partBytes = 100

// split numbers the different quantiles; twins: the same one given twice is two.
func (r *rows) split(params [][]float64, twins bool) (err error) {
	seen := map[uint64]int{}
	r.part = make([][]int, len(params))
	for i, p := range params {
		if r.part[i], err = retain.Make[int](r.memory, r.steps); err != nil {
			return err
		}
		for step, q := range p {
			key := math.Float64bits(q + 0) // -0 is 0
			if q != q {
				key = math.Float64bits(math.NaN())
			}
			at, ok := seen[key]
			if !ok || twins {
				if err := r.memory.Charge(partBytes); err != nil {
					return err
				}
				at = len(r.texts)
				seen[key] = at
				r.texts = append(r.texts, labels.FormatOpenMetricsFloat(q))
			}
			r.part[i][step] = at
		}
	}
	r.parts = len(r.texts)
	return nil
}

// room makes room for n histograms in all. Those that come later have their cells behind.
func (r *rows) room(n int) error {
	cells := n * r.parts * r.steps
	var err error
	if r.v, err = retain.Extend(r.memory, r.v, cells-len(r.v)); err != nil {
		return err
	}
	r.k, err = retain.Extend(r.memory, r.k, cells-len(r.k))
	return err
}

// alone adds a histogram that keeps its le and returns its number.
func (r *rows) alone(row uint32) (int, error) {
	at := len(r.first)
	var err error
	if r.first, err = retain.Push(r.memory, r.first, row); err != nil {
		return 0, err
	}
	if r.le, err = retain.Push(r.memory, r.le, true); err != nil {
		return 0, err
	}
	if err := r.room(at + 1); err != nil {
		return 0, err
	}
	return at, nil
}

// set writes what the i-th parameter gives for a histogram at a step.
func (r *rows) set(at, i, step int, v float64) error {
	part := 0
	if r.part != nil {
		part = r.part[i][step]
	}
	cell := (at*r.parts+part)*r.steps + step
	if r.k[cell] != vector.Absent {
		return errSameLabels()
	}
	r.v[cell], r.k[cell] = v, vector.Float
	return nil
}

// finish names the rows: all histograms of the first quantile, then those of the next.
func (r *rows) finish(n *Node) error {
	in := n.cfg.Input.Table()
	count := len(r.first)
	// The rows of the input, their le, the columns, the marks and places, and the column of the quantiles.
	if err := n.memory.Charge(int64(count*r.parts) * int64(4+4+4*len(in.Names)+1+8+4)); err != nil {
		return err
	}
	ids := make([]uint32, 0, count*r.parts)
	les := make([]uint32, 0, count*r.parts)
	r.place = make([]int, 0, count*r.parts)
	column, keeps := in.Column(labels.BucketLabel), false
	for part := range r.parts {
		if err := n.env.Check(); err != nil {
			return err
		}
		for at, id := range r.first {
			ids = append(ids, id)
			r.place = append(r.place, at*r.parts+part)
			le := uint32(0)
			if r.le[at] {
				le, keeps = column[id], true
			}
			les = append(les, le)
		}
	}
	t := in.Without(labels.BucketLabel).Take(ids)
	t.Drop = nil
	if keeps {
		t = t.With(labels.BucketLabel, les)
	}
	t.Distinct = r.parts == 1
	if n.env.DelayedNameRemoval {
		t = t.WithDrop(true)
	} else {
		t = t.Without(metadataLabels()...)
	}
	if r.texts != nil {
		fresh := t.Column(n.cfg.Label) == nil
		col, err := r.symbols(n.env.Dict, count)
		if err != nil {
			return err
		}
		t = t.With(n.cfg.Label, col)
		t.Distinct = fresh && n.env.DelayedNameRemoval && r.steps > 1
	}
	r.table = t
	return nil
}

// symbols returns the column of the quantiles.
func (r *rows) symbols(d *vector.Dict, count int) ([]uint32, error) {
	col := make([]uint32, 0, count*r.parts)
	for _, text := range r.texts {
		sym, err := d.Symbol(text)
		if err != nil {
			return nil, err
		}
		for range count {
			col = append(col, sym)
		}
	}
	return col, nil
}

// Table implements retain.Rows.
func (r *rows) Table() *vector.Table { return r.table }

// Histograms implements retain.Rows.
func (*rows) Histograms() bool { return false }

// Cells implements retain.Rows.
func (r *rows) Cells(id uint32, v []float64, k []vector.Kind, _ []*histogram.FloatHistogram) vector.Shape {
	from := r.place[id] * r.steps
	copy(v, r.v[from:from+r.steps])
	copy(k, r.k[from:from+r.steps])
	return retain.ShapeOf(k)
}
