// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// Snapshot copies the store as it is now to <Dir>/snapshots/<name> and returns the name. The copy is a data path
// of its own: a server started on it answers as this one does now. The head goes into it as blocks; with skipHead
// it stays out. Files are copied, not linked: what the store does to its own later does not reach the copy.
func (db *DB) Snapshot(ctx context.Context, skipHead bool) (string, error) {
	if err := db.enterWhole(ctx); err != nil {
		return "", err
	}
	defer db.users.leave()
	db.maintain.Lock()
	defer db.maintain.Unlock()
	var suffix [8]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return "", fmt.Errorf("name the snapshot: %w", err)
	}
	name := db.now().UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(suffix[:])
	to := layout{fs: db.opts.FS, root: path.Join(db.opts.Dir, "snapshots", name, "tidemark")}
	start := time.Now()
	if err := db.snapshotTo(ctx, to, skipHead); err != nil {
		// Half a copy is none, and takes the room that the store may be out of.
		return "", fmt.Errorf("snapshot %s: %w", name, errors.Join(err, removeTree(to.fs, path.Dir(to.root))))
	}
	db.log.Info("snapshot written", "name", name, "took", time.Since(start))
	return name, nil
}

func (db *DB) snapshotTo(ctx context.Context, to layout, skipHead bool) error {
	if err := to.fs.MkdirAll(to.blocks()); err != nil {
		return err
	}
	if err := db.saveMarks(); err != nil {
		return err
	}
	blocks := db.blocks.acquireAll(minTime, maxTime)
	defer releaseAll(blocks)
	for _, b := range blocks {
		from := block.Path(db.layout.blocks(), b.Meta().ULID)
		if err := copyFile(ctx, to.fs, from, block.Path(to.blocks(), b.Meta().ULID)); err != nil {
			return err
		}
		if len(b.dead) == 0 {
			continue
		}
		if err := saveTombstones(to.fs, block.Path(to.blocks(), b.Meta().ULID), b.dead); err != nil {
			return err
		}
	}
	if err := db.snapshotForeign(ctx, to); err != nil {
		return err
	}
	if !skipHead {
		if err := db.snapshotHead(ctx, to); err != nil {
			return err
		}
	}
	if len(db.deletes.list) > 0 {
		if err := copyFile(ctx, to.fs, db.layout.deletes(), to.deletes()); err != nil {
			return err
		}
	}
	err := fsx.Publish(to.fs, to.path("store.json"), func(w io.Writer) error { return json.NewEncoder(w).Encode(db.meta) })
	if err != nil {
		return err
	}
	for dir := to.root; dir != db.opts.Dir; dir = path.Dir(dir) {
		if err := to.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return to.fs.SyncDir(db.opts.Dir)
}

func (db *DB) snapshotHead(ctx context.Context, to layout) error {
	pin, _, err := db.pin(ctx)
	if err != nil {
		return err
	}
	defer pin.Close()
	for _, slot := range db.head.Slots() {
		// With the LSN of the pin: the log of a server started on the copy goes on above it.
		_, err := block.Write(to.fs, to.blocks(), block.Meta{
			SlotStart: slot.Start, SlotEnd: slot.Start + db.meta.SlotMillis, LSN: pin.Epoch(),
		}, db.slotSource(ctx, pin, slot.Start))
		if err != nil && !errors.Is(err, block.ErrEmpty) {
			return err
		}
	}
	return nil
}

// removeTree removes a directory and what is in it.
func removeTree(fsys fsx.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, n := range names {
		name := path.Join(dir, n)
		info, err := fsys.Stat(name)
		switch {
		case err != nil:
		case info.Dir:
			err = removeTree(fsys, name)
		default:
			err = fsys.Remove(name)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, fsys.Remove(dir))...)
}

// copyFile copies one file of the store and publishes the copy whole.
func copyFile(ctx context.Context, fsys fsx.FS, from, to string) error {
	f, err := fsys.Open(from)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is gone from the store: %w", from, err)
		}
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	size, err := f.Size()
	if err != nil {
		return err
	}
	return fsx.Publish(fsys, to, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(readerAt{ctx, f}, 0, size))
		return err
	})
}

// readerAt ends a long copy with its context.
type readerAt struct {
	ctx context.Context
	r   io.ReaderAt
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.ReadAt(p, off)
}
