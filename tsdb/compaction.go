// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/compact"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// MergeStats tells what merging does and did.
type MergeStats struct {
	// Done and Failed count merges, Skipped those that were not begun for lack of disk space.
	Done, Failed, Skipped uint64
	// Seconds is the time they took, PauseSeconds the part of it in which they let others go first.
	Seconds, PauseSeconds float64
	// durations counts merges by the power of two of their seconds.
	durations [mergeBuckets]uint64
	// BytesRead and BytesWritten are of the files that went and that came.
	BytesRead, BytesWritten uint64
	// The running merge: blocks, and series read of so many; zero where none runs.
	Blocks, Series, AllSeries int
	// Waiting is how many merges were due when the last one was chosen.
	Waiting int
}

// mergeBuckets is how many buckets Buckets has: 1 s, 2 s, 4 s, … 8192 s.
const mergeBuckets = 14

// Buckets returns how many merges took at most so many seconds.
func (s *MergeStats) Buckets() map[float64]uint64 {
	out := make(map[float64]uint64, mergeBuckets)
	n := uint64(0)
	for i, c := range s.durations {
		n += c
		out[float64(int64(1)<<i)] = n
	}
	return out
}

// took counts a merge that took so long.
func (s *MergeStats) took(d time.Duration) {
	s.Done++
	s.Seconds += d.Seconds()
	for i := range s.durations {
		if d <= time.Second<<i {
			s.durations[i]++
			return
		}
	}
}

// merges is the state of merging.
type merges struct {
	// one is held by who merges: one at a time, and taken before the maintenance lock.
	one sync.Mutex
	// failed has the damaged blocks, which are left alone: true where the store knows what of them cannot be read, until it
	// can be, false until a restart. Guarded by one.
	failed map[string]bool
	// waits: the last look found no room for a merge; guarded by one.
	waits bool

	mu    sync.Mutex
	stats MergeStats // guarded by mu
}

func (m *merges) update(f func(s *MergeStats)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.stats)
}

func (m *merges) read() MergeStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

const (
	// mergeRest is how many slots a small block waits for others before it is merged with a large one.
	mergeRest = 12
	// longestRange bounds the range that blocks are merged to, as in Prometheus.
	longestRange = 31 * 24 * time.Hour
	mergeRetry   = 5 * time.Minute // after an error
)

// mergeLoop merges in the background until ctx ends.
func (db *DB) mergeLoop(ctx context.Context) {
	defer close(db.mergeDone)
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	again := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if db.now().Before(again) {
			continue
		}
		if err := db.Compact(ctx); err != nil && ctx.Err() == nil {
			again = db.now().Add(mergeRetry)
			db.log.Error("merging blocks failed; it is tried again, the rest of the store goes on", "err", err, "in", mergeRetry)
		}
	}
}

// Compact merges blocks until no merge is due, and returns the first error. Damaged blocks are left alone from then on.
func (db *DB) Compact(ctx context.Context) error {
	if err := db.enterWhole(ctx); err != nil {
		return err
	}
	defer db.users.leave()
	db.merges.one.Lock()
	defer db.merges.one.Unlock()
	if err := db.expireDeletes(); err != nil {
		return err
	}
	if err := db.purgeHidden(); err != nil {
		return err
	}
	var errs []error
	for ctx.Err() == nil {
		job, ok := db.nextMerge()
		if !ok {
			return errors.Join(append(errs, db.forgetDeletes())...)
		}
		err := db.mergeBlocks(ctx, job.Inputs)
		if err == nil || errors.Is(err, errBlocksChanged) || ctx.Err() != nil {
			continue
		}
		db.merges.update(func(s *MergeStats) { s.Failed++ })
		errs = append(errs, err)
		if !damaged(err) {
			return errors.Join(errs...)
		}
		db.setAside(job, err)
	}
	return ctx.Err()
}

// setAside leaves the blocks of a job out of merges that err says are damaged: the one it names, or all.
func (db *DB) setAside(job compact.Job, err error) {
	db.noteUnreadable(err)
	corrupt, named := errors.AsType[*block.CorruptError](err)
	for _, id := range job.Inputs {
		if !named || corrupt.File == block.Path(db.layout.blocks(), id) {
			db.merges.failed[id] = db.unreadable.hasSite(block.Path(db.layout.blocks(), id))
		}
	}
}

