// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"path"
	"strings"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// RepairOptions say what to repair. The zero value of each field but Dir is its default.
type RepairOptions struct {
	Dir string // the data path
	FS  fsx.FS // nil: the operating system's
	// Foreign is that of the store's Options: deletes must be completed in what it reads, too.
	Foreign Foreign
	// DryRun does everything in memory and leaves the directory as it is.
	DryRun bool
	// Progress is that of VerifyOptions, for the first and longest step, and for the one after it.
	Progress func(file string, done, total int64)
}

// Repaired is what Repair did.
type Repaired struct {
	// Before is what was found, After what is left: files of a newer version, and what could not be repaired.
	Before *Report  `json:"before"`
	After  *Report  `json:"after"`
	Did    []string `json:"did"`
}

// Repair makes a store one of which every file can be read. What is damaged goes to quarantine, whole; a block or a part
// of the head of which some stripes can be read is written anew with what they hold. The log is ended where a crash tore
// it, and a checkpoint is written behind records that are damaged. Nothing that cannot be read is deleted. The store must
// not be in use; a server that starts on it finds nothing to repair, but the gaps, of which queries warn for as long as
// the files are in quarantine.
func Repair(ctx context.Context, o RepairOptions) (_ *Repaired, err error) {
	if o.FS == nil {
		o.FS = fsx.OS()
	}
	lock, err := o.FS.Lock(path.Join(o.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data path %s: %w", o.Dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if o.DryRun {
		o.FS = fsx.NewOverlay(o.FS)
	}
	verify := VerifyOptions{Dir: o.Dir, FS: o.FS, Progress: o.Progress}
	out := &Repaired{Did: []string{}}
	if out.Before, err = Verify(ctx, verify); err != nil {
		return nil, err
	}
	for _, f := range out.Before.Findings {
		if f.Newer || f.Kind == kindStore {
			return nil, fmt.Errorf("%s: %s: nothing was changed", f.File, f.Problem)
		}
	}
	if len(out.Before.Findings) == 0 {
		out.After = out.Before
		return out, nil
	}
	r := &repairer{fs: o.FS, dir: o.Dir, other: o.Foreign, out: out, layout: layout{fs: o.FS, root: path.Join(o.Dir, "tidemark")}}
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	out.After, err = Verify(ctx, verify)
	return out, err
}

// repairer is one Repair in progress.
type repairer struct {
	fs     fsx.FS
	dir    string
	other  Foreign
	layout layout
	out    *Repaired
}

func (r *repairer) did(format string, args ...any) {
	r.out.Did = append(r.out.Did, fmt.Sprintf(format, args...))
}

func (r *repairer) short(name string) string { return strings.TrimPrefix(name, path.Clean(r.dir)+"/") }

// damaged returns the files of a kind that something was found of.
func (r *repairer) damaged(kind string) []string {
	var out []string
	for _, f := range r.out.Before.Findings {
		if name := path.Join(r.dir, f.File); f.Kind == kind && (len(out) == 0 || out[len(out)-1] != name) {
			out = append(out, name)
		}
	}
	return out
}

// run repairs. The order is that of what needs what: the head is recovered over sound parts.
func (r *repairer) run(ctx context.Context) error {
	if err := fsx.MakeDir(r.fs, r.layout.quarantine()); err != nil {
		return err
	}
	for _, kind := range []string{kindTombstones, kindDeletes} {
		for _, name := range r.damaged(kind) {
			if err := r.putAside(name, "it cannot be read"); err != nil {
				return err
			}
		}
	}
	for _, name := range r.damaged(kindPart) {
		if err := r.part(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range r.damaged(kindCheckpoint) {
		if err := r.putAside(name, "it cannot be read; an older one and the log hold what it held"); err != nil {
			return err
		}
	}
	return r.store(ctx)
}

// putAside moves a file to quarantine.
func (r *repairer) putAside(name, why string) error {
	if err := r.layout.moveToQuarantine(name, time.Now()); err != nil {
		return fmt.Errorf("move %s to quarantine: %w", name, err)
	}
	r.did("moved %s to quarantine: %s", r.short(name), why)
	return nil
}

// keepCopy copies a file to quarantine, as it is.
func (r *repairer) keepCopy(name string) error {
	to := path.Join(r.layout.quarantine(), time.Now().UTC().Format("20060102T150405Z")+"-"+path.Base(name))
	return readFile(r.fs, name, func(f *io.SectionReader) error {
		return fsx.Publish(r.fs, to, func(w io.Writer) error { return copyReadable(w, f) })
	})
}

// copyReadable copies what can be read of a file. What the disk does not give is zeros in the copy.
func copyReadable(w io.Writer, f *io.SectionReader) error {
	for off := int64(0); off < f.Size(); off += copyPiece {
		piece := make([]byte, min(copyPiece, f.Size()-off))
		if _, err := f.ReadAt(piece, off); err != nil && !errors.Is(err, io.EOF) && !damaged(err) {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// copyPiece is how much is read at once, and given up where the disk does not give some of it.
const copyPiece = 4 << 10

// part writes a part of the head anew with the rows that can be read, in place of the old one.
func (r *repairer) part(ctx context.Context, name string) error {
	p, err := block.OpenPart(r.fs, name, nil, block.Options{})
	var members block.Members
	if err == nil {
		defer func() { _ = p.Close() }() // it was only read
		members, err = p.Members()
		defer members.Free()
	}
	if err != nil {
		if !damaged(err) {
			return err
		}
		return r.putAside(name, "all of its samples are missing")
	}
	if err := r.keepCopy(name); err != nil {
		return err
	}
	lost := 0
	meta, err := block.WritePart(r.fs, name, p.Meta(), block.PartSource{Series: readableRows(ctx, p, members, &lost), Expect: len(members.Gen)})
	if errors.Is(err, block.ErrEmpty) {
		return r.putAside(name, "none of its samples can be read")
	}
	if err != nil {
		return err
	}
	r.did("wrote %s anew without what cannot be read of %d series: %d of %d samples are kept; the old file is in quarantine",
		r.short(name), lost, meta.Rows, p.Meta().Rows)
	return nil
}

// readableRows yields the rows of a part that can be read, and counts the series that miss some.
func readableRows(ctx context.Context, p *block.Part, members block.Members, lost *int) iter.Seq2[block.PartRows, error] {
	return func(yield func(block.PartRows, error) bool) {
		var rows column.Block
		rows.Want(column.Need{ST: true})
		reader := p.Reader()
		for i, gen := range members.Gen {
			if gen == 0 {
				continue
			}
			rows.Reset()
			rows.Want(column.Need{ST: true})
			err := reader.Read(ctx, uint32(i), math.MinInt64, math.MaxInt64, true, &rows)
			if err != nil && damaged(err) {
				*lost++
				err = nil
			}
			if err == nil && len(rows.T) == 0 {
				continue
			}
			if !yield(block.PartRows{Number: uint32(i), Gen: gen, Rows: &rows}, err) || err != nil {
				return
			}
		}
	}
}

// store opens the store, which puts aside what cannot be opened and ends the log, writes the damaged blocks anew, and
// closes the store with a checkpoint.
func (r *repairer) store(ctx context.Context) error {
	had, err := r.quarantined()
	if err != nil {
		return err
	}
	db := newDB(Options{Dir: r.dir, FS: r.fs, NoLock: true, MaxFuture: -1, Foreign: r.other, ForeignInPlace: true}.withDefaults())
	if err := db.openWhole(ctx); err != nil {
		return errors.Join(err, db.release())
	}
	err = r.blocks(ctx, db)
	if err == nil {
		if err = db.lastWords(); errors.Is(err, errNothingNew) {
			err = nil
		}
	}
	rec := db.recovery.Log
	if err := errors.Join(err, db.release()); err != nil {
		return err
	}
	now, err := r.quarantined()
	if err != nil {
		return err
	}
	for name := range now {
		if !had[name] && !strings.HasPrefix(name, r.short(r.layout.quarantine())+"/") {
			r.did("copied damaged bytes of the log to %s", name)
		}
	}
	if rec.LostRecords > 0 {
		r.did("wrote a checkpoint behind the damage of the log: %d records of it are lost", rec.LostRecords)
	}
	if rec.TornBytes > 0 {
		r.did("cut %d bytes off the end of the log, which were being written when it ended", rec.TornBytes)
	}
	return nil
}

// quarantined returns the files in quarantine.
func (r *repairer) quarantined() (map[string]bool, error) {
	out := map[string]bool{}
	for _, dir := range []string{r.layout.quarantine(), path.Join(r.layout.wal(), "quarantine")} {
		names, err := r.fs.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, n := range names {
			out[r.short(path.Join(dir, n))] = true
		}
	}
	return out, nil
}

// blocks writes the damaged blocks anew.
func (r *repairer) blocks(ctx context.Context, db *DB) error {
	for _, name := range r.damaged(kindBlock) {
		id := strings.TrimSuffix(path.Base(name), block.Suffix)
		if _, ok := db.blocks.find(id); !ok {
			r.did("moved %s to quarantine: all of its samples are missing", r.short(name))
			continue
		}
		if err := r.keepCopy(name); err != nil {
			return err
		}
		lost, err := db.rewriteReadable(ctx, id)
		if err != nil {
			return err
		}
		r.did("wrote %s anew without what cannot be read of %d series; the old file is in quarantine", r.short(name), lost)
	}
	return nil
}

// rewriteReadable replaces a block by one with what can be read of it, and returns how many series miss something.
func (db *DB) rewriteReadable(ctx context.Context, id string) (lost int, err error) {
	parents, final, err := db.holdParents([]string{id})
	if err != nil {
		return 0, err
	}
	defer releaseAll(parents)
	x := &mergeRun{db: db, parents: parents, final: final, start: time.Now(), lost: func(error) { lost++ }}
	defer x.end()
	err = x.write(ctx)
	if err == nil {
		err = x.publish(ctx)
	}
	if err != nil {
		return lost, fmt.Errorf("write block %s anew: %w", id, errors.Join(err, x.discard()))
	}
	return lost, nil
}

// find returns the block of this name.
func (s *blockSet) find(id string) (storedBlock, bool) {
	for _, b := range s.all() {
		if b.Meta().ULID == id {
			return b, true
		}
	}
	return storedBlock{}, false
}
