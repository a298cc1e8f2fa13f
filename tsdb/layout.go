// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// storeFormat is the newest format of the directory that this program reads and writes.
const storeFormat = 1

// layout is the directory of a store.
type layout struct {
	fs   fsx.FS
	root string // <Dir>/tidemark
}

func (l layout) path(parts ...string) string { return path.Join(append([]string{l.root}, parts...)...) }

func (l layout) blocks() string      { return l.path("blocks") }
func (l layout) wal() string         { return l.path("wal") }
func (l layout) checkpoints() string { return l.path("checkpoint") }
func (l layout) quarantine() string  { return l.path("quarantine") }
func (l layout) spill() string       { return l.path("spill") }

// merging is where merges write blocks until they are complete.
func (l layout) merging() string { return l.path("merging") }

// readFile calls f with all of a file.
func readFile(fs fsx.FS, name string, f func(*io.SectionReader) error) error {
	file, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	size, err := file.Size()
	if err != nil {
		return err
	}
	return f(io.NewSectionReader(file, 0, size))
}

// storeMeta is what is fixed for the life of a store; store.json.
type storeMeta struct {
	Format     int   `json:"format"`
	Shards     int   `json:"shards"`
	SlotMillis int64 `json:"slot_ms"`
}

// storeFormatError says that a directory was written by a newer version.
type storeFormatError struct {
	name   string
	format int
}

// Error says what to do.
func (e *storeFormatError) Error() string {
	return fmt.Sprintf("%s: store format %d, this version reads up to %d: start the version that wrote it", e.name, e.format, storeFormat)
}

// create makes the directories and the meta file where they are missing, and returns the meta in force.
func (l layout) create(o Options) (storeMeta, error) {
	if err := l.refuseNewer(); err != nil {
		return storeMeta{}, err
	}
	name := l.path("store.json")
	m, err := l.readMeta(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storeMeta{}, err
	}
	there := err == nil
	for _, dir := range []string{l.root, l.blocks(), l.wal(), l.checkpoints(), l.spill(), l.quarantine(), l.merging()} {
		if err := l.fs.MkdirAll(dir); err != nil {
			return storeMeta{}, fmt.Errorf("make the store's directory: %w", err)
		}
	}
	if err := l.fs.SyncDir(l.root); err != nil {
		return storeMeta{}, fmt.Errorf("sync the store's directory: %w", err)
	}
	if err := l.fs.SyncDir(o.Dir); err != nil {
		return storeMeta{}, fmt.Errorf("sync the data path: %w", err)
	}
	for dir := path.Dir(o.Dir); ; dir = path.Dir(dir) {
		// Parents may have been made by us too. One that may not be read is none of ours.
		if err := l.fs.SyncDir(dir); err != nil || dir == path.Dir(dir) {
			break
		}
	}
	if there {
		return m, nil
	}
	m = storeMeta{Format: storeFormat, Shards: o.Shards, SlotMillis: o.Slot.Milliseconds()}
	return m, fsx.Publish(l.fs, name, func(w io.Writer) error { return json.NewEncoder(w).Encode(m) })
}

// readMeta reads the meta file.
func (l layout) readMeta(name string) (storeMeta, error) {
	text, err := fsx.ReadFile(l.fs, name)
	if err != nil {
		return storeMeta{}, err
	}
	var m storeMeta
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s: %w: restore the file from a backup; it holds %q", name, err, `{"format":1,"shards":16,"slot_ms":7200000}`)
	}
	if m.Format > storeFormat {
		return m, &storeFormatError{name: name, format: m.Format}
	}
	if m.Format < 1 || m.Shards < 1 || m.Shards > 1<<12 || m.Shards&(m.Shards-1) != 0 || m.SlotMillis < 1 {
		return m, fmt.Errorf("%s: format %d, %d shards, slot of %d ms: not the meta of a store", name, m.Format, m.Shards, m.SlotMillis)
	}
	return m, nil
}

// removeTemp deletes what an interrupted publication left behind.
func (l layout) removeTemp() error {
	var errs []error
	for _, dir := range []string{l.root, l.blocks(), l.checkpoints(), l.spill()} {
		errs = append(errs, fsx.RemoveTemp(l.fs, dir))
	}
	return errors.Join(append(errs, l.clearMerging())...)
}

// moveToQuarantine takes an unreadable file out of the way, where an operator finds it.
func (l layout) moveToQuarantine(name string, now time.Time) error {
	to := path.Join(l.quarantine(), now.UTC().Format("20060102T150405Z")+"-"+path.Base(name))
	if err := l.fs.Rename(name, to); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.quarantine()); err != nil {
		return err
	}
	return l.fs.SyncDir(path.Dir(name))
}
