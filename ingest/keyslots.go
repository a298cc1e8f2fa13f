// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

const (
	bucketKeys   = 3 // what a cache line holds
	pageBuckets  = 64
	pageKeys     = bucketKeys * pageBuckets
	keyPageBytes = 4 << 10
	metaBytes    = 4 * pageKeys
)

// keyBucket is three entries in one cache line, filled from the first on. Fields are atomic because lookups take no lock.
// An entry without a ref is empty, whatever its key says; the key does not change once it has one.
type keyBucket struct {
	refs [bucketKeys]atomic.Uint64
	lo   [bucketKeys]atomic.Uint64
	hi   [bucketKeys]atomic.Uint32 // the lower half of Key.Hi
	used atomic.Uint32             // a byte for each entry: epoch of its last use, modulo 256
}

type keyPage [pageBuckets]keyBucket

// keyMetas is the hash of the metadata that was stored last for each key of a page, 0 for none. Few protocols have
// metadata with each series, so pages of keys without any have none.
type keyMetas [pageKeys]atomic.Uint32

// keySlots is a hash table by linear probing over buckets. Its length is any number of pages: a key's home is the share of
// the buckets that its hash is of all hashes.
//
// Pages are used again when the table has been replaced. Who looks up without the lock of the shard has to see, after
// it has read, that it has not been.
type keySlots struct {
	pages   []*keyPage
	hasMeta atomic.Bool                // metas has some
	metas   []atomic.Pointer[keyMetas] // by page
}

// keySlot is a place in a keySlots.
type keySlot struct {
	bucket uint64
	entry  int
}

func (t *keySlots) room() int { return len(t.pages) * pageKeys }

// home is the bucket in which a key is looked for first.
func (t *keySlots) home(key Key) uint64 {
	at, _ := bits.Mul64(key.Lo, uint64(len(t.pages)*pageBuckets))
	return at
}

func (t *keySlots) bucket(i uint64) *keyBucket { return &t.pages[i/pageBuckets][i%pageBuckets] }

// find returns the place of a key and its ref, or the empty place where it belongs and 0. Of pages that have become those
// of others meanwhile it may return anything, but it does return: those may have no empty place.
func (t *keySlots) find(key Key) (keySlot, uint64) {
	end := uint64(len(t.pages) * pageBuckets)
	at := t.home(key)
	for range end {
		b := t.bucket(at)
		if i := b.match(key.Lo); i < bucketKeys {
			// An empty place still has the key of another life of the page. What it has counts once it has a ref, so it is looked
			// at after that.
			if ref := b.refs[i].Load(); ref != 0 && b.lo[i].Load() == key.Lo && b.hi[i].Load() == uint32(key.Hi) {
				return keySlot{at, i}, ref
			}
		}
		if b.refs[bucketKeys-1].Load() == 0 {
			return b.search(at, key)
		}
		if at++; at == end {
			at = 0
		}
	}
	return keySlot{}, 0
}

// match returns the first entry that has this, or bucketKeys. It does without branches: which entry it is nobody can
// foresee, and a wrong guess costs as much as a look into the cache.
func (b *keyBucket) match(lo uint64) int {
	x, y, z := b.lo[0].Load(), b.lo[1].Load(), b.lo[2].Load()
	i := bucketKeys
	if z == lo {
		i = 2
	}
	if y == lo {
		i = 1
	}
	if x == lo {
		i = 0
	}
	return i
}

// search is find in a bucket with an empty place.
func (b *keyBucket) search(at uint64, key Key) (keySlot, uint64) {
	for i := range bucketKeys {
		ref := b.refs[i].Load()
		if ref == 0 || b.lo[i].Load() == key.Lo && b.hi[i].Load() == uint32(key.Hi) {
			return keySlot{at, i}, ref
		}
	}
	return keySlot{}, 0 // it was filled meanwhile: the table has been replaced
}

