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

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/head"
)

// attachParts gives the parts that earlier runs wrote to the head, which is new. Those whose rows a block holds are
// removed; one that cannot be read is moved to quarantine, and the start goes on without it. Files are opened side by
// side, and the parts of each shard are attached in their order, the shards side by side.
func (db *DB) attachParts() error {
	opened, err := db.openParts()
	if err != nil {
		return errors.Join(err, closeAll(opened))
	}
	slices.SortFunc(opened, func(a, b *storedPart) int {
		return cmp.Or(cmp.Compare(a.Meta().Shard, b.Meta().Shard), cmp.Compare(a.Meta().LSN, b.Meta().LSN))
	})
	db.parts.take(func(block.PartMeta) bool { return true })
	var shards [][]*storedPart
	for rest := opened; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Meta().Shard == rest[0].Meta().Shard {
			n++
		}
		shards, rest = append(shards, rest[:n]), rest[n:]
	}
	tried := make([][]partAttempt, len(shards))
	sideBySide(len(shards), func(i int) {
		for _, p := range shards[i] {
			taken, err := db.attachPart(p)
			tried[i] = append(tried[i], partAttempt{p, taken, err})
		}
	})
	var errs []error
	for _, x := range slices.Concat(tried...) {
		errs = append(errs, db.settlePart(x))
	}
	return errors.Join(errs...)
}

// partAttempt is what came of giving a part to the head.
type partAttempt struct {
	part  *storedPart
	taken bool // the head has it
	err   error
}

// openParts opens the parts that can be read; those are returned on an error too.
func (db *DB) openParts() ([]*storedPart, error) {
	names, err := db.opts.FS.List(db.layout.spill())
	if err != nil {
		return nil, fmt.Errorf("list the parts of the head: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, block.PartSuffix) })
	opened, failed := make([]*block.Part, len(names)), make([]error, len(names))
	sideBySide(len(names), func(i int) {
		opened[i], failed[i] = block.OpenPartUnread(db.opts.FS, path.Join(db.layout.spill(), names[i]), db.cache, block.Options{Account: db.upkeep})
	})
	var all []*storedPart
	var errs []error
	for i, p := range opened {
		name, err := path.Join(db.layout.spill(), names[i]), failed[i]
		if damaged(err) {
			err = db.quarantine(name, err)
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("open part %s: %w", name, err))
		case failed[i] == nil:
			all = append(all, &storedPart{Part: p})
		}
	}
	return all, errors.Join(errs...)
}

func closeAll(parts []*storedPart) error {
	var errs []error
	for _, p := range parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// attachPart gives one part to the head; taken is false where a block holds its rows.
func (db *DB) attachPart(p *storedPart) (taken bool, err error) {
	m := p.Meta()
	if int(m.Shard) >= db.meta.Shards || m.Slot != db.meta.SlotMillis {
		return false, &block.CorruptError{File: p.Name(), Msg: "the part is of another store"}
	}
	members, err := p.Members()
	if err != nil {
		return false, err
	}
	defer members.Free()
	info := head.PartInfo{Shard: m.Shard, Slot: m.SlotStart, LSN: m.LSN, MinT: m.MinT, MaxT: m.MaxT, Rows: int(m.Rows)}
	if !db.head.AttachRecovered(p, info, head.PartSeries{Local: members.Number, Gen: members.Gen, First: members.First, Last: members.Last}) {
		return false, nil
	}
	db.parts.add(p)
	return true, nil
}

// settlePart does what there is to do on the disk for a part that the head does not have.
func (db *DB) settlePart(x partAttempt) error {
	switch {
	case x.taken:
		return nil
	case damaged(x.err):
		return errors.Join(x.part.Close(), db.quarantine(x.part.Name(), x.err))
	case x.err != nil:
		return errors.Join(x.err, x.part.Close())
	}
	if err := x.part.Delete(); err != nil {
		return fmt.Errorf("remove a part whose rows a block holds: %w", err)
	}
	return nil
}
