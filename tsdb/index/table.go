// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

// table is a hash table from a key to a number, where the key is stored by whoever owns the number. A slot is
// eight bytes: 32 bits of the hash and the number plus one. It is cut into parts that grow on their own, so
// that no single insertion has to move a million entries.
type table struct {
	parts [tableParts]tablePart
}

const (
	tableParts   = 64
	tableMinimum = 8 // slots of a part when it gets its first entry
	slotBytes    = 8
)

// tablePart is open addressing with linear probing; the number of slots is a power of two.
type tablePart struct {
	slots []uint64 // hash<<32 | number+1; 0 is free
	n     int
}

func (t *table) part(hash uint64) *tablePart { return &t.parts[hash>>58] }

// find returns the number whose key has this hash and satisfies eq.
func (t *table) find(hash uint64, eq func(id uint32) bool) (uint32, bool) {
	p := t.part(hash)
	if p.n == 0 {
		return 0, false
	}
	mask := uint32(len(p.slots) - 1)
	for i := uint32(hash) & mask; ; i = (i + 1) & mask {
		s := p.slots[i]
		if s == 0 {
			return 0, false
		}
		if uint32(s>>32) == uint32(hash) && eq(uint32(s)-1) {
			return uint32(s) - 1, true
		}
	}
}

// growth returns how many bytes the next insertion of this hash allocates.
func (t *table) growth(hash uint64) int64 {
	p := t.part(hash)
	if 4*(p.n+1) <= 3*len(p.slots) {
		return 0
	}
	return int64(max(tableMinimum, 2*len(p.slots))) * slotBytes
}

// insert adds a number whose key is not in the table and returns by how many bytes the table grew.
func (t *table) insert(hash uint64, id uint32) int64 {
	p := t.part(hash)
	var grown int64
	if 4*(p.n+1) > 3*len(p.slots) {
		grown = p.resize(max(tableMinimum, 2*len(p.slots)))
	}
	p.put(hash<<32 | uint64(id+1))
	p.n++
	return grown
}

func (p *tablePart) put(slot uint64) {
	mask := uint32(len(p.slots) - 1)
	i := uint32(slot>>32) & mask
	for p.slots[i] != 0 {
		i = (i + 1) & mask
	}
	p.slots[i] = slot
}

// remove deletes a number and returns by how many bytes the table grew, which is never more than zero.
func (t *table) remove(hash uint64, id uint32) int64 {
	p := t.part(hash)
	if p.n == 0 {
		return 0
	}
	mask := uint32(len(p.slots) - 1)
	i := uint32(hash) & mask
	for uint32(p.slots[i]) != id+1 {
		if p.slots[i] == 0 {
			return 0
		}
		i = (i + 1) & mask
	}
	p.n--
	// Later entries of the same probe sequence move up, so that no tombstones are needed.
	for j := (i + 1) & mask; p.slots[j] != 0; j = (j + 1) & mask {
		home := uint32(p.slots[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i] = 0
	if len(p.slots) > tableMinimum && 8*p.n < len(p.slots) {
		return p.resize(len(p.slots) / 2)
	}
	return 0
}

// resize moves the entries into n slots and returns the difference in bytes.
func (p *tablePart) resize(n int) int64 {
	old := p.slots
	p.slots = make([]uint64, n)
	for _, s := range old {
		if s != 0 {
			p.put(s)
		}
	}
	return int64(n-len(old)) * slotBytes
}

// mix spreads the bits of x; it is the finalizer of MurmurHash3.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
