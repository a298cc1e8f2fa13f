// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/block"
)

// storedBlock is a block of the store with the tombstones in force for it.
type storedBlock struct {
	*block.Block

	dead tombstones // immutable; nil: none
}

// hidden reports whether nothing of the block is seen: it is kept for as long as its delete can be undone.
func (b storedBlock) hidden() bool {
	m := b.Meta()
	return b.dead.covers(m.MinT, m.MaxT)
}

// blockSet is the blocks of the store, by time.
type blockSet struct {
	mu   sync.RWMutex
	list []storedBlock // guarded by mu; by (MinT, LSN); replaced, never changed in place
}

// openBlocks opens every block file, side by side. One that cannot be read is moved to quarantine and the store goes on
// without it; one of a newer version stays untouched and ends the start.
func (db *DB) openBlocks() (*blockSet, error) {
	names, err := db.opts.FS.List(db.layout.blocks())
	if err != nil {
		return nil, fmt.Errorf("list the blocks: %w", err)
	}
	files := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasSuffix(n, block.Suffix) })
	tried := make([]openedBlock, len(files))
	sideBySide(len(files), func(i int) {
		tried[i].name = path.Join(db.layout.blocks(), files[i])
		tried[i].block, tried[i].err = block.Open(db.opts.FS, tried[i].name, db.cache, block.Options{Account: db.upkeep})
	})
	set := &blockSet{}
	var errs []error
	for _, x := range tried {
		errs = append(errs, db.addOpened(set, x))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, set.close())
	}
	if err := db.removeOrphans(names); err != nil {
		return nil, errors.Join(err, set.close())
	}
	if err := db.removeIncomplete(set); err != nil {
		return set, err
	}
	return set, db.removeReplaced(set)
}

// openedBlock is what came of opening a block file.
type openedBlock struct {
	name  string
	block *block.Block
	err   error
}

// addOpened adds a block with its tombstones to the set.
func (db *DB) addOpened(set *blockSet, x openedBlock) error {
	if damaged(x.err) {
		return db.quarantine(x.name, x.err)
	}
	if x.err != nil {
		return fmt.Errorf("open block %s: %w", x.name, x.err)
	}
	dead, err := loadTombstones(db.opts.FS, x.name)
	if damaged(err) {
		err = db.quarantine(tombstonePath(x.name), err)
	}
	if err != nil {
		return errors.Join(err, x.block.Close())
	}
	set.add(storedBlock{x.block, dead})
	return nil
}

// removeOrphans deletes the tombstones of blocks that are gone: a crash came between the two removals.
func (db *DB) removeOrphans(names []string) error {
	for _, n := range names {
		id, ok := strings.CutSuffix(n, tombstoneSuffix)
		if !ok || slices.Contains(names, id+block.Suffix) {
			continue
		}
		if err := db.opts.FS.Remove(path.Join(db.layout.blocks(), n)); err != nil {
			return fmt.Errorf("remove the tombstones of a deleted block: %w", err)
		}
	}
	return nil
}

// removeIncomplete deletes the blocks that replace others together with one that is not there, while those others are:
// their publication was cut short.
func (db *DB) removeIncomplete(set *blockSet) error {
	there := map[string]bool{}
	for _, b := range set.all() {
		there[b.Meta().ULID] = true
	}
	for _, b := range set.all() {
		m := b.Meta()
		if m.Leader == "" || there[m.Leader] || !slices.ContainsFunc(m.Parents, func(id string) bool { return there[id] }) {
			continue
		}
		if err := set.delete(db.layout, b); err != nil {
			return fmt.Errorf("delete block %s, whose merge was cut short: %w", m.ULID, err)
		}
	}
	return nil
}

// removeReplaced deletes the blocks that another block names as its parents: their removal was cut short.
func (db *DB) removeReplaced(set *blockSet) error {
	replaced := map[string]bool{}
	for _, b := range set.all() {
		for _, p := range b.Meta().Parents {
			replaced[p] = true
		}
	}
	for _, b := range set.all() {
		if !replaced[b.Meta().ULID] {
			continue
		}
		if err := set.delete(db.layout, b); err != nil {
			return fmt.Errorf("delete the replaced block %s: %w", b.Meta().ULID, err)
		}
	}
	return nil
}

func (s *blockSet) add(b storedBlock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLocked(append(slices.Clone(s.list), b))
}

func (s *blockSet) setLocked(list []storedBlock) {
	slices.SortStableFunc(list, func(a, b storedBlock) int {
		x, y := a.Meta(), b.Meta()
		return cmp.Or(cmp.Compare(x.MinT, y.MinT), cmp.Compare(x.LSN, y.LSN))
	})
	s.list = list
}

// replace puts the blocks in in place of those that are out, in one step.
func (s *blockSet) replace(out []storedBlock, in ...storedBlock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.list), func(x storedBlock) bool {
		return slices.ContainsFunc(out, func(y storedBlock) bool { return x.Block == y.Block })
	})
	s.setLocked(append(list, in...))
}

// delete takes b out of the set and removes its files; the readers it has go on until they release it.
func (s *blockSet) delete(l layout, b storedBlock) error {
	s.replace([]storedBlock{b})
	if err := b.Delete(); err != nil {
		return err // the file may be there at the next start: then its tombstones must be, too
	}
	if len(b.dead) > 0 {
		_ = l.fs.Remove(tombstonePath(block.Path(l.blocks(), b.Meta().ULID))) // or the next start does
	}
	return nil
}

// acquire returns the blocks that overlap [mint, maxt] and show anything, each to be released by the caller.
func (s *blockSet) acquire(mint, maxt int64) []storedBlock {
	return s.acquireIf(func(b storedBlock) bool {
		m := b.Meta()
		return m.MinT <= maxt && m.MaxT >= mint && !b.hidden()
	})
}

// acquireAll does so with those too of which nothing is seen.
func (s *blockSet) acquireAll(mint, maxt int64) []storedBlock {
	return s.acquireIf(func(b storedBlock) bool { m := b.Meta(); return m.MinT <= maxt && m.MaxT >= mint })
}

func (s *blockSet) acquireIf(f func(storedBlock) bool) []storedBlock {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []storedBlock
	for _, b := range s.list {
		if f(b) && b.Acquire() {
			out = append(out, b)
		}
	}
	return out
}

// releaseAll ends the use that acquire began.
func releaseAll(blocks []storedBlock) {
	for _, b := range blocks {
		b.Release()
	}
}

// all returns the blocks, without holding them.
func (s *blockSet) all() []storedBlock {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list
}

func (s *blockSet) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, b := range s.list {
		errs = append(errs, b.Close())
	}
	s.list = nil
	return errors.Join(errs...)
}
