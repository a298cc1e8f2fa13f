// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
)

// histograms are the sums or averages of native histograms, by cell.
type histograms struct {
	*state
	average bool
	cells   []*histogramSum // nil before the first histogram
	charged int64           // for the histograms, to keep
	adder   adder
}

type histogramSum struct {
	value *histogram.FloatHistogram
	mean  *histogram.FloatHistogram // of an average whose sum overflowed
	c     *histogram.FloatHistogram // what rounding took; nil: nothing yet
	n     float64
	// most is what no number of the sum exceeds, of an average.
	most float64
	// Counter reset hints that were seen.
	reset, noReset bool
}

// reset lets go of all histograms. Those of a result stay charged until settle.
func (s *histograms) reset() {
	clear(s.cells)
	s.given += s.charged
	s.charged = 0
}

// add adds a histogram to a cell. After a float there is nothing to add to, because the result is none.
func (s *histograms) add(cell int, h *histogram.FloatHistogram, id uint32, afterFloat bool) error {
	if s.cells == nil {
		var err error
		if s.cells, err = retain.Make[*histogramSum](s.held, len(s.mark)); err != nil {
			return err
		}
	}
	x := s.cells[cell]
	if x == nil {
		if afterFloat {
			return nil
		}
		// The sum, and what rounding takes from it later.
		if err := s.charge(2*h.Size() + 64); err != nil {
			return err
		}
		x = &histogramSum{value: h.Copy(), n: 1}
		s.cells[cell] = x
		if s.average {
			x.most = magnitude(h)
		}
		x.hint(h)
		return nil
	}
	x.hint(h)
	x.n++
	size := len(x.value.PositiveBuckets) + len(x.value.NegativeBuckets)
	var reconciled bool
	var err error
	if s.average {
		x.most += magnitude(h)
	}
	if s.average && !(x.most < safe) {
		if x.mean == nil {
			if err := s.charge(2 * x.value.Size()); err != nil { // the mean, and what tells that it is needed
				return err
			}
		}
		reconciled, err = x.addToMean(h)
	} else {
		x.c, reconciled, err = s.adder.add(x.value, x.c, h)
	}
	if grown := len(x.value.PositiveBuckets) + len(x.value.NegativeBuckets) - size; grown > 0 {
		if err := s.charge(2 * 16 * grown); err != nil {
			return err
		}
	}
	if err != nil {
		s.incompatible(err, id)
		s.mark[cell] |= broken
		s.spoilt = true
	}
	if reconciled {
		s.notes.Add(SlotInput, "reconciled", "", func(p posrange.PositionRange) error {
			return annotations.NewMismatchedCustomBucketsHistogramsInfo(p, annotations.HistogramAgg)
		})
	}
	return nil
}

// safe is what sums stay clear of overflow below.
const safe = math.MaxFloat64 / 2

// charge charges for histograms that stay.
func (s *histograms) charge(bytes int) error {
	if err := s.keep.Charge(int64(bytes)); err != nil {
		return err
	}
	s.charged += int64(bytes)
	return nil
}

func (s *histograms) incompatible(err error, id uint32) {
	if !errors.Is(err, histogram.ErrHistogramsIncompatibleSchema) {
		return
	}
	name := s.in.Value(id, labels.MetricName)
	s.notes.Add(SlotInput, "schemas", name, func(p posrange.PositionRange) error {
		return annotations.NewMixedExponentialCustomHistogramsWarning(name, p)
	})
}

func (x *histogramSum) hint(h *histogram.FloatHistogram) {
	switch h.CounterResetHint {
	case histogram.CounterReset:
		x.reset = true
	case histogram.NotCounterReset:
		x.noReset = true
	default:
	}
}

// addToMean adds a histogram to the sum, or once that would overflow to the mean. x.n counts the histogram already.
func (x *histogramSum) addToMean(h *histogram.FloatHistogram) (reconciled bool, err error) {
	var early bool
	if x.mean == nil {
		v, c := x.value.Copy(), x.c
		if c != nil {
			c = c.Copy()
		}
		c, _, early, err = v.KahanAdd(h, c)
		if err != nil {
			return false, err
		}
		if !v.HasOverflow() {
			x.value, x.c = v, c
			return early, nil
		}
		x.mean = x.value.Copy().Div(x.n - 1)
		if x.c != nil {
			x.c.Div(x.n - 1)
		}
	}
	q := (x.n - 1) / x.n
	if x.c != nil {
		x.c.Mul(q)
	}
	x.c, _, reconciled, err = x.mean.Mul(q).KahanAdd(h.Copy().Div(x.n), x.c)
	return early || reconciled, err
}

// finish writes the result of a cell that has a histogram.
func (s *histograms) finish(cell, step int, float bool, to out) {
	if float {
		s.notes.Add(SlotInput, "mixed", "", annotations.NewMixedFloatsHistogramsAggWarning)
		return
	}
	if s.mark[cell]&broken != 0 {
		return
	}
	x := s.cells[cell]
	to.h(step, x.result(s.average))
	if x.reset && x.noReset {
		s.notes.Add(SlotInput, "collision", "", func(p posrange.PositionRange) error {
			return annotations.NewHistogramCounterResetCollisionWarning(p, annotations.HistogramAgg)
		})
	}
}

func (x *histogramSum) result(average bool) *histogram.FloatHistogram {
	value, c := x.value, x.c
	switch {
	case x.mean != nil:
		value = x.mean
	case average:
		value.Div(x.n)
		if c != nil {
			c.Div(x.n)
		}
	}
	if c != nil {
		// The two have one layout by now, so that this cannot fail.
		if sum, _, _, err := value.Add(c); err == nil {
			value = sum
		}
	}
	return value.Compact(0)
}
