// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// metadata is what is stored with each series of a metric.
type metadata struct {
	kind model.MetricType
	hash uint32
}

// promType is the type of Prometheus that a metric has. There is none for deltas.
func (m *metric) promType(s *settings) model.MetricType {
	switch {
	case m.kind == gauge:
		return model.MetricTypeGauge
	case m.kind == summary:
		return model.MetricTypeSummary
	case m.temporality == delta && s.nativeDelta:
		return model.MetricTypeUnknown
	case m.kind == sum && m.monotonic:
		return model.MetricTypeCounter
	case m.kind == sum:
		return model.MetricTypeGauge
	default:
		return model.MetricTypeHistogram
	}
}

// addPoint adds the rows of the point at hand.
func (d *decoder) addPoint(m *metric, key ingest.Key) error {
	if m.temporality == delta && d.settings.sumDeltas {
		if refusal := d.sums.add(d.streamKey(m), d.p, &d.attempt); refusal != "" {
			d.refuse(refusal, func() string { return fmt.Sprintf("metric %q", m.name) })
			return nil
		}
	}
	switch m.kind {
	case gauge, sum:
		if d.float(m, 0, key, d.orStale(d.p.number())) && m.kind == sum {
			return d.exemplars(0, len(d.p.exemplars))
		}
		return nil
	case histograms:
		if d.settings.converter.ConvertHistogramsToNHCB {
			return d.nativeHistogram(m, key)
		}
		return d.classic(m, key)
	case exponential:
		return d.nativeHistogram(m, key)
	default:
		return d.summary(m, key)
	}
}

// The rows of points that have more than one.
const (
	rowSum = iota + 1
	rowCount
	rowBucket
	rowQuantile
)

// part is the key of one of several rows of a point.
func (d *decoder) part(key ingest.Key, which byte, v float64) ingest.Key {
	var inner [9]byte
	inner[0] = which
	binary.LittleEndian.PutUint64(inner[1:], math.Float64bits(v))
	return d.within(key, inner[:])
}

// float begins a series and adds its row. It reports whether it could.
func (d *decoder) float(m *metric, row int32, key ingest.Key, v float64) bool {
	if !d.series(m, row, key) {
		return false
	}
	d.req.Float(millis(d.p.start), millis(d.p.t), v)
	return true
}

// series begins the series of a row of the point at hand. It reports whether it could.
func (d *decoder) series(m *metric, row int32, key ingest.Key) bool {
	if !d.req.Begin(key) {
		ls, err := d.labelsOfRow(m, row)
		if err != nil {
			d.refuse("that cannot be translated", func() string { return fmt.Sprintf("metric %q: %v", m.name, err) })
			return false
		}
		d.req.Define(key, ls)
	}
	d.rows = append(d.rows, rowRef{int32(len(d.points) - 1), row})
	if m.meta.kind == model.MetricTypeUnknown && len(m.unit) == 0 && len(m.help) == 0 {
		d.withoutMeta++
		return true
	}
	if !d.req.MetadataKnown(m.meta.hash) {
		namer := otlptranslator.UnitNamer{}
		d.req.Metadata(sample.Metadata{Type: string(m.meta.kind), Unit: namer.Build(string(m.unit)), Help: string(m.help)})
	}
	return true
}

// labelsOfRow returns the labels of a row of the point at hand.
func (d *decoder) labelsOfRow(m *metric, row int32) (labels.Labels, error) {
	if m.inParts(d.settings) {
		if d.known == nil || d.aheadFrom != d.p.index {
			d.ahead = append(d.ahead[:0], d.p.raw)
			if err := d.translateAhead(m); err != nil {
				return labels.EmptyLabels(), err
			}
		}
		return d.checkedLabels(int(row))
	}
	if i := d.p.index - d.aheadFrom; d.known == nil || i >= len(d.known) {
		n := 1
		if i == len(d.known) && i > 0 {
			n = min(2*i, maxAhead) // those before were all not known
		}
		d.ahead = append(d.ahead[:0], d.p.raw)
		for f := (fields{buf: d.p.rest}); len(d.ahead) < n && f.next(); {
			if f.number == 1 && f.wire == protowire.BytesType {
				d.ahead = append(d.ahead, f.bytes)
			}
		}
		if err := d.translateAhead(m); err != nil {
			return labels.EmptyLabels(), err
		}
	}
	return d.checkedLabels(d.p.index - d.aheadFrom)
}

// translateAhead translates d.ahead, which begins with the point at hand.
func (d *decoder) translateAhead(m *metric) error {
	bytes := 0
	for _, p := range d.ahead {
		bytes += len(p) + len(m.resource)
	}
	if err := d.charge(int64(2 * bytes)); err != nil {
		return err
	}
	d.aheadFrom = d.p.index
	var err error
	d.known, err = d.translator.points(m, d.ahead)
	if len(d.known) == 0 && len(d.ahead) > 1 {
		d.known, err = d.translator.points(m, d.ahead[:1]) // it may be one of the others that cannot be read
	}
	if len(d.known) > 0 {
		return nil // where one of the later ones is wrong, it is tried again when it is its turn
	}
	d.known = nil
	if err == nil {
		err = errors.New("nothing came of it")
	}
	return err
}

// checkedLabels returns labels that were translated, as far as they can be stored.
func (d *decoder) checkedLabels(i int) (labels.Labels, error) {
	if i >= len(d.known) {
		return labels.EmptyLabels(), errors.New("its buckets or quantiles were not translated")
	}
	return d.check(d.known[i])
}

