// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"container/list"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
)

// seriesCache keeps answers of Series, those used last, in a bounded number of bytes. An answer is over certain
// blocks, which never change, and certain members of the head; it is good for every view of the same. It is safe for
// concurrent use.
type seriesCache struct {
	account *budget.Account
	limit   int64

	mu    sync.Mutex
	used  int64                    // guarded by mu
	byKey map[string]*list.Element // guarded by mu
	byUse list.List                // guarded by mu; front: used last

	hits, misses uint64 // guarded by mu
}

// cachedSet is one answer.
type cachedSet struct {
	key     string
	members head.Members // guarded by the cache's mu: an answer that a new series does not touch moves on
	set     column.SeriesSet
	at      *places
}

func newSeriesCache(limit int64, account *budget.Account) *seriesCache {
	return &seriesCache{account: account, limit: limit, byKey: map[string]*list.Element{}}
}

// cacheKey names what an answer is over, but for the members of the head: matchers in any order, the blocks, and how
// many slots the head has dropped.
func cacheKey(sources []source, ms []*labels.Matcher, drops uint32) string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.String()
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	texts = append(texts, strconv.FormatUint(uint64(drops), 10))
	for _, s := range sources {
		if b, ok := s.(spanned); ok {
			id, _, _ := b.span()
			texts = append(texts, id)
		}
	}
	return strings.Join(texts, "\n")
}

// get returns the answer for a key over the members now, nil for none. same tells whether what has changed since other
// members does not concern the answer.
func (c *seriesCache) get(key string, now head.Members, same func(was head.Members) bool) *cachedSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		c.misses++
		return nil
	}
	x, _ := e.Value.(*cachedSet)
	if x.members != now {
		was := x.members
		if was.Changes > now.Changes || !same(was) {
			c.misses++
			return nil
		}
		x.members = now
	}
	c.hits++
	c.byUse.MoveToFront(e)
	return x
}

// put keeps an answer, pushing out those used longest ago. One that finds no room is not kept.
func (c *seriesCache) put(x *cachedSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[x.key]; ok {
		if old, _ := e.Value.(*cachedSet); old.members.Changes > x.members.Changes {
			return
		}
		c.dropLocked(e)
	}
	n := x.bytes()
	if n > c.limit {
		return
	}
	c.shrinkLocked(c.limit - n)
	for c.account.Reserve(n) != nil {
		if c.used == 0 {
			return
		}
		c.shrinkLocked(max(0, c.used-n))
	}
	c.used += n
	c.byKey[x.key] = c.byUse.PushFront(x)
}

func (c *seriesCache) shrinkLocked(size int64) {
	for c.used > size && c.byUse.Len() > 0 {
		c.dropLocked(c.byUse.Back())
	}
}

func (c *seriesCache) dropLocked(e *list.Element) {
	x, _ := c.byUse.Remove(e).(*cachedSet)
	delete(c.byKey, x.key)
	n := x.bytes()
	c.used -= n
	c.account.Release(n)
}

// SeriesCacheStats says how well the cache of series selections works.
type SeriesCacheStats struct {
	Bytes, Entries int64
	Hits, Misses   uint64
}

func (c *seriesCache) stats() SeriesCacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return SeriesCacheStats{Bytes: c.used, Entries: int64(len(c.byKey)), Hits: c.hits, Misses: c.misses}
}

// empty gives back all it holds.
func (c *seriesCache) empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrinkLocked(0)
}

// cachedSetBytes is about what an answer takes beside its set.
const cachedSetBytes = 512

func (x *cachedSet) bytes() int64 { return cachedSetBytes + int64(len(x.key)) + x.set.Bytes }
