// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// foreign returns the directory of what the store keeps about foreign blocks.
func (l layout) foreign() string { return l.path("prometheus") }

// convertedFile names the foreign blocks that the store does not need any more.
func (l layout) convertedFile() string { return l.path("prometheus", "converted.json") }

// foreignTombstones stands for a block file of a foreign block, beside which its tombstones are.
func (l layout) foreignTombstones(id string) string { return block.Path(l.foreign(), id) }

// openForeign opens what another program left in the data path, after the store's own blocks.
func (db *DB) openForeign(ctx context.Context) error {
	db.foreign = &foreignSet{}
	if db.opts.Foreign == nil {
		return nil
	}
	var err error
	if db.converted, err = db.loadConverted(); err != nil {
		return err
	}
	db.removeConvertedMarks()
	found, err := db.opts.Foreign.Open(ctx, db.opts.Dir, db.layout.foreign(), func(id string) bool {
		return slices.Contains(db.converted, id)
	})
	if err != nil {
		return fmt.Errorf("open the data that another program left: %w", err)
	}
	for i, b := range found.Blocks {
		if err := db.addForeign(b); err != nil {
			errs := []error{err}
			for _, b := range found.Blocks[i:] {
				errs = append(errs, b.Close())
			}
			return errors.Join(errs...)
		}
	}
	for _, g := range found.Unreadable {
		next := g.NextStep
		if next == "" {
			next = "repair or restore the Prometheus data in " + db.opts.Dir + " and restart, or move the damaged block away to accept the loss"
		}
		db.noteLoss(loss{
			gap:    &gap{mint: g.MinT, maxt: g.MaxT, cause: g.Err},
			effect: fmt.Sprintf("answers from %s to %s lack samples and carry a warning: %v", formatTime(g.MinT), formatTime(g.MaxT), g.Err),
			next:   next,
		})
	}
	for _, b := range db.foreign.all() {
		db.foreignAt.blocks.Add(1)
		db.foreignAt.bytes.Add(b.info.Bytes)
	}
	if n := len(db.foreign.all()); n > 0 {
		db.log.Info("blocks of another program are queried in place and will be converted", "blocks", n, "bytes", db.foreignAt.bytes.Load())
	}
	return db.removeHalfConverted()
}

// removeConvertedMarks deletes the tombstones of blocks that are converted, where a crash or a late write left them.
func (db *DB) removeConvertedMarks() {
	for _, id := range db.converted {
		_ = db.opts.FS.Remove(tombstonePath(db.layout.foreignTombstones(id))) // nobody reads it
	}
}

func (db *DB) addForeign(b ForeignBlock) error {
	id := b.Info().ID
	dead, err := loadTombstones(db.opts.FS, db.layout.foreignTombstones(id))
	if damaged(err) {
		err = db.quarantine(tombstonePath(db.layout.foreignTombstones(id)), err)
	}
	if err != nil {
		return err
	}
	db.foreign.replace(id, storedForeign{foreignBlock: newForeignBlock(b, db.upkeep), dead: dead})
	return nil
}

// removeHalfConverted deletes the blocks that were written for a foreign block whose conversion was not concluded:
// samples may have been deleted from it meanwhile. It is done again.
func (db *DB) removeHalfConverted() error {
	for _, b := range db.blocks.all() {
		for _, id := range b.Meta().Parents {
			if _, ok := db.foreign.find(id); !ok {
				continue
			}
			db.log.Info("a conversion was cut short and will be done again", "from", id, "block", b.Meta().ULID)
			if err := db.blocks.delete(db.layout, b); err != nil {
				return fmt.Errorf("delete the half converted block %s: %w", b.Meta().ULID, err)
			}
			break
		}
	}
	return nil
}

// loadConverted reads the ids of the foreign blocks that are converted.
func (db *DB) loadConverted() ([]string, error) {
	text, err := fsx.ReadFile(db.opts.FS, db.layout.convertedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	if err := json.Unmarshal(text, &ids); err != nil {
		return nil, fmt.Errorf("%s: %w: restore the file from a backup, or delete it to have the data of Prometheus converted again",
			db.layout.convertedFile(), err)
	}
	return ids, nil
}

// conclude notes that the store does not need a foreign block any more, nor those that it replaced. From here on a
// start does not open them. The maintenance lock is held.
func (db *DB) conclude(b storedForeign) error {
	ids := append(slices.Clone(db.converted), b.info.ID)
	ids = append(ids, b.info.Replaces...)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if err := fsx.MakeDir(db.opts.FS, db.layout.foreign()); err != nil {
		return err
	}
	err := fsx.Publish(db.opts.FS, db.layout.convertedFile(), func(w io.Writer) error { return json.NewEncoder(w).Encode(ids) })
	if err != nil {
		return fmt.Errorf("note that block %s is converted: %w", b.info.ID, err)
	}
	db.converted = ids
	return nil
}

// forgetForeign ends the use of a foreign block that is concluded and out of the views, and removes what may go of it.
func (db *DB) forgetForeign(b storedForeign) {
	if len(b.dead) > 0 {
		_ = db.opts.FS.Remove(tombstonePath(db.layout.foreignTombstones(b.info.ID))) // it is not looked at any more
	}
	err := b.end(true)
	if db.opts.DeleteForeign {
		for _, id := range append([]string{b.info.ID}, b.info.Replaces...) {
			err = errors.Join(err, db.opts.Foreign.Remove(db.opts.Dir, id))
		}
	}
	if err != nil {
		db.log.Warn("what is left of a converted block could not be removed; the next start tries again", "dir", path.Join(db.opts.Dir, b.info.ID), "err", err)
	}
}
