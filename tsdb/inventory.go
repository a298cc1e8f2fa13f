// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// StoredFile is a file of a store and what it says of itself. Times are Unix ms; what a kind of file does not say is 0.
type StoredFile struct {
	File       string `json:"file"` // from the data path on
	Kind       string `json:"kind"` // block, part, checkpoint, wal, quarantine
	Bytes      int64  `json:"bytes"`
	MinT       int64  `json:"minTime,omitempty"`
	MaxT       int64  `json:"maxTime,omitempty"`
	Series     uint64 `json:"series,omitempty"`
	Samples    uint64 `json:"samples,omitempty"`
	Level      int    `json:"level,omitempty"`
	Class      string `json:"class,omitempty"` // of retention
	Tombstones bool   `json:"tombstones,omitempty"`
	// Problem is why the file cannot be opened.
	Problem string `json:"problem,omitempty"`
}

// Inventory lists the files of a store, of blocks and parts what they say of themselves. It changes nothing, and may run
// beside the server that uses the store. It reads the index of one block at a time, and no samples.
func Inventory(fsys fsx.FS, dir string) ([]StoredFile, error) {
	l := layout{fs: fsys, root: path.Join(dir, "tidemark")}
	if _, err := fsys.Stat(l.root); err != nil {
		return nil, fmt.Errorf("%s holds no data of Tidemark: %w", dir, err)
	}
	var out []StoredFile
	for _, x := range []struct {
		dir, kind, suffix string
		read              func(fsx.FS, string, *StoredFile) error
	}{
		{l.blocks(), kindBlock, block.Suffix, describeBlock},
		{l.spill(), kindPart, block.PartSuffix, describePart},
		{l.checkpoints(), kindCheckpoint, checkpointSuffix, nil},
		{l.wal(), kindLog, ".seg", nil},
		{l.quarantine(), "quarantine", "", nil},
		{path.Join(l.wal(), "quarantine"), "quarantine", "", nil},
	} {
		names, err := fsys.List(x.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, n := range names {
			name := path.Join(x.dir, n)
			info, err := fsys.Stat(name)
			if errors.Is(err, fs.ErrNotExist) || err == nil && (info.Dir || !strings.HasSuffix(n, x.suffix)) {
				continue // a running server has removed it, or it is none of these
			}
			if err != nil {
				return nil, err
			}
			f := StoredFile{File: strings.TrimPrefix(name, path.Clean(dir)+"/"), Kind: x.kind, Bytes: info.Size}
			if x.read != nil {
				if err := x.read(fsys, name, &f); errors.Is(err, fs.ErrNotExist) {
					continue
				} else if err != nil {
					f.Problem = err.Error()
				}
			}
			out = append(out, f)
		}
	}
	return out, nil
}

func describeBlock(fsys fsx.FS, name string, f *StoredFile) error {
	b, err := block.Open(fsys, name, nil, block.Options{})
	if err != nil {
		return err
	}
	m := b.Meta()
	f.MinT, f.MaxT, f.Series, f.Samples, f.Level, f.Class = m.MinT, m.MaxT, m.Series, m.Floats+m.Histograms, m.Level, m.Class
	_, err = fsys.Stat(tombstonePath(name))
	f.Tombstones = err == nil
	return b.Close()
}

func describePart(fsys fsx.FS, name string, f *StoredFile) error {
	p, err := block.OpenPart(fsys, name, nil, block.Options{})
	if err != nil {
		return err
	}
	m := p.Meta()
	f.MinT, f.MaxT, f.Series, f.Samples = m.MinT, m.MaxT, m.Series, m.Rows
	return p.Close()
}
