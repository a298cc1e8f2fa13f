// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// Delete removes the samples in [mint, maxt] of the series that match all of ms, as of now: what is written later is
// not touched. Every View sees all of a delete or nothing of it. Samples of blocks are masked by a file beside the block;
// those of the head go, and are kept in a block of their own of which nothing is seen. So Undelete can bring them back
// until they are purged: by CleanTombstones, or by a merge after Options.UndoFor.
//
// The delete is a record of the log. When that is durable it is done, and a start completes what a crash cut short. When
// Delete returns an error, it may be done.
func (db *DB) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	if maxt < mint {
		return fmt.Errorf("delete: the end %s is before the start %s", formatTime(maxt), formatTime(mint))
	}
	end, err := db.beginDelete(ctx)
	if err != nil {
		return err
	}
	defer end()
	x := &deleting{db: db, d: wal.Delete{MinT: mint, MaxT: maxt, At: db.now().UnixMilli(), Match: ms}}
	return x.run(ctx)
}

// beginDelete makes the caller the one who changes what is deleted, until end. Meanwhile no slot becomes a block: its
// samples would escape both halves.
func (db *DB) beginDelete(ctx context.Context) (end func(), err error) {
	if err := db.enterWhole(ctx); err != nil {
		return nil, err
	}
	if err := db.writable(); err != nil {
		db.users.leave()
		return nil, err
	}
	db.maintain.Lock()
	end = func() {
		db.maintain.Unlock()
		db.users.leave()
	}
	if err := db.removeLeftovers(); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// deleting is one delete under way. The maintenance lock is held.
type deleting struct {
	db    *DB
	d     wal.Delete
	id    sample.LSN
	marks []*marked
	pin   *head.Pin // the head as it was before; nil: it had no such series
}

// marked is a block of ours or a foreign one, with the series of it that a delete is about.
type marked struct {
	path string // its tombstones are beside it
	lsn  sample.LSN
	dead tombstones
	ids  []uint32
	// show puts the tombstones in force. The sequencer lock is held.
	show func(t tombstones)
}

func (x *deleting) run(ctx context.Context) error {
	db := x.db
	marks, release, err := db.find(ctx, x.d)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	defer release()
	x.marks = marks
	if err := x.commit(ctx); err != nil {
		return err
	}
	defer x.pin.Close()
	if err := db.Durable(ctx, x.id); err != nil {
		return err
	}
	d := deletion{ID: x.id, At: x.d.At, MinT: x.d.MinT, MaxT: x.d.MaxT, Match: matchTexts(x.d.Match), Series: len(x.d.Refs)}
	for _, m := range x.marks {
		d.Series = max(d.Series, len(m.ids))
	}
	if err := x.keep(ctx); err != nil {
		d.Final = true
		db.log.Warn("a delete cannot be undone: the samples that were in memory could not be kept", "delete", x.id, "err", err)
	}
	if err := db.saveMarks(); err != nil {
		return err
	}
	return db.saveDeletes(x.id, append(slices.Clone(db.deletes.list), d))
}

// find returns the blocks with series that a delete is about, in use until release is called.
func (db *DB) find(ctx context.Context, d wal.Delete) (marks []*marked, release func(), err error) {
	blocks := db.blocks.acquireAll(d.MinT, d.MaxT)
	foreign := db.foreign.acquire(d.MinT, d.MaxT)
	release = func() {
		releaseAll(blocks)
		for _, b := range foreign {
			b.leave()
		}
	}
	for _, b := range blocks {
		ids, err := b.Index().Select(budget.NewTask(ctx, nil), d.Match)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("block %s: %w", b.Meta().ULID, err)
		}
		if len(ids) > 0 {
			marks = append(marks, &marked{
				path: b.Name(), lsn: b.Meta().LSN, dead: b.dead, ids: ids,
				show: func(t tombstones) { db.blocks.replace([]storedBlock{b}, storedBlock{b.Block, t}) },
			})
		}
	}
	for _, b := range foreign {
		ids, err := b.foreignBlock.find(ctx, d.Match)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("block %s: %w", b.info.ID, err)
		}
		if len(ids) > 0 {
			marks = append(marks, &marked{
				path: db.layout.foreignTombstones(b.info.ID), dead: b.dead, ids: ids,
				show: func(t tombstones) {
					db.foreign.replace(b.info.ID, storedForeign{foreignBlock: b.foreignBlock, dead: t, deletes: b.deletes + 1})
				},
			})
		}
	}
	return marks, release, nil
}

