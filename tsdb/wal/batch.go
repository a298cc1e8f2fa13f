// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Limits are what the rows of a batch were judged by: see head.Limits, which has the same fields.
type Limits struct {
	MinT, MaxT         int64
	MinPush, MinScrape int64
}

// AppendLimits appends the start of a batch record's payload; AppendBatch appends the rest.
func AppendLimits(dst []byte, l Limits) []byte {
	dst = append(dst, limitsFormat)
	for _, t := range [...]int64{l.MinT, l.MaxT, l.MinPush, l.MinScrape} {
		dst = appendVarint(dst, t)
	}
	return dst
}

// DecodeLimits reads the limits at the start of a batch record's payload and returns the rest of it.
func DecodeLimits(p []byte) (Limits, []byte, error) {
	c := newCursor("batch", p)
	c.version(limitsFormat)
	l := Limits{MinT: c.Varint(), MaxT: c.Varint(), MinPush: c.Varint(), MinScrape: c.Varint()}
	if c.Failed() {
		return Limits{}, nil, c.err()
	}
	return l, p[c.Off:], nil
}

// How a column of small values is written.
const (
	columnNone    byte = iota // the batch has no such column
	columnUniform             // one value for all rows
	columnFull                // one for each
)

const (
	// compressFrom is the size below which compressing a batch does not pay: 2 ns a sample for less than a
	// disk sector.
	compressFrom = 4 << 10
	// compressAtMost bounds the memory that a damaged record can ask for; no real batch comes near it.
	compressAtMost = 1 << 10
)

// AppendBatch appends b: first the columns of the rows, then histograms, exemplars and descriptions. A large one
// is compressed if that saves an eighth: a scrape shrinks by a quarter (BenchmarkAppendBatch).
func AppendBatch(dst []byte, b *sample.Batch) []byte {
	dst = append(dst, batchPlain)
	at := len(dst)
	dst = appendColumns(dst, b)
	size := len(dst) - at
	if size < compressFrom {
		return dst
	}
	most := s2.MaxEncodedLen(size)
	if most < 0 {
		return dst // More than S2 can take.
	}
	dst = slices.Grow(dst, most)
	packed := s2.Encode(dst[len(dst):len(dst)+most], dst[at:])
	if len(packed) > size-size/8 || len(packed)*compressAtMost < size {
		return dst
	}
	dst[at-1] = batchS2
	return append(dst[:at], packed...)
}

func appendColumns(dst []byte, b *sample.Batch) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Len()))
	dst = appendRefs(dst, b.Ref)
	dst = appendTimes(dst, b.T)
	dst = appendBytes(dst, b.Kind)
	dst = appendBytes(dst, b.Flags)
	if b.ST == nil {
		dst = append(dst, columnNone)
	} else {
		dst = appendTimes(append(dst, columnFull), b.ST)
	}
	dst = appendValues(dst, b.V)
	for i, k := range b.Kind {
		switch k {
		case sample.Float:
		case sample.Histogram:
			dst = appendHistogram(dst, b.H[i])
		case sample.FloatHistogram:
			dst = appendFloatHistogram(dst, b.FH[i])
		}
	}
	dst = appendExemplars(dst, b.Exemplars)
	return appendMetadata(dst, b.Meta)
}

// Decoder decodes batches, one after the other, in memory that it uses again.
type Decoder struct{ plain []byte }

// Size returns the bytes of that memory.
func (d *Decoder) Size() int { return cap(d.plain) }

// DecodeBatch is Decoder.Batch for a single batch.
func DecodeBatch(p []byte, b *sample.Batch) error { return new(Decoder).Batch(p, b) }

// Batch fills b, which it resets first, from what AppendBatch appended. On error b is empty.
func (d *Decoder) Batch(p []byte, b *sample.Batch) error {
	b.Reset()
	c := newCursor("batch", p)
	c.version(batchFormat)
	if !c.Failed() && p[0] == batchS2 {
		d.plain = c.unpack(d.plain)
	}
	n := c.Count(1)
	b.Ref = c.refs(slices.Grow(b.Ref, n), n)
	b.T = c.times(b.T, n)
	b.Kind = readBytes(c, b.Kind, n, sample.FloatHistogram)
	b.Flags = readBytes(c, b.Flags, n, math.MaxUint8)
	switch c.Byte() {
	case columnNone:
	case columnFull:
		b.ST = c.times(make([]int64, 0, n), n)
	default:
		c.Fail("bad column form")
	}
	b.V = c.values(b.V, n)
	c.histograms(b)
	b.Exemplars = c.exemplars(b.Exemplars)
	b.Meta = c.metadata(b.Meta)
	if err := c.done(); err != nil {
		b.Reset()
		return err
	}
	return nil
}

