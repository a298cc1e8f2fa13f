// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	// scrubRest is how long the scrub waits between two passes at least, and where there is nothing to read.
	scrubRest = time.Minute
	// scrubFloor is how many bytes it reads in a second at least: a small store is through within hours.
	scrubFloor = 4 << 10
	// scrubPiece is how much of a checkpoint is read at a time.
	scrubPiece = 256 << 10
)

// errBlockGone ends the scrub of a block that is no block of the store any more.
var errBlockGone = errors.New("the block was replaced")

// ScrubStats is what the scrub has read and found since the start.
type ScrubStats struct {
	Bytes, Passes uint64
	Damages       uint64    // places that failed their checksum or could not be read
	LastPass      time.Time // when the last pass ended; zero: none has
}

type scrubCounts struct {
	bytes, passes, damages atomic.Uint64
	lastPass               atomic.Int64 // Unix ms
}

// ScrubStats returns what the scrub has read and found.
func (db *DB) ScrubStats() ScrubStats {
	c := &db.scrubs
	s := ScrubStats{Bytes: c.bytes.Load(), Passes: c.passes.Load(), Damages: c.damages.Load()}
	if ms := c.lastPass.Load(); ms > 0 {
		s.LastPass = time.UnixMilli(ms)
	}
	return s
}

// scrubLoop reads all files again and again, slowly, until ctx ends.
func (db *DB) scrubLoop(ctx context.Context) {
	defer db.loops.Done()
	if db.opts.Scrub < 0 && db.opts.ScrubBytes <= 0 || db.Await(ctx, minTime, maxTime) != nil {
		return
	}
	for sleep(ctx, scrubRest) {
		if !db.whole() {
			continue // a new checkpoint would not have all of the head
		}
		if err := db.scrubPass(ctx, db.scrubPace); err != nil && ctx.Err() == nil {
			db.log.Warn("reading the files again to find damage failed; it is begun anew", "err", err)
		}
	}
}

// sleep waits; false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// scrubPace waits for as long as so many bytes take at the rate asked for.
func (db *DB) scrubPace(ctx context.Context, bytes int64) error {
	rate := float64(db.opts.ScrubBytes) / time.Hour.Seconds()
	if rate <= 0 {
		rate = max(float64(db.DiskBytes())*db.opts.Scrub/time.Hour.Seconds(), scrubFloor)
	}
	if !sleep(ctx, time.Duration(float64(bytes)/rate*float64(time.Second))) {
		return ctx.Err()
	}
	return nil
}

// scrubbing is one pass.
type scrubbing struct {
	db   *DB
	pace func(context.Context, int64) error
}

// scrubPass reads all files there are once. Damage of samples is told by the condition at once, before a query meets it.
// What is in memory too is written anew: checkpoints, what is deleted; for damage of the log there is a checkpoint.
func (db *DB) scrubPass(ctx context.Context, pace func(context.Context, int64) error) error {
	x := &scrubbing{db: db, pace: pace}
	for _, step := range []func(context.Context) error{x.blocks, x.parts, x.checkpoints, x.log, x.deletes} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	db.scrubs.passes.Add(1)
	db.scrubs.lastPass.Store(db.now().UnixMilli())
	return nil
}

// before waits for its turn to read so many bytes.
func (x *scrubbing) before(ctx context.Context, bytes int64) error {
	x.db.scrubs.bytes.Add(uint64(bytes))
	return x.pace(ctx, bytes)
}

func (x *scrubbing) blocks(ctx context.Context) error {
	db := x.db
	for _, b := range db.blocks.all() {
		if !b.Acquire() {
			continue
		}
		err := x.file(b.Name(), func(c block.Check) error {
			c.Before = func(ctx context.Context, bytes int64) error {
				if !slices.ContainsFunc(db.blocks.all(), func(y storedBlock) bool { return y.Block == b.Block }) {
					return errBlockGone // its file takes disk as long as it is held
				}
				return x.before(ctx, bytes)
			}
			return b.Scrub(ctx, c)
		})
		b.Release()
		if err != nil && !errors.Is(err, errBlockGone) {
			return err
		}
		if err := x.tombstones(ctx, b.Name()); err != nil {
			return err
		}
	}
	return nil
}

