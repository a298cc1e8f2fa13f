// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/binary"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/ingest"
)

// protocol is the key space of this protocol's label bytes.
const protocol = 16

const (
	// groupLength is how many points are read before the first of them is added.
	groupLength = 16

	maxPooledBytes  = 64 << 10
	maxPooledPoints = 10_000

	chargeStep  = 64 << 10
	pointBytes  = 80  // what a point and a row of it take here, twice while a slice grows
	metricBytes = 512 // likewise for a metric
	listBytes   = 24  // what a byte of a point may become in its lists: a count of 8 bytes, thrice while a slice grows
)

// surroundings are the messages around a metric, as they came.
type surroundings struct{ resource, scope, schema []byte }

// metric is a Metric message with what stands around it.
type metric struct {
	surroundings
	kind             kind // 0: it has no data
	name, help, unit []byte
	data             []byte
	temporality      uint64
	monotonic        bool

	key    ingest.Key // of name, unit, type and surroundings
	stream ingest.Key // the same for any order of attributes; zero: not computed
	meta   metadata
}

// pointRef says where a data point is.
type pointRef struct {
	metric  int32 // in decoder.metrics
	refused bool
	raw     []byte
}

// rowRef says which row of which point a series of the request is; point is -1 for target_info.
type rowRef struct{ point, row int32 }

// decoder reads one body into a request; it lives in a pool.
type decoder struct {
	req        *ingest.Request
	settings   *settings
	sums       *accumulators // nil: deltas are not summed up
	attempt    attempt       // at adding to them
	translator translator

	metrics  []metric
	points   []pointRef
	rows     []rowRef // by series of the request
	rejected int      // points

	// What is at hand: the newest of metrics and points, and the resource they belong to.
	group [groupLength]point
	paid  [groupLength]int // bytes of the largest point that each of group was charged for
	p     *point           // one of them
	res   resource
	x     exemplarMessage
	parts []ingest.Key // of the rows of a point that has several

	ahead     [][]byte // points that were translated together, from index aheadFrom on
	aheadFrom int
	known     []labels.Labels // their rows

	labels      ingest.LabelBuilder
	scratch     []byte
	unpaid      int64 // bytes that were charged and are not used yet
	targetInfo  int   // samples of it
	withoutMeta int   // rows
	empty       int   // metrics without points
	countless   int   // histograms without observations that have a sum
}

func (d *decoder) begin(req *ingest.Request, s *settings) {
	d.req, d.settings = req, s
	d.translator.begin(s)
}

// end lets go of the request, and reports whether the decoder may be used again.
func (d *decoder) end() bool {
	d.translator.end()
	clear(d.metrics)
	clear(d.points)
	clear(d.ahead)
	keep := cap(d.points) <= maxPooledPoints && cap(d.rows) <= maxPooledPoints && cap(d.metrics) <= maxPooledPoints &&
		cap(d.scratch) <= maxPooledBytes && cap(d.parts) <= maxPooledPoints
	for i := range d.group {
		keep = d.group[i].end() && keep
	}
	*d = decoder{
		translator: d.translator, metrics: d.metrics[:0], points: d.points[:0], rows: d.rows[:0], ahead: d.ahead[:0], group: d.group,
		parts: d.parts[:0], labels: d.labels, scratch: d.scratch[:0], x: exemplarMessage{attributes: d.x.attributes[:0]},
	}
	return keep
}

// charge counts memory that the request is going to take.
func (d *decoder) charge(bytes int64) error {
	if d.unpaid -= bytes; d.unpaid >= 0 {
		return nil
	}
	step := max(-d.unpaid, chargeStep)
	d.unpaid += step
	return d.req.Charge(step)
}

// hash makes a key of parts; each but the last has a length in front of it.
func (d *decoder) hash(parts ...[]byte) ingest.Key {
	d.scratch = d.scratch[:0]
	for i, part := range parts {
		if i < len(parts)-1 {
			d.scratch = binary.AppendUvarint(d.scratch, uint64(len(part)))
		}
		d.scratch = append(d.scratch, part...)
	}
	return d.req.Hash(protocol, d.scratch)
}

