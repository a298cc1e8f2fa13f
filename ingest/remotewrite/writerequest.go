// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// decodeV1 reads a prometheus.WriteRequest into the request.
//
// A TimeSeries begins with its labels, which for a known series are only passed over: their bytes, tags and lengths
// included, are its key. A message whose labels are not in one piece is legal but unheard of; its key is that of the
// pieces put together.
func (d *decoder) decodeV1(body []byte) error {
	r := reader{buf: body}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok && r.err != nil:
			return r.err
		case !ok:
			return d.beginAll()
		case number == 1 && r.expect(number, wire, wireBytes):
			if msg := r.bytes(); r.err == nil {
				if err := d.seriesV1(msg); err != nil {
					return err
				}
			}
		case number == 3 && r.expect(number, wire, wireBytes):
			// Metadata of families, without series to attach it to. Prometheus' receiver drops it too.
			if err := checkMetadataV1(r.bytes()); err != nil {
				return err
			}
			d.metrics.familyMetadata.Inc()
		default:
			r.skip(wire)
		}
	}
}

func (d *decoder) seriesV1(msg []byte) error {
	end := labelRun(msg)
	wire, err := msg[:end], error(nil)
	if !oneField(msg[end:]) {
		if wire, end, err = d.labelBytesV1(msg); err != nil {
			return err
		}
	}
	return d.add(d.req.Hash(protocolV1, wire), found{msg: msg, values: end})
}

const (
	labelTag  = 1<<3 | wireBytes
	sampleTag = 2<<3 | wireBytes
)

// labelRun returns how far the labels reach that a TimeSeries begins with, as long as none has 128 bytes.
func labelRun(msg []byte) (end int) {
	for end+1 < len(msg) && msg[end] == labelTag && msg[end+1] < 0x80 {
		next := end + 2 + int(msg[end+1])
		if next > len(msg) {
			break
		}
		end = next
	}
	return end
}

// oneField tells whether fields are a single sample, as in most series of most senders.
func oneField(fields []byte) bool {
	return len(fields) > 1 && fields[0] == sampleTag && int(fields[1]) == len(fields)-2 && fields[1] < 0x80
}

// labelBytesV1 returns the label fields of a TimeSeries and where the fields after the first run of them begin.
func (d *decoder) labelBytesV1(msg []byte) (wire []byte, end int, err error) {
	r := reader{buf: msg}
	for r.pos < len(msg) && msg[r.pos] == labelTag {
		r.pos++
		r.bytes()
	}
	end = r.pos
	whole := true
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		if number == 1 {
			whole = false
		}
		r.skip(wire)
	}
	if r.err != nil || whole {
		return msg[:end], end, r.err
	}
	d.scratch = d.scratch[:0]
	r = reader{buf: msg}
	for {
		start := r.pos
		number, wire, ok := r.next()
		if !ok {
			return d.scratch, 0, r.err
		}
		r.skip(wire)
		if number == 1 {
			d.scratch = append(d.scratch, msg[start:r.pos]...)
		}
	}
}

// labelsV1 parses the labels of a TimeSeries.
func (d *decoder) labelsV1(msg []byte) (labels.Labels, error) {
	d.labels.Reset()
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok && r.err != nil:
			return labels.EmptyLabels(), r.err
		case !ok:
			return d.labels.Labels()
		case number == 1 && r.expect(number, wire, wireBytes):
			if err := addLabelV1(&d.labels, r.bytes()); err != nil {
				return labels.EmptyLabels(), err
			}
		case number != 1:
			r.skip(wire)
		}
	}
}

func addLabelV1(b *ingest.LabelBuilder, msg []byte) error {
	var name, value []byte
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok:
			b.Add(name, value)
			return r.err
		case number > 2:
			r.skip(wire)
		case r.expect(number, wire, wireBytes) && number == 1:
			name = r.bytes()
		case wire == wireBytes:
			value = r.bytes()
		}
	}
}

// valuesV1 adds the samples, histograms and exemplars of a TimeSeries, whatever their order, to the series that
// began last, or counts them where its labels are bad.
func (d *decoder) valuesV1(fields []byte) error {
	if d.bad == nil && oneField(fields) {
		return d.sample(fields[2:], false)
	}
	r := reader{buf: fields}
	rows := 0
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		if number < 2 || number > 4 {
			r.skip(wire)
			continue
		}
		if !r.expect(number, wire, wireBytes) {
			break
		}
		msg := r.bytes()
		if r.err != nil {
			break
		}
		if number != 3 {
			rows++
		}
		if err := d.valueV1(number, msg); err != nil {
			return err
		}
	}
	if d.bad != nil {
		d.dropSeries(rows)
	}
	return r.err
}

func (d *decoder) valueV1(number int32, msg []byte) error {
	switch number {
	case 2:
		return d.sample(msg, false)
	case 3:
		return d.exemplarV1(msg)
	default:
		return d.histogram(msg)
	}
}

func (d *decoder) exemplarV1(msg []byte) error {
	var e sample.Exemplar
	d.labels.Reset()
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		switch {
		case number == 1 && r.expect(number, wire, wireBytes):
			if err := addLabelV1(&d.labels, r.bytes()); err != nil {
				return err
			}
		case number == 2 && r.expect(number, wire, wireFixed64):
			e.V = r.double()
		case number == 3 && r.expect(number, wire, wireVarint):
			e.T = int64(r.uvarint())
		case number > 3:
			r.skip(wire)
		}
	}
	return d.addExemplar(e, r.err)
}

// checkMetadataV1 walks over a MetricMetadata message.
func checkMetadataV1(msg []byte) error {
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok:
			return r.err
		case number == 1 && !r.expect(number, wire, wireVarint):
		case (number == 2 || number == 4 || number == 5) && !r.expect(number, wire, wireBytes):
		default:
			r.skip(wire)
		}
	}
}