func (x *scrubbing) parts(ctx context.Context) error {
	for _, p := range x.db.parts.all() {
		err := x.file(p.Name(), func(c block.Check) error {
			c.Before = x.before
			return p.Scrub(ctx, c)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// file scrubs a block or a part. What was unreadable of one without damage is forgotten.
func (x *scrubbing) file(name string, scrub func(block.Check) error) error {
	sound := true
	err := scrub(block.Check{Found: func(d block.Damage) {
		sound = false
		x.db.scrubs.damages.Add(1)
		x.db.noteUnreadable(d.Err)
	}})
	if err == nil && sound {
		x.db.forgetSites(func(at site, l loss) bool { return at.file == name && !l.stays })
	}
	return err
}

// damaged counts and logs damage that is mended; false where err is none.
func (x *scrubbing) damaged(name string, err error) bool {
	if err == nil || !damaged(err) {
		return false
	}
	x.db.scrubs.damages.Add(1)
	x.db.log.Error("a file was damaged since it was written; it is written anew", "file", name, "err", err)
	return true
}

// tombstones reads those beside a block, which are in memory too.
func (x *scrubbing) tombstones(ctx context.Context, blockName string) error {
	db := x.db
	info, err := db.opts.FS.Stat(tombstonePath(blockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = x.before(ctx, info.Size)
	}
	if err != nil {
		return err
	}
	db.maintain.Lock()
	defer db.maintain.Unlock()
	all := db.blocks.all()
	i := slices.IndexFunc(all, func(b storedBlock) bool { return b.Name() == blockName })
	if i < 0 {
		return nil
	}
	_, err = loadTombstones(db.opts.FS, blockName)
	if x.damaged(tombstonePath(blockName), err) {
		err = saveTombstones(db.opts.FS, blockName, all[i].dead)
	}
	return err
}

// deletes reads the list of the deletes that can be undone, which is in memory too.
func (x *scrubbing) deletes(context.Context) error {
	db := x.db
	db.maintain.Lock()
	defer db.maintain.Unlock()
	p, err := fsx.ReadFile(db.opts.FS, db.layout.deletes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	x.db.scrubs.bytes.Add(uint64(len(p)))
	if err == nil {
		if _, err = parseDeletes(p); err != nil {
			err = fmt.Errorf("%w: %w", errTombstones, err)
		}
	}
	if x.damaged(db.layout.deletes(), err) {
		return db.saveDeletes(db.deletes.done, db.deletes.list)
	}
	return err
}

// checkpoints reads those there are. In place of a damaged one there is a new one: the head is in memory.
func (x *scrubbing) checkpoints(ctx context.Context) error {
	db := x.db
	db.maintain.Lock()
	all := slices.Clone(db.checkpoints)
	db.maintain.Unlock()
	for _, lsn := range all {
		err := x.checkpoint(ctx, db.checkpointPath(lsn))
		if errors.Is(err, fs.ErrNotExist) {
			continue // newer ones took its place
		}
		if !x.damaged(db.checkpointPath(lsn), err) {
			if err != nil {
				return err
			}
			continue
		}
		if err := db.replaceCheckpoint(ctx, lsn); err != nil {
			return fmt.Errorf("write a checkpoint in place of a damaged one: %w", err)
		}
	}
	return nil
}

func (x *scrubbing) checkpoint(ctx context.Context, name string) error {
	return readFile(x.db.opts.FS, name, func(f *io.SectionReader) error {
		r := pacedReader{r: f, before: func(n int) error { return x.before(ctx, int64(n)) }}
		return head.ScrubSnapshot(bufio.NewReaderSize(r, scrubPiece))
	})
}

// pacedReader asks before each read.
type pacedReader struct {
	r      io.Reader
	before func(n int) error
}

func (p pacedReader) Read(b []byte) (int, error) {
	if err := p.before(len(b)); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// replaceCheckpoint puts a damaged checkpoint in quarantine and writes one as of now.
func (db *DB) replaceCheckpoint(ctx context.Context, lsn sample.LSN) error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	i := slices.Index(db.checkpoints, lsn)
	if i < 0 {
		return nil
	}
	if err := db.layout.moveToQuarantine(db.checkpointPath(lsn), time.Now()); err != nil {
		return err
	}
	db.checkpoints = slices.Delete(slices.Clone(db.checkpoints), i, i+1)
	if err := db.checkpointLocked(ctx); err != nil && !errors.Is(err, errNothingNew) {
		return err
	}
	return nil
}

// log reads the records that a start would need. Where some are damaged, a checkpoint makes that it needs them no more.
func (x *scrubbing) log(ctx context.Context) error {
	db := x.db
	db.maintain.Lock()
	from := db.lastCheckpoint()
	db.maintain.Unlock()
	var found []error
	err := db.journal.Scrub(ctx, journal.Scrubbing{
		From: from + 1, Before: x.before,
		Found: func(e *journal.CorruptError) { found = append(found, e) },
	})
	if err != nil || len(found) == 0 {
		return err
	}
	db.scrubs.damages.Add(uint64(len(found)))
	db.log.Error("records of the log were damaged since they were written; a checkpoint takes their place", "err", errors.Join(found...))
	if err := db.Checkpoint(ctx); err != nil && !errors.Is(err, errNothingNew) {
		return fmt.Errorf("write a checkpoint in place of damaged records: %w", err)
	}
	return nil
}
