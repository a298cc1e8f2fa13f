// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"
)

// firstArg is the slot of the first argument, to which all notes point.
const firstArg = 1

// metric returns the metric name of the series at hand.
func (f *frame) metric() string { return f.node.in.Value(f.id, labels.MetricName) }

// named is an annotation about a metric.
type named func(metric string, at posrange.PositionRange) error

// noteKind is a sort of annotation about a metric.
type noteKind uint8

const (
	noteOfMixed noteKind = 1 << iota
	noteOfIgnored
	noteOfNotCounter
	noteOfNotGauge
	noteOfSchemas
)

// note notes an annotation about the metric of the series at hand, unless the series has it.
func (f *frame) note(kind noteKind, of named) {
	if f.noted&kind != 0 {
		return
	}
	f.noted |= kind
	name := f.metric()
	f.node.notes.Add(firstArg, strconv.Itoa(int(kind)), name, func(at posrange.PositionRange) error { return of(name, at) })
}

func (f *frame) noteMixed() { f.note(noteOfMixed, annotations.NewMixedFloatsHistogramsWarning) }

func (f *frame) noteIgnored() { f.note(noteOfIgnored, annotations.NewHistogramIgnoredInMixedRangeInfo) }

func (f *frame) noteNotCounter() {
	f.note(noteOfNotCounter, annotations.NewNativeHistogramNotCounterWarning)
}

func (f *frame) noteNotGauge() {
	f.note(noteOfNotGauge, annotations.NewNativeHistogramNotGaugeWarning)
}

func (f *frame) noteSchemas() {
	f.note(noteOfSchemas, annotations.NewMixedExponentialCustomHistogramsWarning)
}

func (f *frame) noteBounds(op annotations.HistogramOperation) {
	f.node.notes.Add(firstArg, "bounds", string(op), func(at posrange.PositionRange) error {
		return annotations.NewMismatchedCustomBucketsHistogramsInfo(at, op)
	})
}

func (f *frame) noteCollision() {
	f.node.notes.Add(firstArg, "collision", "", func(at posrange.PositionRange) error {
		return annotations.NewHistogramCounterResetCollisionWarning(at, annotations.HistogramAgg)
	})
}

func (f *frame) noteQuantile(q float64) {
	f.node.notes.Add(firstArg, "quantile", strconv.FormatFloat(q, 'g', -1, 64), func(at posrange.PositionRange) error {
		return annotations.NewInvalidQuantileWarning(q, at)
	})
}
