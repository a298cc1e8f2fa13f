// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"container/list"
	"sync"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Cache keeps stripes that were read, and what expressions matched in the indexes, for all blocks of a store, in a bounded number of bytes. It is safe for
// concurrent use. What it holds is immutable: an entry that is pushed out stays good for whoever reads it.
type Cache struct {
	account *budget.Account
	blocks  atomic.Uint64 // numbers given to blocks
	shards  [cacheShards]cacheShard

	hits, misses atomic.Uint64
	scratch      sync.Pool // of *decoding
}

// cacheShards spreads the locks. Each shard is a list by last use of its own.
const cacheShards = 16

type cacheShard struct {
	mu      sync.Mutex
	limit   int64
	used    int64
	entries map[cacheKey]*list.Element
	byUse   list.List // front: used last
}

type cacheKey struct {
	block uint64
	part  uint32 // number of the stripe, or with timesPart or exemplarsPart set
	text  string // of what the index has found: what it was asked
}

type cacheEntry struct {
	key   cacheKey
	value cached
}

// cached is what the cache keeps.
type cached interface{ bytes() int64 }

// NewCache returns a cache of at most size bytes, which are charged to account as they are used.
func NewCache(size int64, account *budget.Account) *Cache {
	c := &Cache{account: account}
	for i := range c.shards {
		c.shards[i].entries = map[cacheKey]*list.Element{}
		c.shards[i].limit = size / cacheShards
	}
	return c
}

// CacheStats says how well the cache works.
type CacheStats struct {
	Bytes, Entries int64
	Hits, Misses   uint64
}

// Stats returns the figures of the cache.
func (c *Cache) Stats() CacheStats {
	s := CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load()}
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		s.Bytes += sh.used
		s.Entries += int64(len(sh.entries))
		sh.mu.Unlock()
	}
	return s
}

// Resize changes the bytes that the cache may hold and gives back what is above; 0 empties it. A store short of
// memory calls it before anything else has to give way.
func (c *Cache) Resize(size int64) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		sh.limit = size / cacheShards
		c.shrinkLocked(sh, sh.limit)
		sh.mu.Unlock()
	}
}

func (c *Cache) shard(k cacheKey) *cacheShard {
	return &c.shards[(k.block*0x9e3779b97f4a7c15+uint64(k.part)*0xc4ceb9fe1a85ec53)>>60]
}

// get returns an entry, nil when it is not there.
func (c *Cache) get(k cacheKey) cached {
	sh := c.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.entries[k]
	if !ok {
		c.misses.Add(1)
		return nil
	}
	c.hits.Add(1)
	sh.byUse.MoveToFront(e)
	return e.Value.(*cacheEntry).value
}

// put adds an entry, pushing out those used longest ago, and tells whether it is kept: one that finds no room is not.
func (c *Cache) put(k cacheKey, v cached) bool {
	sh := c.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := v.bytes()
	if _, ok := sh.entries[k]; ok || n > sh.limit {
		return false
	}
	c.shrinkLocked(sh, sh.limit-n)
	for c.account.Reserve(n) != nil {
		if sh.used == 0 {
			return false
		}
		c.shrinkLocked(sh, max(0, sh.used-n))
	}
	sh.used += n
	sh.entries[k] = sh.byUse.PushFront(&cacheEntry{k, v})
	return true
}

// shrinkLocked pushes entries out until at most size bytes are used.
func (c *Cache) shrinkLocked(sh *cacheShard, size int64) {
	for sh.used > size && sh.byUse.Len() > 0 {
		c.dropLocked(sh, sh.byUse.Back())
	}
}

func (c *Cache) dropLocked(sh *cacheShard, e *list.Element) {
	entry := sh.byUse.Remove(e).(*cacheEntry)
	n := entry.value.bytes()
	delete(sh.entries, entry.key)
	sh.used -= n
	c.account.Release(n)
}

// forget drops everything of a block.
func (c *Cache) forget(block uint64) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		for e := sh.byUse.Front(); e != nil; {
			next := e.Next()
			if e.Value.(*cacheEntry).key.block == block {
				c.dropLocked(sh, e)
			}
			e = next
		}
		sh.mu.Unlock()
	}
}
