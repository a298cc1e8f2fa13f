// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Kinds of record in the queue. The numbers are on disk for ever.
const (
	kindEpoch = journal.FirstKind     // an epoch begins; the payload is empty
	kindRows  = journal.FirstKind + 1 // a record, as appendRecord writes it
)

// What a record has beyond refs, times and floats; flags of its first byte.
const (
	hasST byte = 1 << iota
	hasHistograms
	hasExemplars
	hasMetadata
	hasLSN
	recordFlags = 1<<iota - 1
)

// namedSeries is the labels of a series.
type namedSeries struct {
	ref    sample.Ref
	labels labels.Labels
}

// record is rows on their way into the queue, or out of it.
type record struct {
	lsn   sample.LSN // of the store's record that they came with; 0: it is not known
	names []namedSeries
	rows  sample.Batch // a histogram may be shared with others
}

func (r *record) reset() {
	r.lsn = 0
	clear(r.names)
	r.names = r.names[:0]
	r.rows.Reset()
}

// appendRecord writes a record: a byte of flags, the LSN, the series that have not been named in the epoch, then columns.
func appendRecord(dst []byte, r *record) ([]byte, error) {
	b := &r.rows
	flags := byte(0)
	if b.ST != nil {
		flags |= hasST
	}
	if b.Kind != nil {
		flags |= hasHistograms
	}
	if len(b.Exemplars) > 0 {
		flags |= hasExemplars
	}
	if len(b.Meta) > 0 {
		flags |= hasMetadata
	}
	if r.lsn > 0 {
		flags |= hasLSN
	}
	dst = append(dst, flags)
	if r.lsn > 0 {
		dst = binary.AppendUvarint(dst, uint64(r.lsn))
	}
	dst = appendNames(dst, r.names)
	dst = binary.AppendUvarint(dst, uint64(b.Len()))
	last := int64(0)
	for _, ref := range b.Ref {
		dst = binary.AppendVarint(dst, int64(ref)-last)
		last = int64(ref)
	}
	dst = appendTimes(dst, b.T)
	if flags&hasST != 0 {
		dst = appendTimes(dst, b.ST)
	}
	for _, v := range b.V {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	var err error
	if flags&hasHistograms != 0 {
		if dst, err = appendHistograms(dst, b); err != nil {
			return nil, err
		}
	}
	if flags&hasExemplars != 0 {
		dst = appendExemplars(dst, b.Exemplars)
	}
	if flags&hasMetadata != 0 {
		dst = appendMetadata(dst, b.Meta)
	}
	return dst, nil
}

func appendNames(dst []byte, names []namedSeries) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(names)))
	for _, s := range names {
		dst = binary.AppendUvarint(dst, uint64(s.ref))
		dst = appendLabels(dst, s.labels)
	}
	return dst
}

func appendLabels(dst []byte, ls labels.Labels) []byte {
	dst = binary.AppendUvarint(dst, uint64(ls.Len()))
	ls.Range(func(l labels.Label) {
		dst = appendText(dst, l.Name)
		dst = appendText(dst, l.Value)
	})
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendTimes adds times as differences: those of one scrape are the same.
func appendTimes(dst []byte, times []int64) []byte {
	last := int64(0)
	for _, t := range times {
		dst = binary.AppendVarint(dst, t-last)
		last = t
	}
	return dst
}

// appendHistograms adds the kind of each row, then the histograms as messages of remote write 2.0.
func appendHistograms(dst []byte, b *sample.Batch) ([]byte, error) {
	for _, k := range b.Kind {
		dst = append(dst, byte(k))
	}
	for i, k := range b.Kind {
		var m writev2.Histogram
		switch k {
		case sample.Histogram:
			m = writev2.FromIntHistogram(0, 0, b.H[i])
		case sample.FloatHistogram:
			m = writev2.FromFloatHistogram(0, 0, b.FH[i])
		default:
			continue
		}
		raw, err := m.Marshal()
		if err != nil {
			return nil, fmt.Errorf("write a histogram: %w", err)
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(raw))), raw...)
	}
	return dst, nil
}

func appendExemplars(dst []byte, all []sample.Exemplar) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(all)))
	for i := range all {
		x := &all[i]
		dst = binary.AppendUvarint(dst, uint64(x.Ref))
		dst = binary.AppendVarint(dst, x.T)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(x.V))
		dst = appendLabels(dst, x.Labels)
	}
	return dst
}

