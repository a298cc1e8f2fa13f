// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

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
	// lost is told of what cannot be read and is left out; nil: it ends the merge.
	lost func(error)
}

// output is a block that a merge has written.
type output struct {
	meta block.Meta
	dead tombstones // what is hidden of it
}

// write writes the outputs, one for each class of the series, which nobody sees yet.
func (x *mergeRun) write(ctx context.Context) error {
	all := 0
	for _, b := range x.parents {
		all += b.Index().N()
	}
	x.db.merges.update(func(s *MergeStats) { s.Blocks, s.Series, s.AllSeries = len(x.parents), 0, all })
	if err := x.hold(numberBytes * int64(all)); err != nil {
		return err
	}
	p := x.db.policies.Load()
	classes := make([][][]uint32, len(p.list)+1) // class, parent, series
	for _, b := range x.parents {
		if len(p.list) == 0 {
			break
		}
		ids, err := p.split(ctx, b.Index())
		if err != nil {
			return err
		}
		for i := range classes {
			classes[i] = append(classes[i], ids[i])
		}
	}
	for i, ids := range classes {
		if len(p.list) > 0 && !slices.ContainsFunc(ids, func(ids []uint32) bool { return len(ids) > 0 }) {
			continue
		}
		meta := x.meta()
		meta.Class, meta.Policy = p.name(i), p.print
		if len(x.outputs) > 0 {
			meta.Leader = x.outputs[0].meta.ULID
		}
		if err := x.writeClass(ctx, meta, ids); err != nil {
			return err
		}
	}
	if n := len(x.outputs); n > 1 {
		x.outputs = append(x.outputs[1:], x.outputs[0]) // the leader comes last
	}
	return nil
}

// writeClass writes one output.
func (x *mergeRun) writeClass(ctx context.Context, meta block.Meta, ids [][]uint32) error {
	m := newBlockMerge(x.parents, ids, x.final)
	m.rows.Budget, m.lost = x.db.upkeep, x.lost
	defer m.rows.Free()
	m.each = func(ctx context.Context) error { return x.yieldToOthers(ctx, len(m.same)) }
	before := x.held
	if err := x.hold(m.bytes()); err != nil {
		return err
	}
	defer x.letGo(before)
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

// hold charges bytes until end, or until letGo of what was held before.
func (x *mergeRun) hold(n int64) error {
	if err := x.db.upkeep.Reserve(n); err != nil {
		return err
	}
	x.held += n
	return nil
}

func (x *mergeRun) letGo(before int64) {
	x.db.upkeep.Release(x.held - before)
	x.held = before
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
		s.took(took)
		s.BytesRead += uint64(read)
		s.BytesWritten += uint64(written)
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
	x.letGo(0)
	x.db.merges.update(func(s *MergeStats) { s.Blocks, s.Series, s.AllSeries = 0, 0, 0 })
}
