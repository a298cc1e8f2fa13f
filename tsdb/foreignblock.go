// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// foreignBlock is a block of another program with those who use it.
type foreignBlock struct {
	ForeignBlock

	info    ForeignInfo
	account *budget.Account // of what was loaded
	// damage is what was found of the index; every view says so, also where it gives answers that are known.
	damage atomic.Pointer[ForeignDamage]

	loading sync.Mutex // held while it is loaded
	loaded  bool       // guarded by loading
	charged int64      // guarded by loading

	mu      sync.Mutex
	users   int  // guarded by mu; one for the set until it is taken out
	discard bool // guarded by mu; what is in scratch goes with the last user
}

// storedForeign is a foreign block with the tombstones in force for it.
type storedForeign struct {
	*foreignBlock

	dead    tombstones // immutable; nil: none
	deletes int        // how many made it
}

func newForeignBlock(b ForeignBlock, account *budget.Account) *foreignBlock {
	return &foreignBlock{ForeignBlock: b, info: b.Info(), account: account, users: 1}
}

// load makes the block ready for its first use. What a call finds damaged the next one need not look for.
func (b *foreignBlock) load(ctx context.Context) error {
	if damage := b.damage.Load(); damage != nil {
		return damage
	}
	b.loading.Lock()
	defer b.loading.Unlock()
	if b.loaded {
		return nil
	}
	n, err := b.Load(ctx)
	if damage, ok := errors.AsType[*ForeignDamage](err); ok {
		b.damage.Store(damage)
	}
	if err != nil {
		return err
	}
	_ = b.account.Reserve(n) // upkeep is not refused
	b.loaded, b.charged = true, n
	return nil
}

// find returns the ids of the series that match.
func (b *foreignBlock) find(ctx context.Context, ms []*labels.Matcher) ([]uint32, error) {
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	return b.Select(ctx, ms)
}

// acquire makes the caller a user until its release; false where the block is closed.
func (b *foreignBlock) acquire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == 0 {
		return false
	}
	b.users++
	return true
}

// release ends a use. The last one closes the block, and returns what went wrong.
func (b *foreignBlock) release() error {
	b.mu.Lock()
	b.users--
	last, discard := b.users == 0, b.discard
	b.mu.Unlock()
	if !last {
		return nil
	}
	b.loading.Lock()
	b.account.Release(b.charged)
	b.charged = 0
	b.loading.Unlock()
	err := b.Close()
	if discard && err == nil {
		err = b.Discard()
	}
	return err
}

// labels returns what pairs stand for.
func (b *foreignBlock) labels(pairs []uint32, sb *labels.ScratchBuilder) labels.Labels {
	sb.Reset()
	for i := 0; i+1 < len(pairs); i += 2 {
		sb.Add(b.Symbol(pairs[i]), b.Symbol(pairs[i+1]))
	}
	return sb.Labels()
}

// descriptions yields what is known of each metric family, of metric alone where it is not empty.
func (b *foreignBlock) descriptions(metric string) iter.Seq2[string, []metadata.Metadata] {
	return func(yield func(string, []metadata.Metadata) bool) {
		for family, d := range b.Metadata() {
			if (metric == "" || metric == family) && !yield(family, []metadata.Metadata{d}) {
				return
			}
		}
	}
}

// leave ends the use of a reader.
func (b *foreignBlock) leave() {
	_ = b.release() // nobody is left who could do anything about a mapping that does not end
}

// end ends the use of the set, with what is in scratch where discard is true, and returns what went wrong if that was the
// last use. Others close the block when they end.
func (b *foreignBlock) end(discard bool) error {
	b.mu.Lock()
	b.discard = discard
	b.mu.Unlock()
	return b.release()
}

// foreignSet is the foreign blocks that are not converted, by time.
type foreignSet struct {
	mu   sync.RWMutex
	list []storedForeign // guarded by mu; replaced, never changed in place
}

func (s *foreignSet) all() []storedForeign {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list
}

// acquire returns the blocks that overlap [mint, maxt], each to be released by the caller.
func (s *foreignSet) acquire(mint, maxt int64) []storedForeign {
	var out []storedForeign
	for _, b := range s.all() {
		if b.info.MinT <= maxt && b.info.MaxT >= mint && b.foreignBlock.acquire() {
			out = append(out, b)
		}
	}
	return out
}

// replace puts the blocks in in place of those with the id.
func (s *foreignSet) replace(id string, in ...storedForeign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.list), func(x storedForeign) bool { return x.info.ID == id })
	list = append(list, in...)
	slices.SortFunc(list, func(a, b storedForeign) int {
		return cmp.Or(cmp.Compare(a.info.MinT, b.info.MinT), strings.Compare(a.info.ID, b.info.ID))
	})
	s.list = list
}

// find returns the block with the id as it is now.
func (s *foreignSet) find(id string) (storedForeign, bool) {
	for _, b := range s.all() {
		if b.info.ID == id {
			return b, true
		}
	}
	return storedForeign{}, false
}

func (s *foreignSet) close() error {
	s.mu.Lock()
	list := s.list
	s.list = nil
	s.mu.Unlock()
	var errs []error
	for _, b := range list {
		errs = append(errs, b.end(false))
	}
	return errors.Join(errs...)
}
