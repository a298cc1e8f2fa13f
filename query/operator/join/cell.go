// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"errors"
	"math"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// cell is a value of one operand, of the kind that it says.
type cell struct {
	kind vector.Kind
	v    float64
	h    *histogram.FloatHistogram
}

// fault is what can be said about one pair of cells. The zero value: nothing.
type fault uint8

const (
	fine fault = iota
	floatFloat
	floatHistogram
	histogramFloat
	histogramHistogram
	layout
	unspoken // an error without an annotation
	collidingAdd
	collidingSub
	reconciledAdd
	reconciledSub
)

// fails tells whether the pair has no result, and does not even count as matched.
func (f fault) fails() bool { return f != fine && f < reconciledAdd }

// compute is the slow path for one pair of cells: at least one of them is a histogram, or op is none for floats, or
// cells come one by one. keep is false where a comparison does not hold.
func (o *operation) compute(l, r cell) (v float64, h *histogram.FloatHistogram, keep bool, f fault) {
	switch {
	case l.kind == vector.Float && r.kind == vector.Float:
		v, keep, f = o.floats(l.v, r.v)
	case l.kind == vector.Float:
		if o.op != parser.MUL {
			return 0, nil, false, floatHistogram
		}
		h, keep = r.h.Copy().Mul(l.v).Compact(0), true
	case r.kind == vector.Float:
		h, keep, f = scale(o.op, l.h, r.v)
	default:
		h, keep, f = combine(o.op, l.h, r.h)
	}
	if f.fails() || !o.truth {
		return v, h, keep, f
	}
	if keep {
		return 1, nil, true, f
	}
	return 0, nil, true, f
}

// floats computes two floats.
func (o *operation) floats(l, r float64) (v float64, keep bool, f fault) {
	switch o.op {
	case parser.ADD:
		return l + r, true, fine
	case parser.SUB:
		return l - r, true, fine
	case parser.MUL:
		return l * r, true, fine
	case parser.DIV:
		return l / r, true, fine
	case parser.POW:
		return math.Pow(l, r), true, fine
	case parser.MOD:
		return math.Mod(l, r), true, fine
	case parser.ATAN2:
		return math.Atan2(l, r), true, fine
	case parser.EQLC:
		return l, l == r, fine
	case parser.NEQ:
		return l, l != r, fine
	case parser.GTR:
		return l, l > r, fine
	case parser.GTE:
		return l, l >= r, fine
	case parser.LSS:
		return l, l < r, fine
	case parser.LTE:
		return l, l <= r, fine
	default:
		return 0, false, floatFloat
	}
}

// scale computes a histogram with a float on the right.
func scale(op parser.ItemType, h *histogram.FloatHistogram, r float64) (*histogram.FloatHistogram, bool, fault) {
	switch op {
	case parser.MUL:
		return h.Copy().Mul(r).Compact(0), true, fine
	case parser.DIV:
		return h.Copy().Div(r).Compact(0), true, fine
	case parser.TRIM_UPPER:
		return h.Copy().TrimBuckets(r, true), true, fine
	case parser.TRIM_LOWER:
		return h.Copy().TrimBuckets(r, false), true, fine
	default:
		return nil, false, histogramFloat
	}
}

// combine computes two histograms.
func combine(op parser.ItemType, l, r *histogram.FloatHistogram) (*histogram.FloatHistogram, bool, fault) {
	switch op {
	case parser.ADD:
		h, collision, reconciled, err := l.Copy().Add(r)
		return sum{h, collision, reconciled, err}.result(collidingAdd, reconciledAdd)
	case parser.SUB:
		h, collision, reconciled, err := l.Copy().Sub(r)
		if err == nil {
			h.CounterResetHint = histogram.GaugeType
		}
		return sum{h, collision, reconciled, err}.result(collidingSub, reconciledSub)
	case parser.EQLC:
		return l, l.Equals(r), fine
	case parser.NEQ:
		return l, !l.Equals(r), fine
	default:
		return nil, false, histogramHistogram
	}
}

// sum is what adding or subtracting histograms gave.
type sum struct {
	h                     *histogram.FloatHistogram
	collision, reconciled bool
	err                   error
}

func (s sum) result(colliding, reconciled fault) (*histogram.FloatHistogram, bool, fault) {
	switch {
	case errors.Is(s.err, histogram.ErrHistogramsIncompatibleSchema):
		return nil, false, layout
	case s.err != nil:
		return nil, false, unspoken
	case s.collision:
		// Prometheus' engine takes this warning for an error: no result.
		return nil, false, colliding
	case s.reconciled:
		return s.h.Compact(0), true, reconciled
	default:
		return s.h.Compact(0), true, fine
	}
}

// annotation returns what there is to say, nil for nothing.
func (f fault) annotation(op parser.ItemType) func(posrange.PositionRange) error {
	text := parser.ItemTypeStr[op]
	types := func(l, r string) func(posrange.PositionRange) error {
		return func(at posrange.PositionRange) error {
			return annotations.NewIncompatibleTypesInBinOpInfo(l, text, r, at)
		}
	}
	switch f {
	case floatFloat:
		return types("float", "float")
	case floatHistogram:
		return types("float", "histogram")
	case histogramFloat:
		return types("histogram", "float")
	case histogramHistogram:
		return types("histogram", "histogram")
	case layout:
		return func(at posrange.PositionRange) error {
			return annotations.NewIncompatibleBucketLayoutInBinOpWarning(text, at)
		}
	case collidingAdd, collidingSub:
		return func(at posrange.PositionRange) error {
			return annotations.NewHistogramCounterResetCollisionWarning(at, f.operation())
		}
	case reconciledAdd, reconciledSub:
		return func(at posrange.PositionRange) error {
			return annotations.NewMismatchedCustomBucketsHistogramsInfo(at, f.operation())
		}
	default:
		return nil
	}
}

func (f fault) operation() annotations.HistogramOperation {
	if f == collidingAdd || f == reconciledAdd {
		return annotations.HistogramAdd
	}
	return annotations.HistogramSub
}

// faults keeps the last fault of each step: of the pairs of one step, Prometheus' engine reports the last. Safe for
// concurrent use.
type faults struct {
	mu    sync.Mutex
	steps []lastFault // nil while there is none
}

type lastFault struct {
	order uint32
	fault fault
}

// set notes a fault of step i of n. order is that of the pair among those of the step.
func (s *faults) set(n, i int, order uint32, f fault) {
	if f == fine {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.steps == nil {
		s.steps = make([]lastFault, n)
	}
	if at := &s.steps[i]; at.fault == fine || order >= at.order {
		*at = lastFault{order, f}
	}
}

// addTo adds what is to be reported.
func (s *faults) addTo(notes *operator.Notes, op parser.ItemType) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seen [reconciledSub + 1]bool
	for _, x := range s.steps {
		if seen[x.fault] {
			continue
		}
		seen[x.fault] = true
		if f := x.fault.annotation(op); f != nil {
			notes.Add(0, "binary", string('a'+rune(x.fault)), f)
		}
	}
}