// put fills an empty place.
func (t *keySlots) put(at keySlot, key Key, ref uint64, used uint8) {
	b := t.bucket(at.bucket)
	b.lo[at.entry].Store(key.Lo)
	b.hi[at.entry].Store(uint32(key.Hi))
	b.setUsed(at.entry, used)
	b.refs[at.entry].Store(ref) // last: this is what makes the entry visible
}

func (b *keyBucket) usedAt(i int) uint8 { return uint8(b.used.Load() >> (8 * i)) }

func (b *keyBucket) setUsed(i int, epoch uint8) {
	for {
		old := b.used.Load()
		next := old&^(0xff<<(8*i)) | uint32(epoch)<<(8*i)
		if next == old || b.used.CompareAndSwap(old, next) {
			return
		}
	}
}

func (t *keySlots) meta(at keySlot) uint32 {
	if !t.hasMeta.Load() {
		return 0
	}
	m := t.metas[at.bucket/pageBuckets].Load()
	if m == nil {
		return 0
	}
	return m[at.bucket%pageBuckets*bucketKeys+uint64(at.entry)].Load()
}

// setMeta notes the hash of a key's metadata, unless there is no memory for it. The caller holds the lock of the shard.
func (t *keySlots) setMeta(at keySlot, meta uint32, account *budget.Account) {
	if meta == 0 && !t.hasMeta.Load() {
		return
	}
	m := t.metas[at.bucket/pageBuckets].Load()
	if m == nil {
		if meta == 0 || account.Reserve(metaBytes) != nil {
			return
		}
		m = new(keyMetas)
		t.metas[at.bucket/pageBuckets].Store(m)
		t.hasMeta.Store(true)
	}
	m[at.bucket%pageBuckets*bucketKeys+uint64(at.entry)].Store(meta)
}

// metaBytes returns what the hashes of metadata take.
func (t *keySlots) metaBytes() (n int64) {
	for i := range t.metas {
		if t.metas[i].Load() != nil {
			n += metaBytes
		}
	}
	return n
}

// each calls f with the entries that were used within so many epochs before this one.
func (t *keySlots) each(epoch uint32, within uint8, f func(at keySlot, key Key, ref uint64, used uint8)) {
	for i := range uint64(len(t.pages) * pageBuckets) {
		b := t.bucket(i)
		for k := range bucketKeys {
			ref := b.refs[k].Load()
			if ref == 0 {
				break
			}
			if used := b.usedAt(k); uint8(epoch)-used <= within {
				f(keySlot{i, k}, Key{Hi: uint64(b.hi[k].Load()), Lo: b.lo[k].Load()}, ref, used)
			}
		}
	}
}

func (t *keySlots) count(epoch uint32, within uint8) (n int) {
	t.each(epoch, within, func(keySlot, Key, uint64, uint8) { n++ })
	return n
}

// keyPages owns the pages of all shards, outside of the Go heap. What is given back waits for the next that needs one:
// somebody may be reading it still.
type keyPages struct {
	mu    sync.Mutex
	pages *arena.Table[keyPage] // guarded by mu
	made  uint32                // guarded by mu
	free  []*keyPage            // guarded by mu
}

// take returns n pages without entries.
func (p *keyPages) take(n int) ([]*keyPage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if more := n - len(p.free); more > 0 {
		if err := p.pages.Grow(p.made + uint32(more)); err != nil {
			return nil, fmt.Errorf("make room for keys: %w", err)
		}
		for range more {
			p.free = append(p.free, p.pages.At(p.made))
			p.made++
		}
	}
	out := make([]*keyPage, n)
	rest := len(p.free) - n
	copy(out, p.free[rest:])
	p.free = p.free[:rest]
	for _, page := range out {
		page.clear()
	}
	return out, nil
}

func (p *keyPages) give(pages []*keyPage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, pages...)
}

func (p *keyPages) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = nil
	return p.pages.Close()
}

func (p *keyPage) clear() {
	for i := range p {
		b := &p[i]
		for k := range b.refs {
			b.refs[k].Store(0)
		}
	}
}
