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
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Recovery tells what Open found.
type Recovery struct {
	Checkpoint sample.LSN // the checkpoint it started from, 0 for none
	Records    int        // log records replayed after it
	Samples    int        // rows in them
	Unknown    int        // rows of series the log does not name: lost to corruption
	Lost       int        // series with rows in parts of the head that the log does not name: the same
	Took       time.Duration
	Phases     Phases
	Log        journal.Recovery
}

// Phases is what a start took its time for. The store takes samples after the first three.
type Phases struct {
	Files      time.Duration // opening blocks and parts
	Checkpoint time.Duration // loading it
	Series     time.Duration // reading the log for who there is
	Rows       time.Duration // applying the log, and what came meanwhile
}

// phasesFrom returns a function that notes the time since its last call, the first time that since start.
func phasesFrom(start time.Time) func(phase *time.Duration) {
	return func(phase *time.Duration) {
		now := time.Now()
		*phase, start = now.Sub(start), now
	}
}

// Recovery returns what the start found; nothing while the store is being restored.
func (db *DB) Recovery() Recovery {
	select {
	case <-db.restoring.over:
		return db.recovery
	default:
		return Recovery{}
	}
}

// keepFrom is the first LSN the log must keep: that after the older of the two checkpoints kept, so that one
// unreadable checkpoint loses nothing.
func (db *DB) keepFrom() sample.LSN {
	if len(db.checkpoints) < 2 {
		return 1
	}
	return db.checkpoints[0] + 1
}

const checkpointSuffix = ".ckpt"

func (db *DB) checkpointPath(lsn sample.LSN) string {
	return path.Join(db.layout.checkpoints(), fmt.Sprintf("%020d%s", lsn, checkpointSuffix))
}

// loadCheckpoint loads the newest checkpoint that can be read and returns its LSN, 0 if there is none.
func (db *DB) loadCheckpoint() (sample.LSN, error) {
	names, err := db.opts.FS.List(db.layout.checkpoints())
	if err != nil {
		return 0, fmt.Errorf("list the checkpoints: %w", err)
	}
	for _, n := range names {
		digits, ok := strings.CutSuffix(n, checkpointSuffix)
		lsn, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil {
			db.checkpoints = append(db.checkpoints, sample.LSN(lsn))
		}
	}
	slices.Sort(db.checkpoints)
	for i, lsn := range slices.Backward(db.checkpoints) {
		err := db.loadCheckpointFile(lsn)
		if err == nil {
			return lsn, nil
		}
		if !damaged(err) {
			return 0, fmt.Errorf("read checkpoint %d: %w", lsn, err)
		}
		if err := db.quarantine(db.checkpointPath(lsn), err); err != nil {
			return 0, err
		}
		db.checkpoints = db.checkpoints[:i]
		if err := db.head.Close(); err != nil {
			return 0, fmt.Errorf("drop a half loaded head: %w", err)
		}
		if err := db.newHead(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (db *DB) loadCheckpointFile(lsn sample.LSN) error {
	return readFile(db.opts.FS, db.checkpointPath(lsn), func(f *io.SectionReader) error {
		db.checkpointBytes = f.Size()
		return db.head.LoadSnapshot(bufio.NewReaderSize(f, 1<<20))
	})
}

// Checkpoint writes the head as it is now into a file, so that a restart need not replay the log before it.
// Ingestion goes on meanwhile.
func (db *DB) Checkpoint(ctx context.Context) error {
	if err := db.enterWhole(ctx); err != nil {
		return err
	}
	defer db.users.leave()
	db.maintain.Lock()
	defer db.maintain.Unlock()
	return db.checkpointLocked(ctx)
}

// errNothingNew says that the newest checkpoint is up to date.
var errNothingNew = errors.New("nothing changed since the last checkpoint")

func (db *DB) checkpointLocked(ctx context.Context) error {
	// A start takes from the log what of a delete is not in the files beside the blocks.
	if err := db.saveMarks(); err != nil {
		return err
	}
	lsn, err := db.head.Settle(ctx)
	if err != nil {
		return fmt.Errorf("wait for earlier writes: %w", err)
	}
	if n := len(db.checkpoints); n > 0 && db.checkpoints[n-1] == lsn || lsn == 0 {
		return errNothingNew
	}
	// What the checkpoint holds must not be newer than the log: after a power cut the log would give the
	// same LSNs out again.
	if err := db.Durable(ctx, lsn); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	size := int64(0)
	err = fsx.Publish(db.opts.FS, db.checkpointPath(lsn), func(w io.Writer) error {
		if err := db.head.Snapshot(lsn, countingWriter{w, &size, db.opts.checkpointStep}); err != nil {
			return err
		}
		// It has samples that came while it was written, and knows series that did: their records must not be lost either.
		if err := db.Durable(ctx, db.journal.Last()); err != nil {
			return err
		}
		return db.keepTold(ctx)
	})
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	db.checkpoints, db.checkpointBytes = append(db.checkpoints, lsn), size
	for len(db.checkpoints) > 2 {
		if err := db.opts.FS.Remove(db.checkpointPath(db.checkpoints[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old checkpoint: %w", err)
		}
		db.checkpoints = db.checkpoints[1:]
	}
	db.floor.Set(db.keepFrom())
	return nil
}

// countingWriter counts what is written.
type countingWriter struct {
	w    io.Writer
	n    *int64
	step func() // called before each write, if there is one
}

func (c countingWriter) Write(p []byte) (int, error) {
	if c.step != nil {
		c.step()
	}
	n, err := c.w.Write(p)
	*c.n += int64(n)
	return n, err
}