// commit logs the delete and puts it in force, for head and blocks in one step.
func (x *deleting) commit(ctx context.Context) error {
	db := x.db
	pin, _, err := db.pin(ctx)
	if err != nil {
		return err
	}
	x.d.Refs, err = db.matching(ctx, pin, x.d.Match)
	pin.Close()
	if err != nil {
		return err
	}
	rec := wal.AppendDelete(nil, x.d)
	if err := db.journal.Admit(ctx, len(rec)); err != nil {
		return db.unavailable(err)
	}
	masks := make([]mask, len(x.marks))
	for i, m := range x.marks {
		masks[i].series = make(map[uint32][]interval, len(m.ids))
		for _, id := range m.ids {
			masks[i].series[id] = []interval{{x.d.MinT, x.d.MaxT}}
		}
	}
	db.seq.Lock()
	defer db.seq.Unlock()
	before := db.head.Pin()
	x.id, err = db.journal.Append(wal.KindDelete, rec)
	if err != nil {
		before.Close()
		return db.unavailable(err)
	}
	x.pin = before
	db.stamps.begin()
	db.head.Delete(x.d.Refs, x.d.MinT, x.d.MaxT, x.id)
	for i, m := range x.marks {
		masks[i].id = x.id
		db.mark(m, m.dead.put(masks[i]))
	}
	return nil
}

// mark puts tombstones in force, and notes that the file beside the block is older. The maintenance lock and that of the
// sequencer are held.
func (db *DB) mark(m *marked, t tombstones) {
	m.dead = t
	m.show(t)
	db.deletes.unsaved = append(slices.DeleteFunc(db.deletes.unsaved, func(u *marked) bool { return u.path == m.path }), m)
}

// keep writes what the delete took out of the head to a block of which nothing is seen.
func (x *deleting) keep(ctx context.Context) error {
	if len(x.d.Refs) == 0 {
		return nil
	}
	db := x.db
	if err := db.head.WaitApplied(ctx, x.pin.Epoch()); err != nil {
		return err
	}
	v := &view{db: db, pin: x.pin, mint: x.d.MinT, maxt: x.d.MaxT}
	v.sources = []source{headSource{pin: x.pin, index: db.head.Index()}}
	meta := block.Meta{ULID: block.NewULID(), Slot: db.meta.SlotMillis, LSN: x.pin.Epoch()}
	name := block.Path(db.layout.blocks(), meta.ULID)
	dead := tombstones{{id: x.id, all: []interval{{minTime, maxTime}}}}
	if err := saveTombstones(db.opts.FS, name, dead); err != nil {
		return err
	}
	_, err := block.Write(db.opts.FS, db.layout.blocks(), meta, block.Source{
		Series: withoutExemplars(v.eachSeries(ctx, x.d.Match...)), Account: db.upkeep,
	})
	if err != nil {
		if errors.Is(err, block.ErrEmpty) {
			err = nil
		}
		return errors.Join(err, saveTombstones(db.opts.FS, name, nil))
	}
	b, err := db.openBlock(meta.ULID)
	if err != nil {
		return err
	}
	db.blocks.add(storedBlock{Block: b, dead: dead})
	return nil
}

// matching returns the series of the head that match, those too whose samples are all in blocks: without its newest
// sample a series must take one of that time again.
func (db *DB) matching(ctx context.Context, pin *head.Pin, ms []*labels.Matcher) ([]sample.Ref, error) {
	ids, err := db.head.Index().Select(budget.NewTask(ctx, nil), ms)
	if err != nil {
		return nil, fmt.Errorf("select series of the head: %w", err)
	}
	refs := make([]sample.Ref, 0, len(ids))
	for _, id := range ids {
		refs = append(refs, pin.Ref(id))
	}
	// An id may have gone to another series before its Ref was asked for. That one is in the second answer only if
	// it matches, too.
	again, err := db.head.Index().Select(budget.NewTask(ctx, nil), ms)
	if err != nil {
		return nil, fmt.Errorf("select series of the head: %w", err)
	}
	return slices.DeleteFunc(refs, func(ref sample.Ref) bool {
		_, ok := slices.BinarySearch(again, ref.ID())
		return !ok
	}), nil
}