// within makes a key of another one and what makes it special, which is not in d.scratch.
func (d *decoder) within(outer ingest.Key, inner []byte) ingest.Key {
	d.scratch = binary.LittleEndian.AppendUint64(d.scratch[:0], outer.Hi)
	d.scratch = binary.LittleEndian.AppendUint64(d.scratch, outer.Lo)
	return d.req.Hash(protocol, append(d.scratch, inner...))
}

// join makes a key of two.
func (d *decoder) join(outer, inner ingest.Key) ingest.Key {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], inner.Hi)
	binary.LittleEndian.PutUint64(b[8:], inner.Lo)
	return d.within(outer, b[:])
}

// decode reads an ExportMetricsServiceRequest.
func (d *decoder) decode(body []byte) error {
	f := fields{message: "ExportMetricsServiceRequest", buf: body}
	for f.next() {
		if f.number == 1 && f.is(protowire.BytesType) {
			if err := d.resourceMetrics(f.bytes); err != nil {
				return err
			}
		}
	}
	return f.err
}

func (d *decoder) resourceMetrics(msg []byte) error {
	d.res = resource{}
	f := fields{message: "ResourceMetrics", buf: msg}
	for f.next() {
		if f.number == 1 {
			d.res.raw = f.take(d.res.raw)
		}
	}
	if f.err != nil {
		return f.err
	}
	d.res.key = d.hash(d.settings.identity, d.res.raw)
	f = fields{message: "ResourceMetrics", buf: msg}
	for f.next() {
		if f.number == 2 && f.is(protowire.BytesType) {
			if err := d.scopeMetrics(f.bytes); err != nil {
				return err
			}
		}
	}
	if f.err != nil {
		return f.err
	}
	return d.describeTarget()
}

func (d *decoder) scopeMetrics(msg []byte) error {
	s, key := surroundings{resource: d.res.raw}, d.res.key
	f := fields{message: "ScopeMetrics", buf: msg}
	for f.next() {
		switch f.number {
		case 1:
			s.scope = f.take(s.scope)
		case 3:
			s.schema = f.take(nil)
		}
	}
	if f.err != nil {
		return f.err
	}
	if d.settings.converter.PromoteScopeMetadata {
		key = d.join(key, d.hash(s.scope, s.schema))
	}
	f = fields{message: "ScopeMetrics", buf: msg}
	for f.next() {
		if f.number == 2 && f.is(protowire.BytesType) {
			if err := d.metricMessage(f.bytes, s, key); err != nil {
				return err
			}
		}
	}
	return f.err
}

// metricMessage reads a Metric message.
func (d *decoder) metricMessage(msg []byte, s surroundings, outer ingest.Key) error {
	if err := d.charge(metricBytes); err != nil {
		return err
	}
	m := metric{surroundings: s}
	f := fields{message: "Metric", buf: msg}
	for f.next() {
		switch f.number {
		case 1:
			m.name = f.take(nil)
		case 2:
			m.help = f.take(nil)
		case 3:
			m.unit = f.take(nil)
		case 5, 7, 9, 10, 11:
			m.kind, m.data = kind(f.number), f.take(m.data)
		}
	}
	if f.err != nil {
		return f.err
	}
	if err := m.readType(); err != nil {
		return err
	}
	d.identify(&m, outer)
	d.metrics = append(d.metrics, m)
	return d.dataPoints(&d.metrics[len(d.metrics)-1])
}

// readType reads what the data says besides its points.
func (m *metric) readType() error {
	f := fields{message: "Metric", buf: m.data}
	for f.next() {
		if f.number == 2 && m.kind != gauge && m.kind != summary && f.is(protowire.VarintType) {
			m.temporality = f.value
		}
		if f.number == 3 && m.kind == sum && f.is(protowire.VarintType) {
			m.monotonic = f.value != 0
		}
	}
	return f.err
}

