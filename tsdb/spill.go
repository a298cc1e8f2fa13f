// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	// spillEvery is how often the shards are looked at: at three million samples a second the head grows by 10 MB
	// between two looks.
	spillEvery = time.Second
	// spillRest is how long nothing is tried after a failure.
	spillRest = 15 * time.Second
	// spillPerSeries is how many bytes of samples a shard may hold for each of its series, beside the 16 that are in its
	// record: together about an eighth of an hour at a scrape every 15 s. spillFloor is what all shards together may hold in any case.
	spillPerSeries = 80
	spillFloor     = 1 << 20
	// spillLeast is how many samples an open chunk must have to be sealed.
	spillLeast = 8
	// spillShare is which part of the bytes of a shard must be of one slot for a part to be made of them: a few chunks of a
	// slot that is nearly over stay in memory for its block.
	spillShare = 16
)

// storedPart is a part of the head in a file.
type storedPart struct {
	*block.Part
	bad atomic.Bool // some of it could not be read
}

// Reader returns a reader of the part for the head.
func (p *storedPart) Reader(once bool) head.PartReader {
	if once {
		return &partReader{part: p, stripes: p.ReaderOnce()}
	}
	return &partReader{part: p, stripes: p.Part.Reader()}
}

// Ahead touches the place of a series.
func (p *storedPart) Ahead(local uint32) uint32 {
	id, _ := p.Place(local)
	return id
}

// Discard closes the file, whose name is gone already.
func (p *storedPart) Discard() { _ = p.Part.Close() } // it was only read

type partReader struct {
	part    *storedPart
	stripes block.Reader
}

// Read appends rows of a series; see head.PartReader. It is short, so that nothing ends it early.
func (r *partReader) Read(local uint32, mint, maxt int64, withST bool, dst *column.Block) error {
	id, ok := r.part.Place(local)
	if !ok {
		return nil
	}
	err := r.stripes.Read(context.Background(), id, mint, maxt, withST, dst)
	if err != nil && damaged(err) {
		r.part.bad.Store(true)
		return &head.DamageError{Err: err}
	}
	return err
}

// ChargeTo charges dst for the stripes that the cache does not keep.
func (r *partReader) ChargeTo(dst *column.Block) error { return r.stripes.ChargeTo(dst) }

// Close hands on the memory that the reader decodes into.
func (r *partReader) Close() { r.stripes.Close() }

// spillLoop keeps the samples in memory few, and the log that a restart replays short.
func (db *DB) spillLoop(ctx context.Context) {
	defer db.loops.Done()
	tick := time.NewTicker(spillEvery)
	defer tick.Stop()
	var rest time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !db.whole() || db.journal.Err() != nil || time.Now().Before(rest) {
			continue
		}
		if err := db.spillDue(ctx); err != nil && ctx.Err() == nil {
			db.failures.Add(1)
			db.log.Error("samples could not be put aside; they stay in memory and it is tried again", "err", err, "in", spillRest)
			rest = time.Now().Add(spillRest)
		}
	}
}

// spillDue spills the shards that hold too much, the fullest first, has the head give back what they leave between them,
// and writes a checkpoint if the log is long.
func (db *DB) spillDue(ctx context.Context) (err error) {
	defer func() { db.noteRoom(roomForSpills, err) }()
	for _, x := range db.fullShards(db.head.Loads()) {
		if err := db.spillShard(ctx, x.Shard, spillLeast, x.Bytes/spillShare); err != nil {
			return err
		}
	}
	db.head.Gather()
	if err := db.makeWay(ctx); err != nil {
		return err
	}
	db.maintain.Lock()
	defer db.maintain.Unlock()
	if !db.checkpointDue() {
		return nil
	}
	if err := db.checkpointLocked(ctx); !errors.Is(err, errNothingNew) {
		return err
	}
	return nil
}

// fullShards returns those that hold more than they may; where memory is short that is a quarter.
func (db *DB) fullShards(all []head.Load) []head.Load {
	short := int64(1)
	if b := db.opts.Budget; b != nil && b.Limit() > 0 && b.Used() > b.Limit()/4*3 {
		short = 4
	}
	full := func(x head.Load) float64 {
		return float64(x.Bytes*short) / float64(max(spillFloor/int64(len(all)), spillPerSeries*int64(x.Series)))
	}
	out := slices.DeleteFunc(all, func(x head.Load) bool { return full(x) < 1 })
	slices.SortFunc(out, func(a, b head.Load) int { return cmp.Compare(full(b), full(a)) })
	return out
}

