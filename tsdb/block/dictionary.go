// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"math/rand/v2"
	"slices"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

const (
	// timesKnown is how many columns of times the writer remembers, of 64 bytes each: those of a day of slots of
	// eighty thousand targets.
	timesKnown = 1 << 20
	timesBytes = 64
	// recentTimes is how many columns of a cell the writer keeps, to express others by.
	recentTimes = 8
	// timesMemory is how many bytes the columns of one stripe of times may take when they are parsed.
	timesMemory = 512 << 10
	// timesFilling is how many bytes the stripes of times being filled may take together.
	timesFilling = 16 << 20
)

// timeKey identifies a column of times: by a hash, since writing all columns down to compare them would take more memory
// than the block. It is seeded anew for each block. The cell is no part of the seed: of few bytes, the hash is a function
// of seed and bytes added up, so that a time in one cell can be what another is in the next.
type timeKey struct {
	hash xxh3.Uint128
	cell uint32
}

type knownTimes struct {
	number uint32
	shared bool // a second page had it
	part   bool // of another column
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
	filling int64 // bytes of what is in cells
	most    int64 // that they may be
	column  []byte
	part    []byte
	picked  []int64
}

// timeStripeWriter is the stripe of times being filled in one cell.
type timeStripeWriter struct {
	next   uint32  // number of the next column of the cell
	sizes  []int64 // of each column
	rows   []int64 // the same
	bases  []int64 // how many columns before is the one that it is a part of; 0: it is none
	data   []byte
	parsed int64 // memory of the columns when they are parsed

	recent [recentTimes]recentColumn // in a ring
	oldest int
}

// recentColumn is a column of times that pages had lately and that is not a part of another.
type recentColumn struct {
	number uint32
	times  []int64 // empty: none
}

func (w *timeWriter) init(e *encoding.Encoder, limit int) {
	w.encoder, w.limit, w.most, w.seed = e, limit, timesFilling, rand.Uint64()
	w.known = map[timeKey]knownTimes{}
}

// number returns the number of a column of times in a cell, and stores the column if need be.
func (w *timeWriter) number(cell uint32, t []int64) (uint32, error) {
	for int(cell) >= len(w.cells) {
		w.cells = append(w.cells, timeStripeWriter{})
	}
	s := &w.cells[cell]
	had := s.bytes()
	number, err := w.place(cell, t)
	if w.filling += s.bytes() - had; err != nil || w.filling <= w.most {
		return number, err
	}
	return number, w.relieve()
}

// place is number without a look at the memory.
func (w *timeWriter) place(cell uint32, t []int64) (uint32, error) {
	s := &w.cells[cell]
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&t[0])), 8*len(t))
	key := timeKey{xxh3.Hash128Seed(raw, w.seed), cell}
	if k, ok := w.known[key]; ok {
		if !k.shared {
			k.shared = true
			w.known[key] = k
		}
		if !k.part {
			s.use(k.number, t)
		}
		return k.number, nil
	}
	number := s.next
	base := w.encode(s, t)
	if base == 0 {
		s.use(number, t)
	}
	w.remember(key, knownTimes{number: number, part: base > 0})
	s.next++
	s.sizes, s.rows, s.bases = append(s.sizes, int64(len(w.column))), append(s.rows, int64(len(t))), append(s.bases, base)
	s.data = append(s.data, w.column...)
	s.parsed += columnMemory(w.column, len(t), base)
	if len(s.data) < stripeTarget && s.parsed < timesMemory && len(s.sizes) < groupSeries {
		return number, nil
	}
	return number, w.flush(cell)
}

// columnMemory returns what a column takes when it is parsed.
func columnMemory(b []byte, rows int, base int64) int64 {
	if base > 0 {
		b = nil // it is a list of rows, which becomes one of times
	}
	return encoding.TimesMemory(b, rows)
}

// encode makes w.column the column of t, and returns by how many columns before it is expressed, 0 for none. A series
// that comes or goes within a cell, or misses scrapes, has some of the times of its neighbours.
func (w *timeWriter) encode(s *timeStripeWriter, t []int64) (base int64) {
	w.column = w.encoder.AppendTimes(w.column[:0], t)
	for i := range s.recent {
		r := &s.recent[i]
		if len(w.column) < partBytes || !w.pick(t, r.times) {
			continue
		}
		w.part = w.encoder.AppendInts(w.part[:0], w.picked)
		if len(w.part) < len(w.column) {
			w.column = append(w.column[:0], w.part...)
			base = int64(s.next) - int64(r.number)
		}
	}
	return base
}

// partBytes is how small a column is that need not be expressed by another.
const partBytes = 16

// pick makes w.picked the rows of all that have the times of t, and tells whether there are such.
func (w *timeWriter) pick(t, all []int64) bool {
	row, ok := slices.BinarySearch(all, t[0])
	if !ok || len(all)-row < len(t) {
		return false
	}
	w.picked = w.picked[:0]
	for _, x := range t {
		for row < len(all) && all[row] < x {
			row++
		}
		if row == len(all) || all[row] != x {
			return false
		}
		w.picked = append(w.picked, int64(row))
	}
	return true
}

// use makes a column one of the recent ones.
func (s *timeStripeWriter) use(number uint32, t []int64) {
	for i := range s.recent {
		if r := &s.recent[i]; r.number == number && len(r.times) > 0 {
			return
		}
	}
	r := &s.recent[s.oldest]
	s.oldest = (s.oldest + 1) % recentTimes
	r.number, r.times = number, append(r.times[:0], t...)
}

func (w *timeWriter) flush(cell uint32) error {
	s := &w.cells[cell]
	if len(s.sizes) == 0 {
		return nil
	}
	err := w.emit(cell, s)
	s.sizes, s.rows, s.bases, s.data, s.parsed = s.sizes[:0], s.rows[:0], s.bases[:0], s.data[:0], 0
	return err
}

// relieve writes the stripes early that take the most memory, at least half of all, and drops it.
func (w *timeWriter) relieve() error {
	least := w.filling / int64(len(w.cells)) / 2
	for cell := range w.cells {
		s := &w.cells[cell]
		n := s.bytes()
		if n < least {
			continue
		}
		if err := w.flush(uint32(cell)); err != nil {
			return err
		}
		*s = timeStripeWriter{next: s.next}
		w.filling -= n
	}
	return nil
}

// remember makes a column known. When there is no room, what no second page had is forgotten; and when little was,
// nothing new is learned any more: those that are known are shared, and dropping them for others would gain nothing.
func (w *timeWriter) remember(k timeKey, column knownTimes) {
	if len(w.known) >= w.limit && !w.closed {
		for k, v := range w.known {
			if !v.shared {
				delete(w.known, k)
			}
		}
		w.closed = len(w.known) > w.limit/4*3
	}
	if len(w.known) < w.limit && !w.closed {
		w.known[k] = column
	}
}

// bytes returns the memory of the dictionary and of the stripes being filled.
func (w *timeWriter) bytes() int64 {
	return int64(len(w.known))*timesBytes + w.filling + int64(cap(w.column)+cap(w.part)) + 8*int64(cap(w.picked))
}

func (s *timeStripeWriter) bytes() int64 {
	n := int64(cap(s.data)) + 8*int64(cap(s.sizes)+cap(s.rows)+cap(s.bases))
	for i := range s.recent {
		n += 8 * int64(cap(s.recent[i].times))
	}
	return n
}
