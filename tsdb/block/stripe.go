// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

const (
	// stripeTarget is when a stripe is full. A read of 64 KiB costs about what its seek does on a cloud
	// disk, and checking it 10 us; neighbouring series are usually wanted together.
	stripeTarget = 64 << 10
	// pageRows is how many rows a page may have, so that a look at an hour does not decode a month.
	pageRows = 2048
	// maxStripe bounds what a reader allocates for a stripe. One series alone can be larger than the target.
	maxStripe = 1 << 30
)

// stripe is what the directory knows of one: where it is, its checksum, its series, its times.
type stripe struct {
	off        int64
	size, crc  uint32
	first      uint32 // id of its first series
	series     uint32
	minT, maxT int64 // of its rows; minT above maxT where it has none
}

// stripeWriter collects the pages of one stripe.
type stripeWriter struct {
	sizes []uint32 // of the region of each series
	data  []byte
	page  []byte
	info  stripe
}

func (w *stripeWriter) reset(first uint32) {
	w.sizes, w.data = w.sizes[:0], w.data[:0]
	w.info = stripe{first: first, minT: math.MaxInt64, maxT: math.MinInt64}
}

// add appends the region of the next series: the rows [from, to) of src in pages.
func (w *stripeWriter) add(src *column.Block, from, to int) {
	start := len(w.data)
	n := (to - from + pageRows - 1) / pageRows
	w.data = binary.AppendUvarint(w.data, uint64(n))
	for ; from < to; from += pageRows {
		end := min(from+pageRows, to)
		minT, maxT := src.T[from], src.T[end-1]
		w.info.minT, w.info.maxT = min(w.info.minT, minT), max(w.info.maxT, maxT)
		w.page = chunk.EncodePage(w.page[:0], src, from, end)
		if n > 1 {
			w.data = binary.AppendVarint(w.data, minT)
			w.data = binary.AppendUvarint(w.data, uint64(maxT-minT))
		}
		w.data = binary.AppendUvarint(w.data, uint64(len(w.page)))
		w.data = append(w.data, w.page...)
	}
	w.sizes = append(w.sizes, uint32(len(w.data)-start))
	w.info.series++
}

// appendTo adds the stripe to dst: the sizes of its regions, then the regions.
func (w *stripeWriter) appendTo(dst []byte) []byte {
	for _, size := range w.sizes {
		dst = binary.AppendUvarint(dst, uint64(size))
	}
	return append(dst, w.data...)
}

// appendDirectory adds the directory of the stripes: of each its size and checksum, how many series it has,
// doubled, plus one where it has rows, and then their times, from those of the stripe before.
func appendDirectory(dst []byte, stripes []stripe) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(stripes)))
	last := int64(0)
	for _, s := range stripes {
		dst = binary.AppendUvarint(dst, uint64(s.size))
		dst = binary.LittleEndian.AppendUint32(dst, s.crc)
		if s.minT > s.maxT {
			dst = binary.AppendUvarint(dst, uint64(s.series)<<1)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(s.series)<<1|1)
		dst = binary.AppendVarint(dst, s.minT-last)
		dst = binary.AppendUvarint(dst, uint64(s.maxT-s.minT))
		last = s.minT
	}
	return dst
}

// parseDirectory reads the directory of a block of n series whose stripes are in area.
func parseDirectory(b []byte, n int, area section) ([]stripe, *cursor) {
	c := &cursor{b: b}
	stripes := make([]stripe, 0, c.count(6))
	off, series, last := area.off, 0, int64(0)
	for range cap(stripes) {
		s := stripe{off: off, first: uint32(series), minT: math.MaxInt64, maxT: math.MinInt64}
		s.size = uint32(c.atMost(maxStripe, "stripe size"))
		s.crc = c.u32()
		k := c.uvarint()
		if k>>1 == 0 || k>>1 > uint64(n-series) {
			c.fail("series of a stripe out of range")
		}
		s.series = uint32(k >> 1)
		if k&1 != 0 {
			s.minT = last + c.varint()
			s.maxT = s.minT + int64(c.uvarint())
			if s.maxT < s.minT {
				c.fail("times of a stripe out of range")
			}
			last = s.minT
		}
		if c.msg != "" {
			return nil, c
		}
		off += int64(s.size)
		series += int(s.series)
		stripes = append(stripes, s)
	}
	if c.finish(); c.msg == "" && (series != n || off != area.off+area.size) {
		c.fail(fmt.Sprintf("%d series in stripes, %d in the index; or stripes end at %d", series, n, off))
	}
	return stripes, c
}

// findStripe returns the index of the stripe that holds a series.
func findStripe(stripes []stripe, id uint32) int {
	return sort.Search(len(stripes), func(i int) bool { return stripes[i].first > id }) - 1
}

// loadedStripe is a stripe in memory, its checksum verified.
type loadedStripe struct {
	b     []byte
	start []uint32 // of the region of each series, and the end of the last
}

func (s *loadedStripe) bytes() int64 { return int64(cap(s.b)) + 4*int64(cap(s.start)) + 64 }

// parseStripe finds the regions in a stripe.
func parseStripe(b []byte, series uint32) (*loadedStripe, *cursor) {
	c := &cursor{b: b}
	s := &loadedStripe{b: b}
	if int64(series) > int64(len(b)) {
		c.fail("more series than bytes")
		return nil, c
	}
	s.start = make([]uint32, 0, series+1)
	at := uint64(0)
	for range series {
		s.start = append(s.start, uint32(at))
		at += uint64(c.atMost(len(b), "size of a region"))
		if at > uint64(len(b)) {
			c.fail("regions beyond the end")
		}
	}
	if c.msg == "" && at != uint64(c.left()) {
		c.fail("regions do not fill the stripe")
	}
	if c.msg != "" {
		return nil, c
	}
	s.start = append(s.start, uint32(at))
	for i := range s.start {
		s.start[i] += uint32(c.off)
	}
	return s, c
}

// read appends the rows of the k-th series of the stripe in [mint, maxt] to dst. On error it returns where in
// the stripe the fault is, and dst may have some of the rows.
func (s *loadedStripe) read(k uint32, mint, maxt int64, withST bool, dst *column.Block) (at int, err error) {
	c := cursor{b: s.b[:s.start[k+1]], off: int(s.start[k])}
	from := len(dst.T)
	n := c.uvarint()
	for i := uint64(0); i < n && c.msg == ""; i++ {
		first, last := int64(math.MinInt64), int64(math.MaxInt64)
		if n > 1 {
			first = c.varint()
			last = first + int64(c.uvarint())
		}
		page := c.bytes(c.count(1))
		if last < mint || first > maxt || c.msg != "" {
			continue
		}
		have := len(dst.T)
		if err := chunk.DecodePage(page, mint, maxt, withST, dst); err != nil {
			return c.off - len(page), err
		}
		if len(dst.T) == have {
			continue
		}
		if have > from && dst.T[have] <= dst.T[have-1] || dst.T[have] < first || dst.T[len(dst.T)-1] > last {
			c.fail("times do not ascend from page to page")
		}
	}
	if c.finish(); c.msg != "" {
		return c.bad, &chunk.CorruptError{Msg: c.msg}
	}
	return 0, nil
}
