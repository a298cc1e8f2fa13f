// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Key is a 128-bit hash of a series' label bytes as one protocol writes them. Two ways to write the same labels are
// two keys of one series. The hash is seeded at random in every process, so that no sender can choose label bytes
// that collide; by chance, 10^9 different keys collide with a probability below 10^-20.
type Key = xxh3.Uint128

const (
	keyShards     = 64     // a growing shard blocks the writers of 1/64 of the keys only
	keyEntryBytes = 32     // two entries per cache line
	keyMinSlots   = 64     // slots of a shard's first table: 128 KiB for all shards
	keyIdleEpochs = 2      // entries unused for more epochs than this make room first
	keyFill       = 3. / 4 // above this load a linear probe gets long: 2.5 slots at 3/4, 8.5 at 7/8 for a hit
)

// keyEntry is one slot; an empty one has no ref. Fields are atomic because lookups take no lock: an entry's key
// never changes once its ref is set.
type keyEntry struct {
	hi, lo atomic.Uint64
	ref    atomic.Uint64
	used   atomic.Uint32 // epoch of the last use
	meta   atomic.Uint32 // hash of the metadata that was stored last, 0 for none
}

type keyShard struct {
	table atomic.Pointer[[]keyEntry]
	mu    struct {
		sync.Mutex
		count   int
		skip    int    // puts to let go before room is looked for again
		skipped uint32 // the epoch in which; another one makes idle what was not
	}
}

// KeyTable maps keys to series of the store. It is pointer-free for the garbage collector, bounded by a budget
// account, and forgets what was not used for longest when it has to; a forgotten key costs one Resolve.
type KeyTable struct {
	// Of the protocol number p the seed is seed + p*step: the hash of short inputs mixes the seed in so weakly that seeds
	// which differ by a small known number have collisions.
	seed, step uint64
	account    *budget.Account
	epoch      atomic.Uint32
	shards     [keyShards]keyShard
}

// NewKeyTable returns an empty table which charges its memory to account; nil: it is not bounded.
func NewKeyTable(account *budget.Account) *KeyTable {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails: it ends the process instead
	return &KeyTable{seed: binary.LittleEndian.Uint64(seed[:]), step: binary.LittleEndian.Uint64(seed[8:]) | 1, account: account}
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

// Get returns the series of a key and the hash of its metadata, 0 if the key is not known.
func (k *KeyTable) Get(key Key) (sample.Ref, uint32) {
	p := k.shard(key).table.Load()
	if p == nil {
		return 0, 0
	}
	e, ref := find(*p, key)
	if ref == 0 {
		return 0, 0 // the slot may get another key from now on
	}
	if epoch := k.epoch.Load(); e.used.Load() != epoch {
		e.used.Store(epoch)
	}
	return sample.Ref(ref), e.meta.Load()
}

// Put remembers, or corrects, the series of a key. It does nothing if the budget has no room.
func (k *KeyTable) Put(key Key, ref sample.Ref, meta uint32) {
	s := k.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.table.Load()
	if p != nil {
		if e, known := find(*p, key); known != 0 {
			e.ref.Store(uint64(ref))
			e.meta.Store(meta)
			return
		}
	}
	if p == nil || float64(s.mu.count+1) > keyFill*float64(len(*p)) {
		if p = k.makeRoomLocked(s); p == nil {
			return
		}
	}
	e, _ := find(*p, key)
	e.hi.Store(key.Hi)
	e.lo.Store(key.Lo)
	e.used.Store(k.epoch.Load())
	e.meta.Store(meta)
	e.ref.Store(uint64(ref)) // last: this is what makes the entry visible
	s.mu.count++
}

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
		if p := k.shards[i].table.Load(); p != nil {
			n += int64(len(*p)) * keyEntryBytes
		}
	}
	return n
}

func (k *KeyTable) shard(key Key) *keyShard { return &k.shards[key.Hi>>58] }

// find returns the entry of a key and its ref, or the empty entry where it belongs and 0.
func find(table []keyEntry, key Key) (*keyEntry, uint64) {
	mask := uint64(len(table) - 1)
	for i := key.Lo & mask; ; i = (i + 1) & mask {
		e := &table[i]
		ref := e.ref.Load()
		if ref == 0 || (e.lo.Load() == key.Lo && e.hi.Load() == key.Hi) {
			return e, ref
		}
	}
}

// makeRoomLocked replaces a full table: by one without idle entries if that leaves it half empty, else by one twice
// the size, else, without budget for that, by one with only what the current epoch used. It returns nil if that
// would not free an eighth of the slots, and for as many puts to come: looking costs a walk over the table.
func (k *KeyTable) makeRoomLocked(s *keyShard) *[]keyEntry {
	old := s.table.Load()
	if old == nil {
		return k.replaceLocked(s, nil, keyMinSlots, 0)
	}
	epoch := k.epoch.Load()
	if s.mu.skip > 0 && s.mu.skipped == epoch {
		s.mu.skip--
		return nil
	}
	slots, oldest := len(*old), epoch-min(epoch, keyIdleEpochs)
	if 2*countSince(*old, oldest) > slots {
		if p := k.replaceLocked(s, *old, 2*slots, 0); p != nil {
			return p
		}
		oldest = epoch
		if float64(countSince(*old, oldest)) > (keyFill-1./8)*float64(slots) {
			s.mu.skip, s.mu.skipped = slots/8, epoch
			return nil
		}
	}
	return k.replaceLocked(s, *old, slots, oldest)
}

// replaceLocked puts a table of so many slots in the place of old, with the entries used since the oldest epoch.
// Readers of the old table see keys as they were; the garbage collector takes it after the last of them.
func (k *KeyTable) replaceLocked(s *keyShard, old []keyEntry, slots int, oldest uint32) *[]keyEntry {
	// Both exist for a moment, which is 1/64 of the memory of all and not charged: a full budget must not keep a
	// shard from forgetting.
	if k.account.Reserve(int64(slots-len(old))*keyEntryBytes) != nil {
		return nil
	}
	table := make([]keyEntry, slots)
	s.mu.count = 0
	for i := range old {
		e := &old[i]
		if e.ref.Load() == 0 || e.used.Load() < oldest {
			continue
		}
		to, _ := find(table, Key{Hi: e.hi.Load(), Lo: e.lo.Load()})
		to.hi.Store(e.hi.Load())
		to.lo.Store(e.lo.Load())
		to.used.Store(e.used.Load())
		to.meta.Store(e.meta.Load())
		to.ref.Store(e.ref.Load())
		s.mu.count++
	}
	s.table.Store(&table)
	return &table
}

func countSince(table []keyEntry, oldest uint32) int {
	n := 0
	for i := range table {
		if table[i].ref.Load() != 0 && table[i].used.Load() >= oldest {
			n++
		}
	}
	return n
}
