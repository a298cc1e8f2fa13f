// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"hash/maphash"
	"math/bits"
)

// index finds the symbol of a text, by open addressing: 8 to 16 B for each, where a Go map of texts takes several times
// as much.
type index struct {
	slots []uint32 // a power of two of symbols; 0, which is that of the empty text, is free
	seed  maphash.Seed
}

// slot returns the slot of a text, or the free one where it belongs.
func (x *index) slot(s string, texts []string) *uint32 {
	mask := uint64(len(x.slots) - 1)
	for i := maphash.String(x.seed, s) & mask; ; i = (i + 1) & mask {
		if sym := x.slots[i]; sym == 0 || texts[sym] == s {
			return &x.slots[i]
		}
	}
}

// useIndex sees to it that all symbols are in the index and there is room for one more.
func (d *Dict) useIndex() error {
	old := len(d.index.slots)
	if 2*(len(d.text)+1) <= old {
		return nil
	}
	slots := 1 << bits.Len(uint(3*len(d.text)|63))
	if err := d.charge(symbolBytes * int64(slots)); err != nil {
		return err
	}
	x := index{slots: make([]uint32, slots), seed: maphash.MakeSeed()}
	for i, s := range d.text {
		if i%pollRows == 0 {
			if err := d.check(); err != nil {
				d.refund(symbolBytes * int64(slots))
				return err
			}
		}
		if i > 0 {
			*x.slot(s, d.text) = uint32(i)
		}
	}
	d.refund(symbolBytes * int64(old+cap(d.order)))
	d.index, d.order = x, nil
	return nil
}