func appendMetadata(dst []byte, all []sample.Metadata) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(all)))
	for i := range all {
		x := &all[i]
		dst = binary.AppendUvarint(dst, uint64(x.Ref))
		dst = appendText(dst, x.Type)
		dst = appendText(dst, x.Unit)
		dst = appendText(dst, x.Help)
	}
	return dst
}

// decoder reads records.
type decoder struct {
	buf     decbuf.Buf
	builder labels.ScratchBuilder
}

// decode reads what appendRecord wrote into r, which is empty. The error is a *decbuf.Fault.
func (d *decoder) decode(payload []byte, r *record) error {
	d.buf = decbuf.Buf{B: payload}
	c, b := &d.buf, &r.rows
	flags := c.Byte()
	if flags&^recordFlags != 0 {
		c.Fail("a record with flags that are not known")
	}
	if flags&hasLSN != 0 {
		r.lsn = sample.LSN(c.Uvarint())
	}
	for range c.Count(2) {
		ref := sample.Ref(c.Uvarint())
		r.names = append(r.names, namedSeries{ref, d.labels()})
	}
	n := c.Count(10)
	last := int64(0)
	for range n {
		last += c.Varint()
		b.Ref = append(b.Ref, sample.Ref(last))
	}
	b.T = d.times(b.T, n)
	if flags&hasST != 0 {
		b.ST = d.times(make([]int64, 0, n), n)
	}
	for range n {
		b.V = append(b.V, c.Float())
	}
	if flags&hasHistograms != 0 {
		d.histograms(b, n)
	}
	if flags&hasExemplars != 0 {
		d.exemplars(b)
	}
	if flags&hasMetadata != 0 {
		for range c.Count(4) {
			b.Meta = append(b.Meta, sample.Metadata{Ref: sample.Ref(c.Uvarint()), Type: c.Text(), Unit: c.Text(), Help: c.Text()})
		}
	}
	c.Finish()
	if f := c.Fault(); f != nil {
		return f
	}
	return nil
}

// lsnOf returns the LSN that a record begins with, 0 where it has none.
func lsnOf(payload []byte) sample.LSN {
	if len(payload) == 0 || payload[0]&hasLSN == 0 {
		return 0
	}
	lsn, _ := binary.Uvarint(payload[1:])
	return sample.LSN(lsn)
}

func (d *decoder) labels() labels.Labels {
	d.builder.Reset()
	for range d.buf.Count(2) {
		name := d.buf.Text()
		d.builder.Add(name, d.buf.Text())
	}
	return d.builder.Labels()
}

func (d *decoder) times(dst []int64, n int) []int64 {
	last := int64(0)
	for range n {
		last += d.buf.Varint()
		dst = append(dst, last)
	}
	return dst
}

func (d *decoder) histograms(b *sample.Batch, n int) {
	c := &d.buf
	for _, k := range c.Bytes(n) {
		if k > byte(sample.FloatHistogram) {
			c.Fail("a row of an unknown kind")
		}
		b.Kind = append(b.Kind, sample.Kind(k))
	}
	if c.Failed() {
		return
	}
	b.H, b.FH = append(b.H, make([]*histogram.Histogram, n)...), append(b.FH, make([]*histogram.FloatHistogram, n)...)
	for i, k := range b.Kind {
		if k == sample.Float || c.Failed() {
			continue
		}
		var m writev2.Histogram
		if err := m.Unmarshal(c.Sized()); err != nil {
			c.Fail("histogram: " + err.Error())
			return
		}
		if m.IsFloatHistogram() != (k == sample.FloatHistogram) {
			c.Fail("a histogram of another kind than its row")
			return
		}
		if k == sample.Histogram {
			b.H[i] = m.ToIntHistogram()
		} else {
			b.FH[i] = m.ToFloatHistogram()
		}
	}
}

func (d *decoder) exemplars(b *sample.Batch) {
	c := &d.buf
	for range c.Count(11) {
		x := sample.Exemplar{Ref: sample.Ref(c.Uvarint()), T: c.Varint(), HasT: true, V: c.Float()}
		x.Labels = d.labels()
		b.Exemplars = append(b.Exemplars, x)
	}
}