// identify sets the key of the metric and the hash of its metadata.
func (d *decoder) identify(m *metric, outer ingest.Key) {
	kind := []byte{byte(m.kind), byte(m.temporality), 0}
	if m.monotonic {
		kind[2] = 1
	}
	m.key = d.join(d.within(outer, kind), d.hash(m.name, m.unit))
	m.meta = metadata{kind: m.promType(d.settings)}
	d.scratch = append(append(d.scratch[:0], m.meta.kind...), 0)
	d.scratch = append(binary.AppendUvarint(d.scratch, uint64(len(m.unit))), m.unit...)
	m.meta.hash = max(uint32(xxh3.Hash(append(d.scratch, m.help...))), 1)
}

// refusal says why the points of the metric are not stored, if so.
func (m *metric) refusal(s *settings) string {
	if m.kind == gauge || m.kind == summary || m.temporality == cumulative {
		return ""
	}
	if m.temporality == delta && (s.nativeDelta || s.sumDeltas) {
		return ""
	}
	return "of a temporality that is not accepted"
}

// dataPoints takes the points of a metric in, a group of them at a time.
func (d *decoder) dataPoints(m *metric) error {
	refusal := m.refusal(d.settings)
	d.aheadFrom, d.known = 0, nil
	index, n := 0, 0
	f := fields{message: "Metric", buf: m.data}
	for f.next() {
		if f.number != 1 || !f.is(protowire.BytesType) {
			continue
		}
		if err := d.charge(pointBytes + d.growth(n, len(f.bytes))); err != nil {
			return err
		}
		p := &d.group[n]
		if err := p.decode(m.kind, f.bytes); err != nil {
			return err
		}
		p.raw, p.rest, p.index = f.bytes, m.data[f.pos:], index
		index++
		if n++; n == len(d.group) {
			if err := d.takeGroup(m, n, refusal); err != nil {
				return err
			}
			n = 0
		}
	}
	if f.err != nil {
		return f.err
	}
	if index == 0 {
		d.empty++
	}
	return d.takeGroup(m, n, refusal)
}

// growth returns how many bytes one of the group takes, before it is decoded, for a message longer than those before it. Its
// lists are used again: what counts is the longest.
func (d *decoder) growth(n, length int) int64 {
	more := max(length-d.paid[n], 0)
	d.paid[n] += more
	return int64(more) * listBytes
}

// takeGroup adds the first n points of the group. The memory of the key table that their series need is fetched at once.
func (d *decoder) takeGroup(m *metric, n int, refusal string) error {
	var keys [groupLength]ingest.Key
	for i := range d.group[:n] {
		keys[i] = d.within(m.key, d.group[i].attributes)
	}
	if refusal == "" && !m.inParts(d.settings) {
		d.req.Ahead(keys[:n])
	}
	for i := range d.group[:n] {
		d.p = &d.group[i]
		d.points = append(d.points, pointRef{metric: int32(len(d.metrics) - 1), raw: d.p.raw}) // fits: a body has fewer bytes
		d.res.see(d.p.t)
		if refusal != "" {
			d.refuse(refusal, func() string {
				return fmt.Sprintf("metric %q has %s temporality", m.name, temporalityName(m.temporality))
			})
			continue
		}
		if err := d.addPoint(m, keys[i]); err != nil {
			return err
		}
	}
	return nil
}

// inParts reports whether a point of the metric becomes samples of several series.
func (m *metric) inParts(s *settings) bool {
	return m.kind == summary || m.kind == histograms && !s.converter.ConvertHistogramsToNHCB
}

func temporalityName(t uint64) string {
	switch t {
	case 0:
		return "an unspecified"
	case delta:
		return "a delta"
	default:
		return "an unknown"
	}
}

// refuse counts the point at hand as not stored, once.
func (d *decoder) refuse(what string, first func() string) {
	p := &d.points[len(d.points)-1]
	if p.refused {
		return
	}
	p.refused = true
	d.rejected++
	d.req.Drop(1, "data points "+what, first)
}
