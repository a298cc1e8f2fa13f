// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Key is a 128-bit hash of a series' label bytes as one protocol writes them. Two ways to write the same labels are
// two keys of one series. The hash is seeded at random in every process, so that no sender can choose label bytes
// that collide. The table compares 102 bits of it: by chance, 10^8 different keys collide with a probability of 10^-15.
type Key = xxh3.Uint128

const (
	keyShards     = 64 // a growing shard blocks the writers of 1/64 of the keys only
	keyIdleEpochs = 2  // entries unused for more epochs than this go when room is made
)

type keyShard struct {
	table atomic.Pointer[keySlots]
	mu    struct {
		sync.Mutex
		count   int
		skip    int    // puts to let go before room is looked for again
		skipped uint32 // the epoch in which; another one makes idle what was not
	}
}

// KeyTable maps keys to series of the store. It is outside the Go heap but for hashes of metadata, takes some 27 bytes a
// key, is bounded by a budget account, and forgets what was not used for longest; a forgotten key costs one Resolve.
type KeyTable struct {
	// Of the protocol number p the seed is seed + p*step: the hash of short inputs mixes the seed in so weakly that seeds
	// which differ by a small known number have collisions.
	seed, step uint64
	account    *budget.Account
	epoch      atomic.Uint32
	pages      keyPages
	shards     [keyShards]keyShard
}

// NewKeyTable returns an empty table which charges its memory to account; nil: it is not bounded.
func NewKeyTable(account *budget.Account) *KeyTable {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails: it ends the process instead
	k := &KeyTable{seed: binary.LittleEndian.Uint64(seed[:]), step: binary.LittleEndian.Uint64(seed[8:]) | 1, account: account}
	// Pages are charged when they are part of a table. Those of the next table of one shard, and those of its last, are
	// not: 1/64 of all. A full budget must not keep a shard from forgetting.
	k.pages.pages = arena.NewTable[keyPage](arena.Options{})
	return k
}

// Close gives back all memory. Nobody may use the table any more.
func (k *KeyTable) Close() error {
	k.account.Release(k.Bytes())
	for i := range k.shards {
		k.shards[i].table.Store(nil)
	}
	return k.pages.close()
}

// Hash returns the key of label bytes. Protocols whose bytes could be mistaken for each other's pass different ones.
func (k *KeyTable) Hash(protocol uint64, labels []byte) Key {
	return xxh3.Hash128Seed(labels, k.seed+protocol*k.step)
}

// SetEpoch sets the clock of the table, in any unit that advances while keys are in use; see keyIdleEpochs.
func (k *KeyTable) SetEpoch(epoch uint32) {
	if k.epoch.Load() != epoch {
		k.epoch.Store(epoch)
	}
}

// Ahead fetches the memory of keys that will be looked up next. A large table is in no cache: without it each Get would
// wait for memory, with it all of them wait once.
func (k *KeyTable) Ahead(keys []Key) {
	var lines [32]unsafe.Pointer
	n := 0
	for i := range keys {
		if t := k.shard(keys[i]).table.Load(); t != nil {
			lines[n] = unsafe.Pointer(t.bucket(t.home(keys[i])))
			n++
		}
		if n == len(lines) || i == len(keys)-1 {
			arena.Prefetch(lines[:n])
			n = 0
		}
	}
}

// Get returns the series of a key and the hash of its metadata, 0 if the key is not known.
func (k *KeyTable) Get(key Key) (sample.Ref, uint32) {
	s := k.shard(key)
	for t := s.table.Load(); t != nil; {
		at, ref := t.find(key)
		if ref == 0 {
			if now := s.table.Load(); now != t {
				t = now
				continue
			}
			return 0, 0
		}
		meta := t.meta(at)
		// Where the table has been replaced meanwhile its pages may be those of another one already.
		if now := s.table.Load(); now != t {
			t = now
			continue
		}
		t.bucket(at.bucket).setUsed(at.entry, uint8(k.epoch.Load()))
		return sample.Ref(ref), meta
	}
	return 0, 0
}

