// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
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
	last  *histogram.FloatHistogram   // the one put last
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
	if h != nil && h != s.last {
		if err := s.held.Charge(int64(h.Size())); err != nil {
			return err
		}
		s.last = h
	}
	if n := len(s.v) - 1 - len(s.h); n > 0 {
		if s.h, err = retain.Extend(s.held, s.h, n); err != nil {
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
func (s *sparse) name(g *grouping) (err error) {
	if s.table, err = take(s.held, g.in, s.ids); err != nil {
		return err
	}
	s.table.Distinct = g.in.Distinct
	return nil
}

// reorder puts rows of one entry each into another order: row of[i].id becomes row i. What says where they end and at
// which step they are is the same for all.
func (s *sparse) reorder(env *operator.Env, of []ranked) error {
	ids, err := retain.Make[uint32](s.held, len(of))
	if err != nil {
		return err
	}
	v, err := retain.Make[float64](s.held, len(of))
	if err != nil {
		return err
	}
	var h []*histogram.FloatHistogram
	if s.h != nil {
		if h, err = retain.Make[*histogram.FloatHistogram](s.held, len(of)); err != nil {
			return err
		}
	}
	for from, to := range env.Runs(len(of)) {
		for i, e := range of[from:to] {
			ids[from+i], v[from+i] = s.ids[e.id], s.v[e.id]
			if h != nil {
				h[from+i] = s.h[e.id]
			}
		}
	}
	retain.Drop(s.held, s.ids)
	retain.Drop(s.held, s.v)
	retain.Drop(s.held, s.h)
	s.ids, s.v, s.h = ids, v, h
	return env.Check()
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
