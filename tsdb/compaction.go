// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/compact"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// MergeStats tells what merging does and did.
type MergeStats struct {
	// Done and Failed count merges, Skipped those that were not begun for lack of disk space.
	Done, Failed, Skipped uint64
	// Seconds is the time they took, PauseSeconds the part of it in which they let others go first.
	Seconds, PauseSeconds float64
	// BytesRead and BytesWritten are of the files that went and that came.
	BytesRead, BytesWritten uint64
	// The running merge: blocks, and series read of so many; zero where none runs.
	Blocks, Series, AllSeries int
	// Waiting is how many merges were due when the last one was chosen.
	Waiting int
}

// merges is the state of merging.
type merges struct {
	// one is held by who merges: one at a time, and taken before the maintenance lock.
	one sync.Mutex
	// failed has the damaged blocks, which are left alone until a restart; guarded by one.
	failed map[string]bool

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
	if err := db.users.enter(); err != nil {
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
			db.merges.failed[id] = true
		}
	}
}

// errBlocksChanged says that what a merge has read is not what there is when it ends. It is planned anew.
var errBlocksChanged = errors.New("the blocks of the merge have changed meanwhile")

// nextMerge returns the merge to run now.
func (db *DB) nextMerge() (compact.Job, bool) {
	jobs := compact.Plan(db.mergeable())
	db.merges.update(func(s *MergeStats) { s.Waiting = len(jobs) })
	for _, j := range jobs {
		if err := db.roomToMerge(j.Bytes); err != nil {
			db.log.Warn("a merge has to wait", "blocks", len(j.Inputs), "bytes", j.Bytes, "err", err)
			db.merges.update(func(s *MergeStats) { s.Skipped++ })
			continue
		}
		return j, true
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
	var out []compact.Block
	for _, b := range db.blocks.all() {
		m := b.Meta()
		out = append(out, compact.Block{
			ID: m.ULID, MinT: m.MinT, MaxT: m.MaxT, LSN: m.LSN, Span: math.MaxInt64, Bytes: b.Size(), Age: db.blockAge(m.ULID),
			// As long as a start may begin from a checkpoint that is not above the block, it is its LSN that tells which
			// rows of its slot are not to be had from the log again. The one of a longer block cannot. A block of which
			// nothing is seen waits for its delete to become final, or to be undone.
			Held:  db.merges.failed[m.ULID] || m.LSN >= settled && m.LSN > 0 || b.hidden(),
			Stale: db.worthPurging(b),
		})
	}
	return out, o
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

// longestRange is the longest range that blocks are merged to: a tenth of the retention, so that what is kept too long is
// little.
func (db *DB) longestRange() int64 {
	longest := longestRange.Milliseconds()
	if keep := db.retention.Load(); keep > 0 {
		longest = min(longest, keep/10)
	}
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

// mergeRun is one merge under way. Its blocks are written to a directory of their own and moved to the others when all of
// them are complete.
type mergeRun struct {
	db      *DB
	parents []storedBlock
	final   func(sample.LSN) bool // the deletes whose samples are left out
	start   time.Time
	outputs []output
	moved   []string // paths of outputs that are in their place
	held    int64    // charged
	series  int      // read
}

// output is a block that a merge has written.
type output struct {
	meta block.Meta
	dead tombstones // what is hidden of it
}

// write writes the outputs, which nobody sees yet.
func (x *mergeRun) write(ctx context.Context) error {
	meta := x.meta()
	all := 0
	for _, b := range x.parents {
		all += b.Index().N()
	}
	x.db.merges.update(func(s *MergeStats) { s.Blocks, s.Series, s.AllSeries = len(x.parents), 0, all })
	m := newBlockMerge(x.parents, nil, x.final)
	m.rows.Budget = x.db.upkeep
	defer m.rows.Free()
	m.each = func(ctx context.Context) error { return x.yieldToOthers(ctx, len(m.same)) }
	x.held = m.bytes()
	if err := x.db.upkeep.Reserve(x.held); err != nil {
		x.held = 0
		return err
	}
	meta, err := block.Write(x.db.opts.FS, x.db.layout.merging(), meta, block.Source{
		Series: m.series(ctx), Metadata: m.metadata(), Account: x.db.upkeep,
	})
	if errors.Is(err, block.ErrEmpty) {
		return nil
	}
	if err == nil {
		x.outputs = append(x.outputs, output{meta, m.hide.tombstones()})
	}
	return err
}

// meta is what the outputs say of themselves.
func (x *mergeRun) meta() block.Meta {
	m := block.Meta{SlotStart: math.MaxInt64, SlotEnd: math.MinInt64, Slot: x.db.meta.SlotMillis}
	for _, b := range x.parents {
		p := b.Meta()
		if p.SlotStart < p.SlotEnd {
			m.SlotStart, m.SlotEnd = min(m.SlotStart, p.SlotStart), max(m.SlotEnd, p.SlotEnd)
		}
		m.LSN, m.Level = max(m.LSN, p.LSN), max(m.Level, p.Level+1)
		m.Parents = append(m.Parents, p.ULID)
		m.Sources = append(m.Sources, p.Sources...)
	}
	if m.SlotStart > m.SlotEnd {
		m.SlotStart, m.SlotEnd = 0, 0
	}
	slices.Sort(m.Sources)
	m.Sources = slices.Compact(m.Sources)
	return m
}

const (
	// mergeRunSeries is after how many series a merge looks whether it is in the way.
	mergeRunSeries = 64
	// mergePause is how long it then waits before it looks again, and mergePauses how often at most, so that it gets to
	// its end under a load that never lets up.
	mergePause  = 20 * time.Millisecond
	mergePauses = 50
	// mergeBacklog is how many records of the log may wait for their sync before merges wait for them.
	mergeBacklog = 64
)

// yieldToOthers counts series and, every now and then, waits while samples come in faster than the log takes them, or
// memory is used up.
func (x *mergeRun) yieldToOthers(ctx context.Context, n int) error {
	before := x.series / mergeRunSeries
	x.series += n
	if x.series/mergeRunSeries == before {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	db := x.db
	db.merges.update(func(s *MergeStats) { s.Series = x.series })
	for range mergePauses {
		if db.journal.Last()-db.journal.Synced() < mergeBacklog && !db.conds.has(ConditionMemory) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(mergePause):
		}
		db.merges.update(func(s *MergeStats) { s.PauseSeconds += mergePause.Seconds() })
	}
	return nil
}

// publish puts the outputs in place of the parents. The last output that is moved is the one that makes the others count
// after a crash, so that a start finds the parents, or all outputs.
func (x *mergeRun) publish(ctx context.Context) error {
	db := x.db
	db.maintain.Lock()
	defer db.maintain.Unlock()
	if err := db.removeLeftovers(); err != nil {
		return err
	}
	since, err := x.deletesSince()
	if err != nil {
		return err
	}
	if err := x.inherit(ctx, since); err != nil {
		return err
	}
	if len(x.outputs) == 0 {
		if err := db.passCheckpoints(ctx, x.meta().LSN); err != nil {
			return err
		}
	}
	blocks, err := x.move()
	if err != nil {
		return err
	}
	db.blocks.replace(x.parents, blocks...)
	read, written := int64(0), int64(0)
	for _, b := range blocks {
		written += b.Size()
	}
	for _, b := range x.parents {
		read += b.Size()
		db.removeBlock(b)
	}
	took := time.Since(x.start)
	db.merges.update(func(s *MergeStats) {
		s.Done++
		s.BytesRead += uint64(read)
		s.BytesWritten += uint64(written)
		s.Seconds += took.Seconds()
	})
	db.log.Info("blocks were merged", "blocks", len(x.parents), "into", len(blocks), "first", formatTime(x.parents[0].Meta().MinT),
		"bytes", written, "bytes_before", read, "took", took)
	return nil
}

// deletesSince returns the deletes that hide something of the parents since they were held. Where anything else has
// become of the parents, the merge is done again.
func (x *mergeRun) deletesSince() (map[sample.LSN]bool, error) {
	since := map[sample.LSN]bool{}
	all := x.db.blocks.all()
	for _, b := range x.parents {
		i := slices.IndexFunc(all, func(now storedBlock) bool { return now.Block == b.Block })
		if i < 0 {
			return nil, errBlocksChanged
		}
		now := all[i].dead
		if now.same(b.dead) {
			continue
		}
		known := now.only(func(id sample.LSN) bool { _, ok := b.dead.find(id); return ok })
		if !known.equal(b.dead) {
			return nil, errBlocksChanged
		}
		for i := range now {
			if _, ok := b.dead.find(now[i].id); !ok {
				since[now[i].id] = true
			}
		}
	}
	return since, nil
}

// inherit hides of the outputs what deletes have hidden of the parents meanwhile.
func (x *mergeRun) inherit(ctx context.Context, since map[sample.LSN]bool) error {
	if len(since) == 0 {
		return nil
	}
	var late []deletion
	for _, d := range x.db.deletes.list {
		if since[d.ID] {
			late = append(late, d)
		}
	}
	if len(late) < len(since) {
		return errBlocksChanged // a delete that could not be noted
	}
	for i := range x.outputs {
		if err := x.inheritOutput(ctx, &x.outputs[i], late); err != nil {
			return err
		}
	}
	return nil
}

func (x *mergeRun) inheritOutput(ctx context.Context, out *output, late []deletion) error {
	b, err := block.Open(x.db.opts.FS, block.Path(x.db.layout.merging(), out.meta.ULID), nil, block.Options{Account: x.db.upkeep})
	if err != nil {
		return err
	}
	for _, d := range late {
		ms, err := d.matchers()
		if err != nil {
			return errors.Join(err, b.Close())
		}
		ids, err := b.Index().Select(budget.NewTask(ctx, nil), ms)
		if err != nil {
			return errors.Join(err, b.Close())
		}
		if len(ids) > 0 {
			out.dead = out.dead.with(d.ID, ids, interval{d.MinT, d.MaxT})
		}
	}
	return b.Close()
}

// move moves the outputs to the other blocks and opens them.
func (x *mergeRun) move() ([]storedBlock, error) {
	db := x.db
	var blocks []storedBlock
	fail := func(err error) ([]storedBlock, error) {
		for _, b := range blocks {
			err = errors.Join(err, b.Close())
		}
		return nil, err
	}
	for _, out := range x.outputs {
		to := block.Path(db.layout.blocks(), out.meta.ULID)
		if len(out.dead) > 0 {
			// First: without its block it means nothing.
			if err := saveTombstones(db.opts.FS, to, out.dead); err != nil {
				return fail(err)
			}
		}
		if err := db.opts.FS.Rename(block.Path(db.layout.merging(), out.meta.ULID), to); err != nil {
			return fail(err)
		}
		x.moved = append(x.moved, to)
		if err := db.opts.FS.SyncDir(db.layout.blocks()); err != nil {
			return fail(err)
		}
		b, err := block.Open(db.opts.FS, to, db.cache, block.Options{Account: db.upkeep})
		if err != nil {
			return fail(err)
		}
		blocks = append(blocks, storedBlock{Block: b, dead: out.dead})
	}
	return blocks, nil
}

// discard removes what a merge that failed has written. The last one that was moved goes first: as long as it is there, a
// start would take it for complete.
func (x *mergeRun) discard() error {
	var errs []error
	for _, name := range slices.Backward(x.moved) {
		x.db.leave(name)
	}
	errs = append(errs, x.db.removeLeftovers())
	for _, out := range x.outputs {
		if errs[0] == nil { // else the block may be there at the next start
			errs = append(errs, saveTombstones(x.db.opts.FS, block.Path(x.db.layout.blocks(), out.meta.ULID), nil))
		}
		if err := x.db.opts.FS.Remove(block.Path(x.db.layout.merging(), out.meta.ULID)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// end gives back what the merge took.
func (x *mergeRun) end() {
	x.db.upkeep.Release(x.held)
	x.db.merges.update(func(s *MergeStats) { s.Blocks, s.Series, s.AllSeries = 0, 0, 0 })
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