// unpack replaces the rest of the payload by what it is the S2 block of, for which it uses buf. It returns the memory for
// the next time.
func (c *cursor) unpack(buf []byte) []byte {
	packed := c.B[c.Off:]
	size, err := s2.DecodedLen(packed)
	if err != nil || size > len(packed)*compressAtMost {
		c.Fail("bad length of a compressed batch")
		return buf
	}
	p, err := s2.Decode(buf[:cap(buf)], packed)
	if err != nil {
		c.Fail("compressed batch: " + err.Error())
		return buf
	}
	c.B, c.Off = p, 0
	return p
}

// appendTimes writes a column of times as one, where all are equal, as in a scrape, or as differences.
func appendTimes(dst []byte, ts []int64) []byte {
	if len(ts) == 0 {
		return append(dst, columnNone)
	}
	first := ts[0]
	if !slices.ContainsFunc(ts, func(t int64) bool { return t != first }) {
		return appendVarint(append(dst, columnUniform), first)
	}
	dst = append(dst, columnFull)
	prev := int64(0)
	for _, t := range ts {
		dst = appendVarint(dst, t-prev)
		prev = t
	}
	return dst
}

func (c *cursor) times(dst []int64, n int) []int64 {
	form := c.Byte()
	if c.Failed() {
		return dst
	}
	switch {
	case form == columnNone && n == 0:
	case form == columnUniform && n > 0:
		t := c.Varint()
		dst = slices.Grow(dst, n)
		for range n {
			dst = append(dst, t)
		}
	case form == columnFull && n > 0 && n <= c.Left():
		dst = slices.Grow(dst, n)
		t := int64(0)
		for range n {
			t += c.Varint()
			dst = append(dst, t)
		}
	default:
		c.Fail("bad column of times")
	}
	return dst
}

func appendBytes[T ~uint8](dst []byte, col []T) []byte {
	if len(col) == 0 {
		return append(dst, columnNone)
	}
	first := col[0]
	if !slices.ContainsFunc(col, func(v T) bool { return v != first }) {
		return append(dst, columnUniform, byte(first))
	}
	dst = append(dst, columnFull)
	for _, v := range col {
		dst = append(dst, byte(v))
	}
	return dst
}

func readBytes[T ~uint8](c *cursor, dst []T, n int, most T) []T {
	form := c.Byte()
	if form == columnNone || c.Failed() {
		return nil
	}
	var from []byte
	switch {
	case form == columnUniform && n > 0:
		from = c.Bytes(1)
	case form == columnFull && n > 0:
		from = c.Bytes(n)
	default:
		c.Fail("bad column form")
	}
	if c.Failed() {
		return nil
	}
	dst = slices.Grow(dst[:0], n)[:n]
	for i := range dst {
		dst[i] = T(from[min(i, len(from)-1)])
		if dst[i] > most {
			c.Fail("bad value in a column")
			return nil
		}
	}
	return dst
}

// appendValues writes the bits of floats without the zero bytes at their low end: whole numbers, which most
// samples are, have many. Two lengths of 0 to 8 share a byte; the bytes themselves follow, high ones first.
func appendValues(dst []byte, vs []float64) []byte {
	at := len(dst)
	lengths := (len(vs) + 1) / 2
	dst = slices.Grow(dst, lengths+8*len(vs)+8)
	end := at + lengths
	clear(dst[at:end])
	buf := dst[:cap(dst)]
	for i, v := range vs {
		x := math.Float64bits(v)
		n := 8 - bits.TrailingZeros64(x)/8
		binary.BigEndian.PutUint64(buf[end:], x)
		end += n
		buf[at+i/2] |= byte(n) << (i % 2 * 4)
	}
	return buf[:end]
}

func (c *cursor) values(dst []float64, n int) []float64 {
	lengths := c.Bytes((n + 1) / 2)
	if c.Failed() {
		return dst
	}
	dst = slices.Grow(dst[:0], n)[:n]
	p := c.B[c.Off:]
	used := 0
	for i := range dst {
		k := int(lengths[i/2]>>(i%2*4)) & 15
		if k > 8 || used+k > len(p) {
			c.Fail("bad length of a value")
			return dst[:0]
		}
		var x uint64
		if used+8 <= len(p) {
			// A shift by 64 gives 0 in Go: k = 0 needs no case of its own.
			drop := uint(64 - 8*k)
			x = binary.BigEndian.Uint64(p[used:]) >> drop << drop
		} else {
			for b := range k {
				x |= uint64(p[used+b]) << (56 - 8*b)
			}
		}
		used += k
		dst[i] = math.Float64frombits(x)
	}
	c.Off += used
	return dst
}

// histograms reads the histograms of the rows whose kind says that they have one.
func (c *cursor) histograms(b *sample.Batch) {
	if b.Kind == nil || c.Failed() {
		return
	}
	b.H = make([]*histogram.Histogram, len(b.Kind))
	b.FH = make([]*histogram.FloatHistogram, len(b.Kind))
	for i, k := range b.Kind {
		switch k {
		case sample.Float:
		case sample.Histogram:
			b.H[i] = c.histogram()
		case sample.FloatHistogram:
			b.FH[i] = c.floatHistogram()
		}
		if c.Failed() {
			return
		}
	}
}