func (d *decoder) check(ls labels.Labels) (labels.Labels, error) {
	d.labels.Reset()
	ls.Range(func(l labels.Label) { d.labels.Add([]byte(l.Name), []byte(l.Value)) })
	return d.labels.Labels()
}

// labelsOf returns the labels of a series of the request once more; see ingest.LabelsOf.
func (d *decoder) labelsOf(series int) (labels.Labels, error) {
	at := d.rows[series]
	if at.point < 0 {
		ls, ok, err := d.translator.target(surroundings{resource: d.metrics[at.row].resource})
		if err != nil || !ok {
			return labels.EmptyLabels(), fmt.Errorf("translate a resource once more: %w", err)
		}
		return d.check(ls)
	}
	p := d.points[at.point]
	rows, err := d.translator.points(&d.metrics[p.metric], [][]byte{p.raw})
	if err != nil || int(at.row) >= len(rows) {
		return labels.EmptyLabels(), fmt.Errorf("translate a data point once more: %w", err)
	}
	return d.check(rows[at.row])
}

// orStale returns a value of the point at hand, or that of its end.
func (d *decoder) orStale(v float64) float64 {
	if d.p.stale {
		return staleNaN
	}
	return v
}

// classic adds a histogram with explicit bounds as series for its sum, its count and its buckets.
func (d *decoder) classic(m *metric, key ingest.Key) error {
	bounds := d.p.bounds[:min(len(d.p.bounds), len(d.p.counts))]
	if err := d.charge(int64(len(bounds)+2) * pointBytes); err != nil {
		return err
	}
	d.parts = d.parts[:0]
	if d.p.hasSum {
		d.parts = append(d.parts, d.part(key, rowSum, 0))
	}
	d.parts = append(d.parts, d.part(key, rowCount, 0))
	for _, bound := range bounds {
		d.parts = append(d.parts, d.part(key, rowBucket, bound))
	}
	d.parts = append(d.parts, d.part(key, rowBucket, math.Inf(1)))
	d.req.Ahead(d.parts)

	row := int32(0)
	add := func(v float64) bool {
		ok := d.float(m, row, d.parts[row], d.orStale(v))
		row++
		return ok
	}
	if d.p.hasSum {
		add(d.p.sum)
	}
	add(float64(d.p.count))
	observations, from := uint64(0), 0
	for i, bound := range bounds {
		observations += d.p.counts[i]
		to := d.exemplarsUpTo(from, bound)
		if add(float64(observations)) {
			if err := d.exemplars(from, to); err != nil {
				return err
			}
		}
		from = to
	}
	if add(float64(d.p.count)) {
		return d.exemplars(from, len(d.p.exemplars))
	}
	return nil
}

// nativeHistogram adds the point at hand as one native histogram.
func (d *decoder) nativeHistogram(m *metric, key ingest.Key) error {
	const perCount = 24 // bytes of a span or a delta that a count may become, twice while it grows
	n := len(d.p.counts) + len(d.p.positive.counts) + len(d.p.negative.counts) + len(d.p.bounds)
	if err := d.charge(256 + int64(n)*perCount); err != nil {
		return err
	}
	form := d.p.native
	if m.kind == histograms {
		form = d.p.custom
	}
	h, err := form(m.temporality == delta && d.settings.nativeDelta)
	if err != nil {
		d.refuse("that are no native histograms", func() string { return fmt.Sprintf("metric %q: %v", m.name, err) })
		return nil
	}
	if !d.p.stale && d.p.count == 0 && h.Sum != 0 {
		d.countless++
	}
	if !d.series(m, 0, key) {
		return nil
	}
	d.req.Histogram(millis(d.p.start), millis(d.p.t), h, nil)
	return d.exemplars(0, len(d.p.exemplars))
}

// summary adds a summary as series for its sum, its count and its quantiles.
func (d *decoder) summary(m *metric, key ingest.Key) error {
	if err := d.charge(int64(len(d.p.quantiles)+2) * pointBytes); err != nil {
		return err
	}
	d.parts = append(d.parts[:0], d.part(key, rowSum, 0), d.part(key, rowCount, 0))
	for _, q := range d.p.quantiles {
		d.parts = append(d.parts, d.part(key, rowQuantile, q.q))
	}
	d.req.Ahead(d.parts)
	d.float(m, 0, d.parts[0], d.orStale(d.p.sum))
	d.float(m, 1, d.parts[1], d.orStale(float64(d.p.count)))
	for i, q := range d.p.quantiles {
		d.float(m, int32(i+2), d.parts[i+2], d.orStale(q.v))
	}
	return nil
}

// exemplars adds exemplars of the point at hand to the series that began last.
func (d *decoder) exemplars(from, to int) error {
	for _, msg := range d.p.exemplars[from:to] {
		if err := d.charge(int64(2*len(msg)) + 128); err != nil {
			return err
		}
		err := d.x.decode(msg)
		if err == nil && !d.x.hasValue {
			err = errors.New("it has no value")
		}
		var e sample.Exemplar
		if err == nil {
			e, err = d.x.sample(&d.labels, millis(d.p.t))
		}
		if err != nil {
			d.req.Drop(0, "exemplars that cannot be stored", err.Error)
			continue
		}
		d.req.Exemplar(e)
	}
	return nil
}

// exemplarsUpTo returns the first exemplar from here on whose value is above a bound.
func (d *decoder) exemplarsUpTo(from int, bound float64) int {
	for ; from < len(d.p.exemplars); from++ {
		if d.x.decode(d.p.exemplars[from]) == nil && d.x.v > bound {
			break
		}
	}
	return from
}
