// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"errors"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Part is in-order rows of one shard and one slot that have left memory for a file. Series are known in it by their
// local ids. It is safe for concurrent use.
type Part interface {
	// Reader returns a reader of the part, of one goroutine. once says that what it reads is not wanted again.
	Reader(once bool) PartReader
	// Ahead touches what finding a series takes, so that it is near when a reader is asked for it. What it returns means
	// nothing.
	Ahead(local uint32) uint32
	// Discard removes the part for good: a block holds its rows, and no pin sees them here any more.
	Discard()
	// Close gives back what the part holds in memory. The file stays.
	Close() error
}

// PartReader reads a part. Series of one metric are asked for together mostly.
type PartReader interface {
	// Read appends the rows of a series in [mint, maxt] to dst, ascending in time, with start timestamps if withST. The
	// error is a *DamageError where some cannot be read; dst has the others then. On any other it is as it was.
	Read(local uint32, mint, maxt int64, withST bool, dst *column.Block) error
	// ChargeTo charges dst, which may be another one than that of the Read before, for what the reader holds.
	ChargeTo(dst *column.Block) error
	// Close gives the reader back.
	Close()
}

// DamageError says that some rows of a part cannot be read, and why.
type DamageError struct{ Err error }

// Error says why.
func (e *DamageError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *DamageError) Unwrap() error { return e.Err }

// PartInfo is what the head has to know of a part.
type PartInfo struct {
	Shard      uint32
	Slot       int64      // its start
	LSN        sample.LSN // up to which it has rows
	MinT, MaxT int64      // of its rows
	Rows       int
}

// PartSeries is the series of a part: the local id of each, its generation, 0 for one without rows, and the times of its
// first and its last row.
type PartSeries struct {
	Local, Gen  []uint32
	First, Last []int64
}

// attached is a part of a shard. All but dead stays as it is.
type attached struct {
	PartInfo
	part Part
	// born and dead are the numbers of the drops that took the rows out of memory and that took the part, 0 for none:
	// pins see it from the one on, up to the other.
	born, dead uint32
	// without are series that have rows in the part but that the log lost: what has their ids now is not them.
	without map[uint32]struct{}
}

// compareParts orders the parts of a shard: by slot, and those of a slot as they were written. So the rows of a series
// ascend from one to the next as a rule; see Reader.inOrder.
func compareParts(a, b *attached) int {
	return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.LSN, b.LSN))
}

// addPartLocked puts a part among those of the shard.
func (s *shard) addPartLocked(x *attached) {
	raise(&s.head.spilledTo, x.MaxT)
	i, _ := slices.BinarySearchFunc(s.parts, x, compareParts)
	s.parts = slices.Insert(s.parts, i, x)
}

// seesPart reports whether the pin sees the rows of a part there.
func (p *Pin) seesPart(x *attached) bool {
	return x.born <= p.drops && (x.dead == 0 || x.dead > p.drops)
}

// inPartsLocked reports whether a series may have rows in one of the parts that ok says. A series has none in slots
// after that of its newest row.
func (s *shard) inPartsLocked(hd *header, ok func(*attached) bool) bool {
	if hd.flags&inPart == 0 {
		return false
	}
	for _, x := range s.parts {
		if x.Slot > hd.lastT {
			return false
		}
		if ok(x) {
			return true
		}
	}
	return false
}

func (x *attached) alive() bool { return x.dead == 0 }

// partsOldestLocked returns the time that no row of the shard's parts is before, ok false where it has none.
func (s *shard) partsOldestLocked() (t int64, ok bool) {
	for i, x := range s.parts {
		if i == 0 || x.MinT < t {
			t, ok = x.MinT, true
		}
	}
	return t, ok
}

// dropPartsLocked makes the parts of a slot dead that hold rows up to lsn, and returns how many rows they have.
func (s *shard) dropPartsLocked(slot int64, lsn sample.LSN, number uint32) (rows int) {
	for _, x := range s.parts {
		if x.Slot == slot && x.dead == 0 && x.LSN <= lsn {
			x.dead = number
			rows += x.Rows
		}
	}
	return rows
}

// takeDeadPartsLocked takes the parts away that went with a drop of at most this number, and appends them to gone. left
// is whether dead ones stay.
func (s *shard) takeDeadPartsLocked(drops uint32, gone []*attached) (_ []*attached, left bool) {
	s.parts = slices.DeleteFunc(s.parts, func(x *attached) bool {
		if x.dead != 0 && x.dead <= drops {
			gone = append(gone, x)
			return true
		}
		left = left || x.dead != 0
		return false
	})
	return gone, left
}

// closeParts gives back what the parts hold in memory.
func (s *shard) closePartsLocked() error {
	var errs []error
	for _, x := range s.parts {
		errs = append(errs, x.part.Close())
	}
	s.parts = nil
	return errors.Join(errs...)
}

func (x *attached) lacks(local uint32) bool {
	_, ok := x.without[local]
	return ok
}
