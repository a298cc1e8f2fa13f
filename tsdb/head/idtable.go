// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math/bits"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// idTable is ids by the hash of their labels, outside the Go heap: open addressing with linear probing over any number of
// slots, of which the home of a hash is its share of all hashes. A slot is the id plus one, and bits of the hash above it:
// as many as ids leave free, so that what a probe passes by need not be looked at. Between 5 and 7.5 bytes an id.
type idTable struct {
	account *budget.Account
	slots   *arena.Table[uint32]
	n       uint32 // slots
	used    uint32
	idBits  uint8
}

func (t *idTable) open(a *budget.Account) {
	t.account, t.slots = a, arena.NewTable[uint32](arena.Options{Account: a})
}

func (t *idTable) close() error {
	t.n, t.used = 0, 0
	return t.slots.Close()
}

func (t *idTable) bytes() int64 { return t.slots.Bytes() }

func (t *idTable) home(h index.Hash128) uint32 {
	at, _ := bits.Mul64(h.Lo, uint64(t.n))
	return uint32(at)
}

func (t *idTable) next(i uint32) uint32 {
	if i++; i == t.n {
		return 0
	}
	return i
}

// slotOf returns what stands for an id in the table.
func (t *idTable) slotOf(id uint32, h index.Hash128) uint32 { return uint32(h.Hi)<<t.idBits | (id + 1) }

func (t *idTable) idOf(slot uint32) uint32 { return slot&(1<<t.idBits-1) - 1 }

// find returns the id with this hash for which same is true.
func (t *idTable) find(h index.Hash128, same func(id uint32) bool) (id uint32, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	for i := t.home(h); ; i = t.next(i) {
		slot := *t.slots.At(i)
		if slot == 0 {
			return 0, false
		}
		if id := t.idOf(slot); slot == t.slotOf(id, h) && same(id) {
			return id, true
		}
	}
}

// makeRoom makes sure that insert has room for an id. hash returns that of an id in the table. The error is a
// *budget.ExceededError or what the operating system said.
func (t *idTable) makeRoom(id uint32, hash func(id uint32) index.Hash128) error {
	next := idTable{idBits: t.idBits}
	if need := uint8(bits.Len32(id + 1)); need > t.idBits {
		next.idBits = need + 1
	} else if t.used < t.n/5*4 {
		return nil
	}
	next.open(t.account)
	if err := next.slots.Grow(2*t.used - t.used/8 + 1); err != nil {
		_ = next.slots.Close() // nothing to be lost
		return err
	}
	next.n = next.slots.Cap()
	for i := range t.n {
		if slot := *t.slots.At(i); slot != 0 {
			id := t.idOf(slot)
			next.insert(id, hash(id))
		}
	}
	was := *t
	*t = next
	return was.close()
}

// expect makes room for the ids below n in a table that is empty: it grows no more until there are others. The error is
// that of makeRoom.
func (t *idTable) expect(n uint32) error {
	if t.n > 0 || n == 0 {
		return nil
	}
	t.idBits = uint8(bits.Len32(n) + 1)
	if err := t.slots.Grow(n + n/4 + 5); err != nil {
		return err
	}
	t.n = t.slots.Cap()
	return nil
}

// insert adds an id that is not in the table and that there is room for.
func (t *idTable) insert(id uint32, h index.Hash128) {
	i := t.home(h)
	for *t.slots.At(i) != 0 {
		i = t.next(i)
	}
	*t.slots.At(i) = t.slotOf(id, h)
	t.used++
}

// remove takes an id out, if it is there, and moves up what would not be found behind the gap.
func (t *idTable) remove(id uint32, hash func(id uint32) index.Hash128) {
	if t.n == 0 {
		return
	}
	h := hash(id)
	gap := t.home(h)
	for want := t.slotOf(id, h); *t.slots.At(gap) != want; gap = t.next(gap) {
		if *t.slots.At(gap) == 0 {
			return
		}
	}
	for i := t.next(gap); *t.slots.At(i) != 0; i = t.next(i) {
		home := t.home(hash(t.idOf(*t.slots.At(i))))
		if t.distance(home, i) >= t.distance(gap, i) {
			*t.slots.At(gap) = *t.slots.At(i)
			gap = i
		}
	}
	*t.slots.At(gap) = 0
	t.used--
}

// distance returns how many slots i is behind from.
func (t *idTable) distance(from, i uint32) uint32 {
	if i < from {
		i += t.n
	}
	return i - from
}