// forgetHealed has blocks that can be read again be merged again.
func (db *DB) forgetHealed() {
	maps.DeleteFunc(db.merges.failed, func(id string, known bool) bool {
		return known && !db.unreadable.hasSite(block.Path(db.layout.blocks(), id))
	})
}

// errBlocksChanged says that what a merge has read is not what there is when it ends. It is planned anew.
var errBlocksChanged = errors.New("the blocks of the merge have changed meanwhile")

// nextMerge returns the merge to run now.
func (db *DB) nextMerge() (compact.Job, bool) {
	jobs := compact.Plan(db.mergeable())
	db.merges.update(func(s *MergeStats) { s.Waiting = len(jobs) })
	waited := db.merges.waits
	db.merges.waits = false
	for _, j := range jobs {
		err := db.roomToMerge(j.Bytes)
		if err == nil {
			return j, true
		}
		if !waited {
			db.log.Warn("a merge has to wait for disk space", "blocks", len(j.Inputs), "bytes", j.Bytes, "err", err)
		}
		waited, db.merges.waits = true, true
		db.merges.update(func(s *MergeStats) { s.Skipped++ })
	}
	return compact.Job{}, false
}

// roomToMerge says whether the disk has room for so many bytes beside what is to stay free.
func (db *DB) roomToMerge(n int64) error {
	free, _, err := db.opts.FS.Usage(db.layout.root)
	if err != nil {
		return err
	}
	if want := uint64(n + db.minFree.Load()); free < want {
		return fmt.Errorf("%d MiB of disk are free, %d MiB are needed for a while", free>>20, want>>20)
	}
	return nil
}

// mergeable describes the blocks to the planner.
func (db *DB) mergeable() ([]compact.Block, compact.Options) {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	slot := db.meta.SlotMillis
	o := compact.Options{Ranges: compact.Ranges(slot, db.longestRange()), Edge: db.mergeEdge(), Rest: mergeRest * slot}
	settled := sample.LSN(0)
	if len(db.checkpoints) == 2 {
		settled = db.checkpoints[0]
	}
	p := db.policies.Load()
	db.forgetHealed()
	var out []compact.Block
	for _, b := range db.blocks.all() {
		m := b.Meta()
		class, span, mixed := db.classOf(p, b)
		_, failed := db.merges.failed[m.ULID]
		out = append(out, compact.Block{
			ID: m.ULID, MinT: m.MinT, MaxT: m.MaxT, LSN: m.LSN, Class: class, Span: span, Bytes: b.Size(), Age: db.blockAge(m.ULID),
			// As long as a start may begin from a checkpoint that is not above the block, it is its LSN that tells which
			// rows of its slot are not to be had from the log again. The one of a longer block cannot. A block of which
			// nothing is seen waits for its delete to become final, or to be undone.
			Held:  failed || m.LSN >= settled && m.LSN > 0 || b.hidden(),
			Stale: mixed || db.worthPurging(b),
		})
	}
	return out, o
}

// mixedClass is what the planner takes blocks for whose series are of more than one class. No policy has the name.
const mixedClass = "\x00mixed"

// classOf returns the class of a block and the longest range that blocks of it are merged to: a tenth of the time that
// they are kept, so that what is kept too long is little.
func (db *DB) classOf(p *policies, b storedBlock) (class string, span int64, mixed bool) {
	classes, err := p.of(b)
	if err != nil {
		return mixedClass, 0, false // an index that cannot be asked; it is left alone
	}
	_, shortest := p.keepOf(classes, db.retention.Load())
	span = max(shortest/10, db.meta.SlotMillis)
	if i, ok := classes.only(); ok {
		return p.name(i), span, false
	}
	return mixedClass, span, true
}

// purgeShare is the part of the series of a block that a final delete must have hidden something of for the block to be
// rewritten because of it, as in Prometheus: a twentieth.
const purgeShare = 20

// worthPurging reports whether a block is rewritten for what is deleted of it, without a merge. The maintenance lock is
// held.
func (db *DB) worthPurging(b storedBlock) bool {
	most := 0
	for i := range b.dead {
		if db.deletes.final(b.dead[i].id) {
			most = max(most, len(b.dead[i].series))
		}
	}
	return most*purgeShare >= b.Index().N() && most > 0
}

