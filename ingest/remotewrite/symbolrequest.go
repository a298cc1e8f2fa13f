// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// decodeV2 reads an io.prometheus.write.v2.Request into the request: the symbols first, wherever they stand, then
// the series. References differ from request to request, so the key of a series is that of its strings.
func (d *decoder) decodeV2(body []byte) error {
	r := reader{buf: body}
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		switch {
		case number == 4 && r.expect(number, wire, wireBytes):
			if err := d.addSymbol(r.bytes()); err != nil {
				return err
			}
		case number == 5 && r.expect(number, wire, wireBytes):
			r.bytes()
		case number != 4 && number != 5:
			r.skip(wire)
		}
	}
	if r.err != nil {
		return r.err
	}
	r = reader{buf: body}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok && r.err != nil:
			return r.err
		case !ok:
			return d.beginAll()
		case number != 5:
			r.skip(wire)
			continue
		}
		if err := d.seriesV2(r.bytes()); err != nil {
			return err
		}
	}
}

// addSymbol charges the growth of the symbols first: an empty one takes 2 bytes of the message and 40 here.
func (d *decoder) addSymbol(s []byte) error {
	if n := len(d.symbols); n == cap(d.symbols) || n == cap(d.symbolKeys) {
		const header = 24 + 16
		if err := d.req.Charge(int64(max(2*n, 64)) * header); err != nil {
			return err
		}
	}
	d.symbols = append(d.symbols, s)
	d.symbolKeys = append(d.symbolKeys, d.req.Hash(protocolV2, s))
	return nil
}

func (d *decoder) seriesV2(msg []byte) error {
	var err error
	if d.labelRefs, err = labelRefsV2(d.labelRefs[:0], msg); err != nil {
		return err
	}
	values := 0
	if len(msg) > 1 && msg[0] == labelTag && msg[1] < 0x80 {
		values = 2 + int(msg[1])
	}
	if err := d.checkRefs(); err != nil {
		return d.add(ingest.Key{}, found{msg: msg, values: values, bad: err})
	}
	return d.add(d.keyV2(), found{msg: msg, values: values})
}

// labelRefsV2 appends the label references of a TimeSeries to refs.
func labelRefsV2(refs []uint32, msg []byte) ([]uint32, error) {
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok:
			return refs, r.err
		case number == 1:
			refs = r.refs(refs, number, wire)
		default:
			r.skip(wire)
		}
	}
}

// appendRef appends a reference, unless there are so many already that the label set is refused for it.
func appendRef(refs []uint32, ref uint32) []uint32 {
	if len(refs) >= 2*(ingest.MaxLabels+1) {
		return refs
	}
	return append(refs, ref)
}

// keyV2 returns the key of the label references, which is that of the keys of their strings: a string is in many series of a
// request, and read once.
func (d *decoder) keyV2() ingest.Key {
	const keyBytes = 16
	buf := slices.Grow(d.scratch[:0], keyBytes*len(d.labelRefs))[:keyBytes*len(d.labelRefs)]
	for i, ref := range d.labelRefs {
		k, into := &d.symbolKeys[ref], buf[keyBytes*i:][:keyBytes]
		binary.LittleEndian.PutUint64(into, k.Lo)
		binary.LittleEndian.PutUint64(into[8:], k.Hi)
	}
	d.scratch = buf
	return d.req.Hash(protocolV2, buf)
}

// checkRefs checks that the label references come in pairs and point at symbols.
func (d *decoder) checkRefs() error {
	if n := len(d.labelRefs); n%2 != 0 {
		return fmt.Errorf("%d references where every name needs a value", n)
	}
	for _, ref := range d.labelRefs {
		if int(ref) >= len(d.symbols) {
			return fmt.Errorf("reference %d is outside of the %d symbols", ref, len(d.symbols))
		}
	}
	return nil
}

// labelsV2 makes the label set of the references.
func (d *decoder) labelsV2() (labels.Labels, error) {
	d.labels.Reset()
	for i := 0; i < len(d.labelRefs); i += 2 {
		d.labels.Add(d.symbols[d.labelRefs[i]], d.symbols[d.labelRefs[i+1]])
	}
	return d.labels.Labels()
}

