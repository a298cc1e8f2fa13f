// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// sparse is a result of which most cells are absent: those that are not, row by row.
type sparse struct {
	held  *retain.Memory
	table *vector.Table
	steps int
	ids   []uint32 // of the input, by row
	ends  []int    // of the entries of a row, which begin where those of the row before end
	step  []uint32
	v     []float64
	h     []*histogram.FloatHistogram // nil while there is none, else as long as v
}

func newSparse(h *retain.Memory, steps int) *sparse { return &sparse{held: h, steps: steps} }

// end returns where the entries of the first n rows end.
func (s *sparse) end(n int) int {
	if n == 0 {
		return 0
	}
	return s.ends[n-1]
}

// put adds an entry to the row being written.
func (s *sparse) put(step int, v float64, h *histogram.FloatHistogram) error {
	var err error
	if s.step, err = retain.Push(s.held, s.step, uint32(step)); err != nil {
		return err
	}
	if s.v, err = retain.Push(s.held, s.v, v); err != nil {
		return err
	}
	if h == nil && s.h == nil {
		return nil
	}
	for len(s.h) < len(s.v)-1 {
		if s.h, err = retain.Push(s.held, s.h, nil); err != nil {
			return err
		}
	}
	s.h, err = retain.Push(s.held, s.h, h)
	return err
}

// close ends a row, which is of the series id of the input. A row without entries is none.
func (s *sparse) close(id uint32) error {
	if s.end(len(s.ids)) == len(s.v) {
		return nil
	}
	var err error
	if s.ids, err = retain.Push(s.held, s.ids, id); err != nil {
		return err
	}
	s.ends, err = retain.Push(s.held, s.ends, len(s.v))
	return err
}

// name names the rows, which all are there.
func (s *sparse) name(g *grouping) {
	s.table = g.in.Take(s.ids)
	s.table.Distinct = g.in.Distinct
}

// reorder puts rows into another order: of[i] is the row that becomes row i.
func (s *sparse) reorder(of []int) {
	n := *s
	n.ends, n.ids, n.step, n.v, n.h = nil, nil, nil, nil, nil
	for _, r := range of {
		from, to := s.end(r), s.end(r+1)
		n.ids = append(n.ids, s.ids[r])
		n.step, n.v = append(n.step, s.step[from:to]...), append(n.v, s.v[from:to]...)
		if s.h != nil {
			n.h = append(n.h, s.h[from:to]...)
		}
		n.ends = append(n.ends, len(n.v))
	}
	*s = n
}

func (s *sparse) Table() *vector.Table { return s.table }
func (s *sparse) Histograms() bool     { return s.h != nil }

func (s *sparse) Cells(id uint32, v []float64, k []vector.Kind, h []*histogram.FloatHistogram) vector.Shape {
	from, to := s.end(int(id)), s.end(int(id)+1)
	var shape vector.Shape
	for e := from; e < to; e++ {
		i := s.step[e]
		if s.h != nil && s.h[e] != nil {
			h[i], k[i] = s.h[e], vector.Histogram
			shape |= vector.HasHistograms
			continue
		}
		v[i], k[i] = s.v[e], vector.Float
		shape |= vector.HasFloats
	}
	if to-from < s.steps {
		shape |= vector.HasGaps
	}
	return shape
}