// takeFromViews puts in, which shows less, in place of a block. Views are opened under the sequencer lock: who sees the
// new stamp sees the new blocks, and the other way round.
func (db *DB) takeFromViews(out storedBlock, in ...storedBlock) {
	db.seq.Lock()
	defer db.seq.Unlock()
	db.stamps.begin()
	db.blocks.replace([]storedBlock{out}, in...)
}

var (
	// ErrNoDelete is the answer to an Undelete of what is no delete, or none any more.
	ErrNoDelete = errors.New("there is no such delete, or nothing is left of it")
	// ErrFinal is the answer to an Undelete that comes too late.
	ErrFinal = errors.New("the delete is final: its samples are being purged, or are purged")
)

// Undelete brings the samples back that a delete has hidden, but for those in whose place another sample of the same
// series and time was written since.
func (db *DB) Undelete(ctx context.Context, id sample.LSN) error {
	end, err := db.beginDelete(ctx)
	if err != nil {
		return err
	}
	defer end()
	i := slices.IndexFunc(db.deletes.list, func(d deletion) bool { return d.ID == id })
	if i < 0 {
		return ErrNoDelete
	}
	d := db.deletes.list[i]
	if db.deletes.final(id) {
		return ErrFinal
	}
	list := slices.Clone(db.deletes.list)
	list[i].Undoing = true
	if err := db.saveDeletes(db.deletes.done, list); err != nil {
		return err
	}
	return db.undo(ctx, d)
}

// undo completes an Undelete that is noted to be under way. The maintenance lock is held.
func (db *DB) undo(ctx context.Context, d deletion) error {
	ms, err := d.matchers()
	if err != nil {
		return err
	}
	marks, release, err := db.find(ctx, wal.Delete{MinT: d.MinT, MaxT: d.MaxT, Match: ms})
	if err != nil {
		return fmt.Errorf("undelete: %w", err)
	}
	defer release()
	replaced, err := db.replacedSince(ctx, d, ms)
	if err != nil {
		return fmt.Errorf("undelete: look for samples written since: %w", err)
	}
	// In the order of the LSNs, so that an undo that is cut short and done again finds what counts first already shown.
	slices.SortStableFunc(marks, func(a, b *marked) int { return int(min(max(int64(a.lsn)-int64(b.lsn), -1), 1)) })
	db.seq.Lock()
	db.stamps.begin()
	for _, m := range marks {
		if _, ok := m.dead.find(d.ID); !ok {
			continue
		}
		t := m.dead.without(func(id sample.LSN) bool { return id == d.ID })
		if gone := replaced[m.path]; len(gone) > 0 {
			always := t.get(0)
			for id, ivs := range always.series {
				gone[id] = unite(gone[id], ivs)
			}
			t = t.put(mask{all: always.all, series: gone})
		}
		db.mark(m, t)
	}
	db.seq.Unlock()
	if err := db.saveMarks(); err != nil {
		return err
	}
	list := slices.DeleteFunc(slices.Clone(db.deletes.list), func(x deletion) bool { return x.ID == d.ID })
	return db.saveDeletes(db.deletes.done, list)
}

// replacedSince returns, by block and series, the times at which a delete hides a sample in whose place there is another
// one that it does not hide.
func (db *DB) replacedSince(ctx context.Context, d deletion, ms []*labels.Matcher) (map[string]map[uint32][]interval, error) {
	v, err := db.viewUnder(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = v.Close() }() // it cannot fail
	set, err := v.Series(ctx, ms, column.Hint{Account: db.upkeep})
	if err != nil {
		return nil, err
	}
	defer db.upkeep.Release(set.Bytes)
	h, err := v.handleOf(set)
	if err != nil {
		return nil, err
	}
	out := map[string]map[uint32][]interval{}
	b := column.Block{Budget: db.upkeep}
	defer b.Free()
	for next := 0; next < set.N; {
		ids := make([]uint32, 0, slotReadRun)
		for i := next; i < set.N && len(ids) < slotReadRun; i++ {
			ids = append(ids, uint32(i))
		}
		n, err := v.Scan(ctx, set, ids, column.Need{MinT: d.MinT, MaxT: d.MaxT}, &b)
		if err != nil {
			return nil, err
		}
		for i, id := range ids[:n] {
			from, to := b.Rows(i)
			for _, loc := range h.of(id) {
				m, path := db.maskOf(h.sources[loc.source], d.ID)
				if gone := under(m.of(loc.id), b.T[from:to]); len(gone) > 0 {
					if out[path] == nil {
						out[path] = map[uint32][]interval{}
					}
					out[path][loc.id] = gone
				}
			}
		}
		next += n
	}
	return out, nil
}

