// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// NewerFormatError says that a file of a store was written by a newer version. Nothing of the store was touched.
type NewerFormatError struct {
	File string
	Kind string // as that of a Finding
	// Err says which version the file has, and what to do.
	Err error
}

// Error names the file.
func (e *NewerFormatError) Error() string {
	text := e.Err.Error()
	if !strings.HasPrefix(text, e.File) {
		text = e.File + ": " + text
	}
	return text + ", or restore a backup of before; nothing was changed"
}

// Unwrap returns what a package said about its file.
func (e *NewerFormatError) Unwrap() error { return e.Err }

// refuseNewer returns a *NewerFormatError where a newer version wrote a file of the store. It changes nothing and comes
// before all that does: a start removes what an interrupted write left, and moves what it cannot read.
func (l layout) refuseNewer() error {
	newer, err := l.newerFiles()
	if err != nil || len(newer) == 0 {
		return err
	}
	return newer[0]
}

// newerFiles returns the files of the store that a newer version wrote. A file that is damaged is none of them: whether
// it is newer cannot be told.
func (l layout) newerFiles() ([]*NewerFormatError, error) {
	var out []*NewerFormatError
	note := func(name, kind string, err error) {
		if err != nil {
			out = append(out, &NewerFormatError{File: name, Kind: kind, Err: err})
		}
	}
	meta := l.path("store.json")
	if _, err := l.readMeta(meta); errorIs[*storeFormatError](err) {
		note(meta, kindStore, err)
	}
	for _, dir := range []struct {
		path, suffix, kind string
		check              func(name string) error
	}{
		{l.blocks(), block.Suffix, kindBlock, func(name string) error { return block.CheckVersion(l.fs, name) }},
		{l.blocks(), tombstoneSuffix, kindTombstones, l.checkTombstones},
		{l.foreign(), tombstoneSuffix, kindTombstones, l.checkTombstones},
		{l.spill(), block.PartSuffix, kindPart, func(name string) error { return block.CheckVersion(l.fs, name) }},
		{l.checkpoints(), checkpointSuffix, kindCheckpoint, l.checkCheckpoint},
	} {
		names, err := l.fs.List(dir.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for files of a newer version: %w", err)
		}
		for _, n := range names {
			if name := path.Join(dir.path, n); strings.HasSuffix(n, dir.suffix) {
				note(name, dir.kind, dir.check(name))
			}
		}
	}
	note(l.deletes(), kindDeletes, l.checkMagic(l.deletes(), deletesMagic, "list of deletes"))
	err := journal.CheckVersion(l.fs, l.wal())
	newer, ok := errors.AsType[*journal.VersionError](err)
	if ok {
		note(newer.File, kindLog, newer)
		err = nil
	}
	return out, err
}

func (l layout) checkCheckpoint(name string) error {
	f, err := l.fs.Open(name)
	if err != nil {
		return nil // whoever reads it will say so
	}
	defer func() { _ = f.Close() }() // it was only read
	size, err := f.Size()
	if err != nil {
		return nil
	}
	return head.CheckVersion(bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 512))
}

func (l layout) checkTombstones(name string) error {
	return l.checkMagic(name, tombstoneMagic, "tombstone")
}

// checkMagic tells whether a file begins as magic does, but with a higher version in its last byte. Only a file whose
// checksum covers that byte too is newer, else the byte is damaged: in all versions to come the checksum, which stands
// behind the magic, is over all of the file but itself.
func (l layout) checkMagic(name, magic, what string) error {
	f, err := l.fs.Open(name)
	if err != nil {
		return nil // it is not there, or whoever reads it will say so
	}
	defer func() { _ = f.Close() }() // it was only read
	lead, last := make([]byte, len(magic)+4), len(magic)-1
	if _, err := f.ReadAt(lead, 0); err != nil && !errors.Is(err, io.EOF) ||
		string(lead[:last]) != magic[:last] || lead[last] <= magic[last] {
		return nil
	}
	p, err := fsx.ReadFile(l.fs, name)
	if err != nil || len(p) < len(lead) {
		return nil
	}
	sum := crc32.Update(crc32.Checksum(p[:len(magic)], castagnoli), castagnoli, p[len(lead):])
	if sum != binary.BigEndian.Uint32(lead[len(magic):]) {
		return nil
	}
	return fmt.Errorf("%s format %d, this version reads up to %d: start the version that wrote it", what, lead[last], magic[last])
}
