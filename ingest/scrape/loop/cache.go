// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// cache is what a target's scrapes remember: the series of its last body in their order, by the hash of the text that
// names them, with their refs; what comments stood between them; and which had a sample last, so that what is gone can be
// marked stale. It belongs to one loop at a time.
//
// Entries are compared with a new body in order, each with as many bytes as it had the last time. Hashes have 64 bits and
// a random seed: two texts in the same place of a body are taken for one with a probability of 2^-64.
type cache struct {
	seed     uint64
	iter     uint32 // counts scrapes, from 1 on
	entries  []entry
	ordered  int // how many of entries are the last body in its order; behind them are those of failed scrapes
	good     int // how many series and families there were after the last good scrape
	reports  [reportSeries]sample.Ref
	families families
	origins  map[uint64]*origin // by hash of their series, where start times are synthesized
}

// entry is a series of a target by the text that names it, or the comments between two of them.
type entry struct {
	hash   uint64
	ref    sample.Ref // 0 of a comment, of what relabelling drops, and of a series that is not resolved yet
	size   uint32     // bytes of the text
	family int32      // of a comment: what it describes, -1 for nothing
	seen   uint32     // the last scrape it was in
	flags  entryFlag
	typ    familyType // of a comment: the last type it tells, 0 for none
}

type entryFlag uint8

const (
	isComment entryFlag = 1 << iota
	isDropped           // by relabelling
	isBeyond            // dropped because of a limit of labels
	isFresh             // begun in this scrape, and not known yet to be one that the store takes
	isRefused           // it was begun, and the store did not take it: as if it were not there
	hadSample           // in the scrape before this one, for which it has to be marked if it is gone
	hasSample           // likewise, in this one
)

func newCache(seed uint64) *cache { return &cache{seed: seed, iter: 1} }

func (c *cache) hash(text []byte) uint64 { return xxh3.HashSeed(text, c.seed) }

// is reports whether the entry is of this text.
func (c *cache) is(e *entry, text []byte) bool {
	return int(e.size) == len(text) && e.hash == c.hash(text)
}

// next ends a scrape: what had a sample in it is what the next one compares with.
func (c *cache) next() {
	for i := range c.entries {
		e := &c.entries[i]
		e.flags &^= hadSample
		if e.flags&hasSample != 0 {
			e.flags ^= hasSample | hadSample
		}
	}
	c.iter++
}

// eachGone calls f with the refs that had a sample in the scrape before this one and have none in this: of several texts
// of one series any counts.
func (c *cache) eachGone(f func(ref sample.Ref)) {
	var gone map[sample.Ref]bool
	for i := range c.entries {
		if e := &c.entries[i]; e.flags&(hadSample|hasSample) == hadSample && e.ref != 0 {
			if gone == nil {
				gone = map[sample.Ref]bool{}
			}
			gone[e.ref] = true
		}
	}
	if gone == nil {
		return
	}
	for i := range c.entries {
		if e := &c.entries[i]; e.flags&hasSample != 0 {
			delete(gone, e.ref)
		}
	}
	for i := range c.entries { // not the map: markers come in the order of series
		if e := &c.entries[i]; e.flags&hadSample != 0 && gone[e.ref] {
			delete(gone, e.ref)
			f(e.ref)
		}
	}
}

// size is how many series and families are remembered.
func (c *cache) size() int {
	n := len(c.reports) + c.families.len()
	for i := range c.entries {
		if c.entries[i].flags&(isComment|isRefused) == 0 {
			n++
		}
	}
	return n
}

// keep forgets what was not in this scrape and puts the rest into the order of its body: the first prefix entries are
// there already, the others follow.
func (c *cache) keep(prefix int, order []int32) {
	kept := make([]entry, 0, prefix+len(order))
	kept = append(kept, c.entries[:prefix]...)
	for _, i := range order {
		kept = append(kept, c.entries[i])
	}
	c.entries, c.ordered = kept, len(kept)
	c.keepOrigins()
}

// forget forgets what was not in this scrape, and keeps the order of the rest.
func (c *cache) forget() {
	kept := make([]entry, 0, len(c.entries))
	ordered := 0
	for i := range c.entries {
		if e := &c.entries[i]; e.seen == c.iter {
			kept = append(kept, *e)
			if i < c.ordered {
				ordered++
			}
		}
	}
	c.entries, c.ordered = kept, ordered
	c.keepOrigins()
}

// keepOrigins forgets those of series that are forgotten.
func (c *cache) keepOrigins() {
	if len(c.origins) == 0 {
		return
	}
	kept := make(map[uint64]*origin, len(c.origins))
	for i := range c.entries {
		if o := c.origins[c.entries[i].hash]; o != nil {
			kept[c.entries[i].hash] = o
		}
	}
	c.origins = kept
}

// dropComments forgets the comments of a failed scrape: nothing looks for them.
func (c *cache) dropComments() {
	kept := c.entries[:c.ordered]
	for _, e := range c.entries[c.ordered:] {
		if e.flags&(isComment|isRefused) == 0 {
			kept = append(kept, e)
		}
	}
	c.entries = kept
}

// places finds entries by their hash. It is made for a scrape whose body has another order than the one before.
type places struct {
	slots []int32 // index of an entry + 1
}

func (p *places) build(entries []entry) {
	size := 16
	for size < 2*len(entries) {
		size *= 2
	}
	if cap(p.slots) < size {
		p.slots = make([]int32, size)
	}
	p.slots = p.slots[:size]
	clear(p.slots)
	for i := range entries {
		p.insert(entries, int32(i))
	}
}

func (p *places) built() bool { return len(p.slots) > 0 }

// add adds the last of the entries.
func (p *places) add(entries []entry) {
	if 2*len(entries) > len(p.slots) {
		p.build(entries)
		return
	}
	p.insert(entries, int32(len(entries)-1))
}

func (p *places) insert(entries []entry, i int32) {
	mask := uint64(len(p.slots) - 1)
	for at := entries[i].hash & mask; ; at = (at + 1) & mask {
		if p.slots[at] == 0 {
			p.slots[at] = i + 1
			return
		}
	}
}

// find returns the entry of a text, or -1.
func (p *places) find(entries []entry, hash uint64, size int) int32 {
	mask := uint64(len(p.slots) - 1)
	for at := hash & mask; p.slots[at] != 0; at = (at + 1) & mask {
		i := p.slots[at] - 1
		if e := &entries[i]; e.hash == hash && int(e.size) == size {
			return i
		}
	}
	return -1
}
