// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"math/rand/v2"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

const (
	// timesKnown is how many columns of times the writer remembers, of 48 bytes each: those of a day of slots of
	// eighty thousand targets.
	timesKnown = 1 << 20
	timesBytes = 48
	// timesMemory is how many bytes the columns of one stripe of times may take when they are parsed.
	timesMemory = 512 << 10
)

// timeKey identifies a column of times and its cell: by a hash, since writing all columns down to compare them would
// take more memory than the block. It is seeded anew for each block.
type timeKey = xxh3.Uint128

type knownTimes struct {
	number uint32
	shared bool // a second page had it
}

// timeWriter stores columns of times once each.
type timeWriter struct {
	encoder *encoding.Encoder
	emit    func(cell uint32, s *timeStripeWriter) error // writes a full stripe
	seed    uint64
	limit   int // of known
	closed  bool
	known   map[timeKey]knownTimes
	cells   []timeStripeWriter
	column  []byte
}

// timeStripeWriter is the stripe of times being filled in one cell.
type timeStripeWriter struct {
	next   uint32  // number of the next column of the cell
	sizes  []int64 // of each column
	rows   []int64 // the same
	data   []byte
	parsed int64 // memory of the columns when they are parsed
}

func (w *timeWriter) init(e *encoding.Encoder, limit int) {
	w.encoder, w.limit, w.seed = e, limit, rand.Uint64()
	w.known = map[timeKey]knownTimes{}
}

// number returns the number of a column of times in a cell, and stores the column if need be.
func (w *timeWriter) number(cell uint32, t []int64) (uint32, error) {
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&t[0])), 8*len(t))
	key := xxh3.Hash128Seed(raw, w.seed^uint64(cell)<<32)
	if k, ok := w.known[key]; ok {
		if !k.shared {
			w.known[key] = knownTimes{k.number, true}
		}
		return k.number, nil
	}
	for int(cell) >= len(w.cells) {
		w.cells = append(w.cells, timeStripeWriter{})
	}
	s := &w.cells[cell]
	number := s.next
	w.remember(key, number)
	w.column = w.encoder.AppendTimes(w.column[:0], t)
	s.next++
	s.sizes = append(s.sizes, int64(len(w.column)))
	s.rows = append(s.rows, int64(len(t)))
	s.data = append(s.data, w.column...)
	s.parsed += encoding.TimesMemory(w.column, len(t))
	if len(s.data) < stripeTarget && s.parsed < timesMemory && len(s.sizes) < groupSeries {
		return number, nil
	}
	return number, w.flush(cell)
}

func (w *timeWriter) flush(cell uint32) error {
	s := &w.cells[cell]
	if len(s.sizes) == 0 {
		return nil
	}
	err := w.emit(cell, s)
	s.sizes, s.rows, s.data, s.parsed = s.sizes[:0], s.rows[:0], s.data[:0], 0
	return err
}

// remember makes a column known. When there is no room, what no second page had is forgotten; and when little was,
// nothing new is learned any more: those that are known are shared, and dropping them for others would gain nothing.
func (w *timeWriter) remember(k timeKey, number uint32) {
	if len(w.known) >= w.limit && !w.closed {
		for k, v := range w.known {
			if !v.shared {
				delete(w.known, k)
			}
		}
		w.closed = len(w.known) > w.limit/4*3
	}
	if len(w.known) < w.limit && !w.closed {
		w.known[k] = knownTimes{number: number}
	}
}

// bytes returns the memory of the dictionary and of the stripes being filled.
func (w *timeWriter) bytes() int64 {
	return int64(len(w.known))*timesBytes + int64(cap(w.column))
}

func (s *timeStripeWriter) bytes() int64 {
	return int64(cap(s.data)) + 8*int64(cap(s.sizes)+cap(s.rows))
}