// purgeHidden deletes the blocks of which nothing is seen and nothing can be brought back.
func (db *DB) purgeHidden() error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	if err := db.removeLeftovers(); err != nil {
		return err
	}
	for _, b := range db.blocks.all() {
		if m := b.Meta(); b.dead.only(db.deletes.final).covers(m.MinT, m.MaxT) {
			db.blocks.replace([]storedBlock{b})
			db.removeBlock(b)
		}
	}
	return nil
}

// longestRange is the longest range that blocks of any class are merged to.
func (db *DB) longestRange() int64 {
	longest := longestRange.Milliseconds()
	if most := db.opts.MaxBlock.Milliseconds(); most > 0 {
		longest = min(longest, most)
	}
	return longest
}

// mergeEdge is the time before which no slot gets samples in order any more.
func (db *DB) mergeEdge() int64 {
	newest, ok := db.newestSample()
	if !ok {
		return math.MinInt64
	}
	edge := floor(newest, db.meta.SlotMillis)
	for _, slot := range db.head.Slots() {
		if slot.InOrder > 0 {
			edge = min(edge, slot.Start)
		}
	}
	return edge
}

// blockAge is how long ago a block was written, by its name, in ms.
func (db *DB) blockAge(id string) int64 {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return math.MaxInt64
	}
	return db.now().UnixMilli() - int64(u.Time())
}

// mergeBlocks makes one block out of blocks, or rewrites one. The merge lock is held.
func (db *DB) mergeBlocks(ctx context.Context, ids []string) error {
	parents, final, err := db.holdParents(ids)
	if err != nil {
		return err
	}
	defer releaseAll(parents)
	x := &mergeRun{db: db, parents: parents, final: final, start: time.Now()}
	defer x.end()
	if err := x.write(ctx); err != nil {
		return fmt.Errorf("merge %d blocks from %s on: %w", len(parents), formatTime(parents[0].Meta().MinT), errors.Join(err, x.discard()))
	}
	if err := x.publish(ctx); err != nil {
		return fmt.Errorf("publish the merge of %d blocks from %s on: %w", len(parents), formatTime(parents[0].Meta().MinT), errors.Join(err, x.discard()))
	}
	return nil
}

// holdParents returns the blocks of these names, to be released, and which deletes are final now.
func (db *DB) holdParents(ids []string) ([]storedBlock, func(sample.LSN) bool, error) {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	out := db.blocks.acquireIf(func(b storedBlock) bool { return slices.Contains(ids, b.Meta().ULID) })
	if len(out) < len(ids) {
		releaseAll(out)
		return nil, nil, errBlocksChanged
	}
	now := deletes{list: db.deletes.list}
	return out, now.final, nil
}

// removeBlock deletes the files of a block that is out of the set. What cannot be deleted now is tried again before
// anything else that must not happen beside it.
func (db *DB) removeBlock(b storedBlock) {
	if err := db.blocks.delete(db.layout, b); err != nil {
		db.log.Warn("a block that is not needed any more could not be deleted; it is tried again", "block", b.Meta().ULID, "err", err)
		db.leave(b.Name())
	}
}

// leftovers are files of blocks that do not count any more and could not be deleted.
type leftovers struct {
	mu    sync.Mutex
	names []string // guarded by mu
}

func (db *DB) leave(name string) {
	db.leftovers.mu.Lock()
	defer db.leftovers.mu.Unlock()
	db.leftovers.names = append(db.leftovers.names, name)
}

// removeLeftovers deletes what could not be deleted before. While it fails nothing may be deleted from blocks, and no
// block may replace others: a start could take what is left for what counts.
func (db *DB) removeLeftovers() error {
	db.leftovers.mu.Lock()
	defer db.leftovers.mu.Unlock()
	if len(db.leftovers.names) == 0 {
		return nil
	}
	for len(db.leftovers.names) > 0 {
		name := db.leftovers.names[0]
		if err := db.opts.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete what is left of a block: %w", err)
		}
		if err := db.opts.FS.SyncDir(path.Dir(name)); err != nil {
			return fmt.Errorf("delete what is left of a block: %w", err)
		}
		db.leftovers.names = db.leftovers.names[1:]
	}
	return nil
}

// clearMerging removes what merges that were cut short have written.
func (l layout) clearMerging() error {
	names, err := l.fs.List(l.merging())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, n := range names {
		errs = append(errs, l.fs.Remove(path.Join(l.merging(), n)))
	}
	return errors.Join(errs...)
}