// spillShard seals the chunks of a shard that have so many samples, and makes parts of the slots that it has so many
// bytes of.
func (db *DB) spillShard(ctx context.Context, shard uint32, samples int, bytes int64) error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	if err := db.removeOrphan(); err != nil {
		return fmt.Errorf("remove a part that was given up: %w", err)
	}
	// Sorting and sealing take a little memory, for the moment until the spill gives back much more.
	defer db.liftMemory()()
	order, err := db.labelOrder(ctx, shard)
	if err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	db.head.Seal(shard, samples)
	lsn, err := db.head.Settle(ctx)
	if err != nil {
		return err
	}
	if err := db.Durable(ctx, lsn); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	for _, s := range db.head.Spills(lsn, shard, bytes) {
		if err := db.spillSlot(ctx, s, order); err != nil {
			return err
		}
	}
	return nil
}

// labelOrder returns the ids of the series of a shard in label order, in which queries read them: so they go through the
// stripes of a part from the first to the last.
func (db *DB) labelOrder(ctx context.Context, shard uint32) ([]uint32, error) {
	pin, _, err := db.pin(ctx)
	if err != nil {
		return nil, err
	}
	defer pin.Close()
	ids := db.head.IDs(shard)
	task := budget.NewTask(ctx, db.upkeep)
	defer task.Settle(0)
	var t labelTable
	t.init(task, len(ids), false)
	t.add(headSource{pin: pin, index: db.head.Index()}, ids, nil)
	order := t.order()
	if err := task.Err(); err != nil {
		return nil, err
	}
	for i, row := range order {
		order[i] = ids[row]
	}
	return order, nil
}

// spillSlot writes a part and lets the head forget what is in it. A crash between the two is healed by the part, which
// says how far it has the rows of each series.
func (db *DB) spillSlot(ctx context.Context, s *head.Spill, order []uint32) error {
	info := s.Info()
	name := path.Join(db.layout.spill(), fmt.Sprintf("%d-%d-%020d%s", info.Slot, info.Shard, info.LSN, block.PartSuffix))
	meta := block.PartMeta{Shard: info.Shard, SlotStart: info.Slot, Slot: db.meta.SlotMillis, LSN: info.LSN}
	if db.parts.has(meta) {
		// Nothing was written since, but chunks were closed: they wait for a part that does not take the place of this one.
		return nil
	}
	_, err := block.WritePart(db.opts.FS, name, meta, block.PartSource{Series: spilledRows(ctx, s, order), Expect: s.Series(), Account: db.upkeep})
	if errors.Is(err, block.ErrEmpty) {
		return nil
	}
	var p *block.Part
	if err == nil {
		p, err = block.OpenPart(db.opts.FS, name, db.cache, block.Options{Account: db.upkeep})
	}
	if err != nil {
		// The rows stay in memory and will be in a part that comes later: they must not be in this one too.
		db.orphan = name
		return fmt.Errorf("spill: %w", errors.Join(err, db.removeOrphan()))
	}
	part := &storedPart{Part: p}
	db.parts.add(part)
	s.Attach(part)
	db.spills.Add(1)
	return nil
}

func spilledRows(ctx context.Context, s *head.Spill, order []uint32) iter.Seq2[block.PartRows, error] {
	return func(yield func(block.PartRows, error) bool) {
		for r, err := range s.Rows(order) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(block.PartRows{Number: r.Local, Gen: r.Gen, Rows: r.Rows}, err) || err != nil {
				return
			}
		}
	}
}

// removeOrphan removes what is left of a part that was given up, for good. The caller holds maintain.
func (db *DB) removeOrphan() error {
	if db.orphan == "" {
		return nil
	}
	if err := db.opts.FS.Remove(db.orphan); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := db.opts.FS.SyncDir(db.layout.spill()); err != nil {
		return err
	}
	db.orphan = ""
	return nil
}

// removeParts removes the files of the parts of a slot whose rows up to lsn a block holds. One that could not be read
// goes to quarantine: the block lacks its rows. The head closes them when no pin sees them any more.
func (db *DB) removeParts(slot int64, lsn sample.LSN) {
	gone := db.parts.take(func(m block.PartMeta) bool { return m.SlotStart == slot && m.LSN <= lsn })
	if len(gone) == 0 {
		return
	}
	var errs []error
	for _, p := range gone {
		if p.bad.Load() {
			errs = append(errs, db.quarantine(p.Name(), errors.New("a part of it could not be read")))
			continue
		}
		errs = append(errs, db.opts.FS.Remove(p.Name()))
	}
	if err := errors.Join(append(errs, db.opts.FS.SyncDir(db.layout.spill()))...); err != nil {
		db.log.Warn("parts of the head whose rows are in a block could not be removed; the next start does it", "err", err)
	}
}
