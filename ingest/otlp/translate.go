// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	cumulative = 2 // temporalities
	delta      = 1

	// maxAhead is how many data points are translated at once where one after the other is not known.
	maxAhead = 64
)

// translator asks Prometheus' converter for the labels of data points. It is only asked about series that are not known,
// with a message made of the point and of what stands around it; the converter cannot be made to work on less.
type translator struct {
	converter *prometheusremotewrite.PrometheusConverter
	settings  *settings
	rows      labelRows
	warnings  map[prometheusremotewrite.WarningCategory]int

	point, data, metric, scope, body []byte // parts of the message, from the inside out
}

// labelRows is what the converter appends to. It keeps the labels alone.
type labelRows []labels.Labels

// Append keeps the labels of a row.
func (r *labelRows) Append(_ storage.SeriesRef, ls labels.Labels, _, _ int64, _ float64, _ *histogram.Histogram, _ *histogram.FloatHistogram, _ storage.AOptions) (storage.SeriesRef, error) {
	*r = append(*r, ls)
	return 0, nil
}

// Commit does nothing.
func (*labelRows) Commit() error { return nil }

// Rollback does nothing.
func (*labelRows) Rollback() error { return nil }

// begin prepares for a request.
func (t *translator) begin(s *settings) {
	t.settings = s
	if t.converter == nil {
		t.converter = &prometheusremotewrite.PrometheusConverter{}
	}
	t.converter.Reset(&t.rows)
	clear(t.warnings)
}

// end lets go of what belongs to the request.
func (t *translator) end() {
	if t.converter != nil {
		t.converter.Reset(nil)
	}
	clear(t.rows[:cap(t.rows)])
	t.rows, t.settings = t.rows[:0], nil
	for _, b := range []*[]byte{&t.point, &t.data, &t.metric, &t.scope, &t.body} {
		if cap(*b) > maxPooledBytes {
			*b = nil
		}
	}
}

// points returns the labels of the rows of data points, in the order in which they are added: of all of them or, with
// an error, of those before the first that cannot be translated.
func (t *translator) points(m *metric, points [][]byte) ([]labels.Labels, error) {
	t.data = t.data[:0]
	for _, msg := range points {
		if err := checkAttributes(msg, m.kind.attributes()); err != nil {
			return nil, err
		}
		if err := t.withoutExemplars(m.kind, msg); err != nil {
			return nil, err
		}
		t.data = appendMessage(t.data, 1, t.point)
	}
	temporality := uint64(cumulative)
	if m.temporality == delta && t.settings.nativeDelta {
		temporality = delta
	}
	t.data = protowire.AppendVarint(protowire.AppendTag(t.data, 2, protowire.VarintType), temporality)
	if m.monotonic {
		t.data = protowire.AppendVarint(protowire.AppendTag(t.data, 3, protowire.VarintType), 1)
	}
	t.metric = appendMessage(t.metric[:0], 1, m.name)
	t.metric = appendMessage(t.metric, 3, m.unit)
	t.metric = appendMessage(t.metric, int32(m.kind), t.data)
	return t.run(m.surroundings, t.settings.converter)
}

// target returns the labels of the series that describes a resource; ok is false where it has none.
func (t *translator) target(s surroundings) (ls labels.Labels, ok bool, err error) {
	t.point = protowire.AppendFixed64(protowire.AppendTag(t.point[:0], 3, protowire.Fixed64Type), 1)
	t.data = appendMessage(t.data[:0], 1, t.point)
	t.metric = appendMessage(t.metric[:0], 1, []byte("x"))
	t.metric = appendMessage(t.metric, int32(gauge), t.data)
	with := t.settings.converter
	with.DisableTargetInfo = false
	rows, err := t.run(s, with)
	if err != nil || len(rows) < 2 { // the first is that of the metric
		return labels.EmptyLabels(), false, err
	}
	return rows[1], true, nil
}

// withoutExemplars copies a point to t.point. The exemplars are ours to read, and one that cannot be read is no reason
// to refuse the point.
func (t *translator) withoutExemplars(k kind, msg []byte) error {
	t.point = t.point[:0]
	f := fields{message: k.pointMessage(), buf: msg}
	for f.next() {
		if f.number != k.exemplars() {
			t.point = append(t.point, f.buf[f.start:f.pos]...)
		}
	}
	return f.err
}

// run translates t.metric.
func (t *translator) run(s surroundings, with prometheusremotewrite.Settings) ([]labels.Labels, error) {
	if err := errors.Join(checkAttributes(s.resource, 1), checkAttributes(s.scope, 3)); err != nil {
		return nil, err
	}
	t.scope = appendMessage(t.scope[:0], 1, s.scope)
	t.scope = appendMessage(t.scope, 2, t.metric)
	t.scope = appendMessage(t.scope, 3, s.schema)
	t.body = appendMessage(t.body[:0], 1, s.resource)
	t.body = appendMessage(t.body, 2, t.scope)
	t.scope = appendMessage(t.scope[:0], 1, t.body)
	md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(t.scope)
	if err != nil {
		return nil, fmt.Errorf("read its attributes: %w", err)
	}
	t.rows = t.rows[:0]
	warnings, err := t.converter.FromMetrics(context.Background(), md, with)
	for category, n := range prometheusremotewrite.CountWarningsByCategory(warnings) {
		if t.warnings == nil {
			t.warnings = map[prometheusremotewrite.WarningCategory]int{}
		}
		t.warnings[category] += n
	}
	return t.rows, err
}
