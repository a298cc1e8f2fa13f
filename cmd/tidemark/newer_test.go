// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestServerDoesNotTouchDataOfANewerVersion starts a server on a store one block of which has a version that is to come.
func TestServerDoesNotTouchDataOfANewerVersion(t *testing.T) {
	s := newInstance(t, "")
	data := s.file("data")
	if err := os.CopyFS(data, os.DirFS("../../tsdb/testdata/stores/2")); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(data, "tidemark/blocks/*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%v: %v", blocks, err)
	}
	p, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	trailer := p[len(p)-44:] // docs/format-block.md
	binary.LittleEndian.PutUint16(trailer[8:], 9)
	binary.LittleEndian.PutUint32(trailer[32:], crc32.Checksum(trailer[:32], crc32.MakeTable(crc32.Castagnoli)))
	for name, text := range map[string][]byte{blocks[0]: p, filepath.Join(data, "tidemark/blocks/x.blk.tmp"): []byte("unfinished")} {
		if err := os.WriteFile(name, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	before := dataFiles(t, data)
	endsWith(t, s, exitConfig, filepath.Base(blocks[0]), "block format 9, this version reads up to 2", "start Tidemark .* or later", "nothing was changed")
	after := dataFiles(t, data)
	delete(after, "lock")
	if !maps.Equal(before, after) {
		t.Errorf("the data has changed: %d files, now %d", len(before), len(after))
	}
}

// dataFiles returns all files below a directory.
func dataFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		p, err := os.ReadFile(name)
		short, _ := filepath.Rel(dir, name)
		files[short] = string(p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