// Put remembers, or corrects, the series of a key. It does nothing if the budget has no room.
func (k *KeyTable) Put(key Key, ref sample.Ref, meta uint32) {
	s := k.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if t != nil {
		if at, known := t.find(key); known != 0 {
			t.bucket(at.bucket).refs[at.entry].Store(uint64(ref))
			t.setMeta(at, meta, k.account)
			return
		}
	}
	if t == nil || s.mu.count >= mostKeys(t.room()) {
		if t = k.makeRoomLocked(s, t); t == nil {
			return
		}
	}
	at, _ := t.find(key)
	t.setMeta(at, meta, k.account)
	t.put(at, key, uint64(ref), uint8(k.epoch.Load()))
	s.mu.count++
}

// mostKeys returns how many keys may be in so many places: with 7/8 of them taken, a hit looks at 1.4 buckets.
func mostKeys(room int) int { return room / 8 * 7 }

// Len returns the number of keys.
func (k *KeyTable) Len() int {
	n := 0
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		n += s.mu.count
		s.mu.Unlock()
	}
	return n
}

// Bytes returns the memory of the table.
func (k *KeyTable) Bytes() int64 {
	var n int64
	for i := range k.shards {
		if t := k.shards[i].table.Load(); t != nil {
			n += int64(len(t.pages))*keyPageBytes + t.metaBytes()
		}
	}
	return n
}

func (k *KeyTable) shard(key Key) *keyShard { return &k.shards[key.Hi>>58] }

// makeRoomLocked replaces a full table by one without idle entries that has room for a quarter more; without budget for
// that, by one of the same size with only what the current epoch used. It returns nil if that would not free an eighth
// of the places, and for as many puts to come: looking costs a walk over the table.
func (k *KeyTable) makeRoomLocked(s *keyShard, old *keySlots) *keySlots {
	if old == nil {
		return k.replaceLocked(s, &keySlots{}, 1, keyIdleEpochs)
	}
	epoch := k.epoch.Load()
	if s.mu.skip > 0 && s.mu.skipped == epoch {
		s.mu.skip--
		return nil
	}
	want := old.count(epoch, keyIdleEpochs)
	pages := 1
	for mostKeys(pages*pageKeys) < want+want/4+1 {
		pages++
	}
	if t := k.replaceLocked(s, old, pages, keyIdleEpochs); t != nil {
		return t
	}
	if room := old.room(); old.count(epoch, 0) > mostKeys(room)-room/8 {
		s.mu.skip, s.mu.skipped = room/8, epoch
		return nil
	}
	return k.replaceLocked(s, old, len(old.pages), 0)
}

// replaceLocked puts a table of so many pages in the place of old, with the entries that were used within so many epochs
// before this one; nil if there is no memory for it. Lookups find keys in old until then.
func (k *KeyTable) replaceLocked(s *keyShard, old *keySlots, pages int, within uint8) *keySlots {
	more := int64(pages-len(old.pages)) * keyPageBytes
	if more > 0 && k.account.Reserve(more) != nil {
		return nil
	}
	fresh, err := k.pages.take(pages)
	if err != nil {
		k.account.Release(max(more, 0))
		return nil
	}
	t := &keySlots{pages: fresh, metas: make([]atomic.Pointer[keyMetas], pages)}
	n := 0
	old.each(k.epoch.Load(), within, func(from keySlot, key Key, ref uint64, used uint8) {
		at, _ := t.find(key)
		t.put(at, key, ref, used)
		t.setMeta(at, old.meta(from), k.account)
		n++
	})
	s.mu.count = n
	s.table.Store(t)
	k.account.Release(old.metaBytes() + max(-more, 0))
	k.pages.give(old.pages)
	return t
}