// under returns the times, one interval each or joined, that ivs hide.
func under(ivs []interval, times []int64) []interval {
	var out []interval
	if len(ivs) == 0 {
		return nil
	}
	for _, t := range times {
		if !deleted(ivs, t) {
			continue
		}
		if n := len(out); n > 0 && !apart(out[n-1], interval{t, t}) {
			out[n-1].maxt = t
			continue
		}
		out = append(out, interval{t, t})
	}
	return out
}

// maskOf returns what a delete hides of a source, and beside what file the tombstones of that are.
func (db *DB) maskOf(s source, id sample.LSN) (mask, string) {
	switch s := s.(type) {
	case blockSource:
		return s.b.dead.get(id), s.b.Name()
	case foreignSource:
		return s.b.dead.get(id), db.layout.foreignTombstones(s.b.info.ID)
	}
	return mask{}, ""
}

// viewUnder returns a view of all that a delete does not hide, whatever others do.
func (db *DB) viewUnder(ctx context.Context, d deletion) (*view, error) {
	if err := db.users.enter(); err != nil {
		return nil, err
	}
	mine := func(id sample.LSN) bool { return id == 0 || id == d.ID }
	v := &view{db: db, mint: d.MinT, maxt: d.MaxT}
	db.seq.Lock()
	v.pin = db.head.Pin()
	blocks := db.blocks.acquireAll(d.MinT, d.MaxT)
	foreign := db.foreign.acquire(d.MinT, d.MaxT)
	db.seq.Unlock()
	for _, b := range foreign {
		b.dead = b.dead.only(mine)
		v.sources = append(v.sources, foreignSource{b: b, warn: v.unreadable, seed: db.head.Seed()})
	}
	for _, b := range blocks {
		b.dead = b.dead.only(mine)
		v.sources = append(v.sources, newBlockSource(b, db.head.Seed()))
	}
	v.sources = append(v.sources, headSource{pin: v.pin, index: db.head.Index()})
	if err := db.head.WaitApplied(ctx, v.pin.Epoch()); err != nil {
		return nil, joinClose(err, v)
	}
	return v, nil
}

// CleanTombstones purges what is deleted: no delete can be undone any more, and blocks with hidden samples are rewritten
// without them, which frees their disk space.
func (db *DB) CleanTombstones(ctx context.Context) error {
	if err := db.enterWhole(ctx); err != nil {
		return err
	}
	defer db.users.leave()
	db.merges.one.Lock()
	defer db.merges.one.Unlock()
	if err := db.finalize(func(deletion) bool { return true }); err != nil {
		return err
	}
	for _, b := range db.blocks.all() {
		if len(b.dead) == 0 {
			continue
		}
		err := db.mergeBlocks(ctx, []string{b.Meta().ULID})
		if errors.Is(err, errBlocksChanged) {
			err = nil // a delete came, or the retention
		}
		if err != nil {
			return fmt.Errorf("rewrite block %s: %w", b.Meta().ULID, err)
		}
	}
	return db.forgetDeletes()
}

// passCheckpoints sees to it that no start, not even one from the older checkpoint, reads rows up to lsn again that
// left the head. Before, it is the block of these rows that keeps them from coming back; without another block in
// its place it must not go.
func (db *DB) passCheckpoints(ctx context.Context, lsn sample.LSN) error {
	for len(db.checkpoints) < 2 || db.checkpoints[0] <= lsn {
		if err := db.logNothing(ctx); err != nil {
			return err
		}
		if err := db.checkpointLocked(ctx); err != nil {
			return err
		}
	}
	return nil
}

// logNothing logs a record that changes nothing, so that a checkpoint has an LSN of its own.
func (db *DB) logNothing(ctx context.Context) error {
	rec := wal.AppendFree(nil, nil)
	if err := db.journal.Admit(ctx, len(rec)); err != nil {
		return db.unavailable(err)
	}
	db.seq.Lock()
	defer db.seq.Unlock()
	lsn, err := db.journal.Append(wal.KindFree, rec)
	if err != nil {
		return db.unavailable(err)
	}
	db.head.Skip(lsn)
	return nil
}

// undoFor is the default of Options.UndoFor.
const undoFor = 24 * time.Hour
