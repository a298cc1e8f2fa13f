// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Binary is an operator between a vector and a scalar.
type Binary struct {
	Op     parser.ItemType
	Vector operator.Node
	Scalar operator.Scalar
	// Swapped: the scalar stands on the left.
	Swapped bool
	// Bool is the modifier of a comparison.
	Bool bool
}

// NewBinary returns the node of b. Its annotations have one slot: 0 is the binary expression.
func NewBinary(env *operator.Env, b Binary) operator.Node {
	x := &binary{Binary: b}
	n := &x.rowwise
	*n = rowwise{env: env, in: b.Vector, args: []operator.Scalar{b.Scalar}, argsFirst: b.Swapped, bind: x.bind}
	if b.Bool || changesSchema(b.Op) {
		n.names = dropNames
	}
	if b.Swapped && trims(b.Op) {
		x.latest = &latest{op: b.Op}
		n.settle = x.latest.addTo
	}
	return NewMerge(env, n, PerStep)
}

// changesSchema tells whether the result of op is another metric.
func changesSchema(op parser.ItemType) bool {
	switch op {
	case parser.ADD, parser.SUB, parser.MUL, parser.DIV, parser.POW, parser.MOD, parser.ATAN2:
		return true
	default:
		return false
	}
}

func trims(op parser.ItemType) bool { return op == parser.TRIM_LOWER || op == parser.TRIM_UPPER }

type binary struct {
	Binary
	rowwise
	with   operand
	latest *latest // nil: notes are the same at every step
}

func (x *binary) bind() (kernel, error) {
	x.with = operandOf(x.Scalar)
	if trims(x.Op) {
		if x.latest != nil {
			if err := x.held.charge(int64(x.Grid().N) * cellAtBytes); err != nil {
				return nil, err
			}
		}
		return x.trim, nil
	}
	if f := arithmetic(x.Op, x.Swapped); f != nil {
		return func(w *work, b *vector.Batch) error {
			if err := x.with.each(w.env, b, f); err != nil {
				return err
			}
			if len(b.H) > 0 {
				return x.histograms(w, b)
			}
			return nil
		}, nil
	}
	f := comparisonOf(x.Op, x.Swapped)
	if f == nil {
		return nil, fmt.Errorf("operator %q not allowed for operations between Vectors", x.Op)
	}
	return func(w *work, b *vector.Batch) error {
		if shapes(b)&vector.HasHistograms != 0 {
			x.incompatible(histogramCell)
		}
		dropHistograms(b)
		if x.Bool {
			return truth(w.env, b, &x.with, f)
		}
		return filter(w.env, b, &x.with, f)
	}, nil
}

// histograms computes the histograms of a batch: those that cannot be are left out.
func (x *binary) histograms(w *work, b *vector.Batch) error {
	able := x.Op == parser.MUL || x.Op == parser.DIV && !x.Swapped
	if !able {
		if shapes(b)&vector.HasHistograms != 0 {
			x.incompatible(histogramCell)
		}
		dropHistograms(b)
		return nil
	}
	for i, s := range b.Shape {
		if s&vector.HasHistograms == 0 {
			continue
		}
		_, k, h := b.Row(i)
		for j := range k {
			if k[j] != vector.Histogram {
				continue
			}
			c, err := w.copyOf(h[j])
			if err != nil {
				return err
			}
			if x.Op == parser.MUL {
				h[j] = c.Mul(x.with.at(j)).Compact(0)
			} else {
				h[j] = c.Div(x.with.at(j)).Compact(0)
			}
		}
	}
	return nil
}

// trim cuts histograms off. Floats cannot be trimmed, and nothing is cut off a scalar.
func (x *binary) trim(w *work, b *vector.Batch) error {
	for i, s := range b.Shape {
		if s == vector.HasGaps {
			continue
		}
		_, k, h := b.Row(i)
		for j := range k {
			switch {
			case k[j] == vector.Histogram && !x.Swapped:
				c, err := w.copyOf(h[j])
				if err != nil {
					return err
				}
				h[j] = c.TrimBuckets(x.with.at(j), x.Op == parser.TRIM_UPPER)
			case k[j] != vector.Absent:
				x.noteCell(b.IDs[i], j, k[j])
				k[j] = vector.Absent
			}
		}
		b.Measure(i)
	}
	return nil
}

func (x *binary) noteCell(row uint32, step int, k vector.Kind) {
	if x.latest != nil {
		x.latest.set(step, row, k, x.Grid().N)
		return
	}
	x.incompatible(typeNames[k])
}

const (
	floatCell     = "float"
	histogramCell = "histogram"
)

var typeNames = [...]string{vector.Float: floatCell, vector.Histogram: histogramCell}

// incompatible notes that op does not go with a cell of the type named.
func (x *binary) incompatible(cell string) {
	left, right := cell, floatCell
	if x.Swapped {
		left, right = right, left
	}
	note(&x.notes, left, parser.ItemTypeStr[x.Op], right)
}

func note(n *operator.Notes, left, op, right string) {
	n.Add(0, "incompatible types "+left, right, func(p posrange.PositionRange) error {
		return annotations.NewIncompatibleTypesInBinOpInfo(left, op, right, p)
	})
}

// latest keeps, for operators that may be incompatible with both types of cells, which it was in the last row of each
// step: of one step Prometheus reports the last only.
type latest struct {
	op parser.ItemType

	mu   sync.Mutex
	last []cellAt
}

type cellAt struct {
	row  uint32
	kind vector.Kind
}

const cellAtBytes = 8

func (l *latest) set(step int, row uint32, k vector.Kind, steps int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = make([]cellAt, steps)
	}
	if c := &l.last[step]; c.kind == vector.Absent || row >= c.row {
		*c = cellAt{row: row, kind: k}
	}
}

// addTo adds the notes of all steps.
func (l *latest) addTo(n *operator.Notes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.last {
		if c.kind != vector.Absent {
			note(n, floatCell, parser.ItemTypeStr[l.op], typeNames[c.kind])
		}
	}
}