// valuesV2 adds what a TimeSeries holds beside its labels to the series that began last, or counts it where the
// labels are bad.
func (d *decoder) valuesV2(fields []byte) error {
	var meta metadataV2
	rows, exemplars := 0, 0
	r := reader{buf: fields}
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		if number < 2 || number > 5 {
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
		switch number {
		case 2, 3:
			rows++
		case 4:
			exemplars++
		}
		if err := d.valueV2(number, msg, &meta); err != nil {
			return err
		}
	}
	switch {
	case r.err != nil:
		return r.err
	case d.bad != nil:
		d.dropSeries(rows)
	case rows == 0 && exemplars == 0: // Prometheus sends exemplars as series of their own
		d.req.Drop(0, "series without samples", d.showLast)
	}
	if d.bad == nil {
		d.addMetadata(meta, rows)
	}
	return nil
}

func (d *decoder) valueV2(number int32, msg []byte, meta *metadataV2) error {
	switch number {
	case 2:
		return d.sample(msg, true)
	case 3:
		return d.histogram(msg)
	case 4:
		return d.exemplarV2(msg)
	default:
		return meta.decode(msg)
	}
}

func (d *decoder) exemplarV2(msg []byte) error {
	var e sample.Exemplar
	refs := d.exemplarRefs[:0]
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		switch {
		case number == 1:
			refs = r.refs(refs, number, wire)
		case number == 2 && r.expect(number, wire, wireFixed64):
			e.V = r.double()
		case number == 3 && r.expect(number, wire, wireVarint):
			e.T = int64(r.uvarint())
		case number > 3:
			r.skip(wire)
		}
	}
	d.exemplarRefs = refs
	if r.err != nil || d.bad != nil {
		return r.err
	}
	d.labels.Reset()
	if len(refs)%2 != 0 {
		d.req.Drop(0, "exemplar with bad label references", d.showLast)
		return nil
	}
	for i := 0; i < len(refs); i += 2 {
		if int(refs[i]) >= len(d.symbols) || int(refs[i+1]) >= len(d.symbols) {
			d.req.Drop(0, "exemplar with bad label references", d.showLast)
			return nil
		}
		d.labels.Add(d.symbols[refs[i]], d.symbols[refs[i+1]])
	}
	return d.addExemplar(e, nil)
}

// metadataV2 is a Metadata message.
type metadataV2 struct {
	kind, help, unit uint32
}

func (m *metadataV2) decode(msg []byte) error {
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok:
			return r.err
		case number == 1 && r.expect(number, wire, wireVarint):
			m.kind = uint32(r.uvarint())
		case number == 3 && r.expect(number, wire, wireVarint):
			m.help = uint32(r.uvarint())
		case number == 4 && r.expect(number, wire, wireVarint):
			m.unit = uint32(r.uvarint())
		case number != 1 && number != 3 && number != 4:
			r.skip(wire)
		}
	}
}

// metricTypes are the values of Metadata.MetricType.
var metricTypes = [...]model.MetricType{
	model.MetricTypeUnknown, model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram,
	model.MetricTypeGaugeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset,
}

// addMetadata adds the metadata of the last series, unless it is none or what the store has already.
func (d *decoder) addMetadata(m metadataV2, rows int) {
	if int(m.help) >= len(d.symbols) || int(m.unit) >= len(d.symbols) {
		if m != (metadataV2{}) {
			d.req.Drop(0, "metadata with bad references", d.showLast)
		}
		return
	}
	if m != d.meta || d.metaHash == 0 {
		d.meta, d.metaHash = m, d.hashMetadata(m)
	}
	if d.metaHash == 0 {
		d.withoutMetadata += rows
		return
	}
	if !d.req.MetadataKnown(d.metaHash) {
		d.req.Metadata(sample.Metadata{Type: string(m.metricType()), Unit: string(d.symbols[m.unit]), Help: string(d.symbols[m.help])})
	}
}

// hashMetadata returns the hash by which metadata is told from what was stored last, 0 if there is none.
func (d *decoder) hashMetadata(m metadataV2) uint32 {
	help, unit, kind := d.symbols[m.help], d.symbols[m.unit], m.metricType()
	if kind == model.MetricTypeUnknown && len(help) == 0 && len(unit) == 0 {
		return 0
	}
	buf := append(d.scratch[:0], kind...)
	buf = append(append(buf, 0), unit...)
	buf = append(append(buf, 0), help...)
	d.scratch = buf
	return max(uint32(xxh3.Hash(buf)), 1)
}

func (m *metadataV2) metricType() model.MetricType {
	if int(m.kind) < len(metricTypes) {
		return metricTypes[m.kind]
	}
	return model.MetricTypeUnknown
}
