// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// writeFile replaces a file of a test's disk.
func writeFile(t testing.TB, fsys fsx.FS, name string, p []byte) {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(p, 0)
	if err := errors.Join(err, f.SyncData(), f.Close(), fsys.SyncDir(path.Dir(name))); err != nil {
		t.Fatal(err)
	}
}

// littered puts into a store what a start removes, or moves to quarantine: unfinished files everywhere, tombstones
// without their block, and a damaged block.
func littered(t *testing.T) *fsx.Crashable {
	t.Helper()
	disk, _ := everyKind(t)
	for _, name := range []string{"x.tmp", "blocks/x.blk.tmp", "checkpoint/x.ckpt.tmp", "spill/x.part.tmp", "merging/x.blk", "blocks/y.del", "blocks/z.blk"} {
		writeFile(t, disk, path.Join(testDir, "tidemark", name), []byte("litter"))
	}
	writeFile(t, disk, path.Join(testDir, "lock"), nil)
	return disk
}

// refused checks that nothing opens, repairs, or otherwise changes a store one file of which has another version now, and
// that the messages say which and what to do.
func refused(t *testing.T, suffix, kind, version string, change func(p []byte) []byte) {
	t.Helper()
	disk := littered(t)
	files := tree(t, disk, testDir)
	maps.DeleteFunc(files, func(_, p string) bool { return p == "litter" })
	name := oneOf(t, files, suffix, true)
	writeFile(t, disk, name, change([]byte(files[name])))
	before := tree(t, disk, testDir)
	faulty := fsx.NewFaulty(disk)
	faulty.Observe(func(op fsx.Op, on string) {
		if op&fsx.OpChange != 0 && (op != fsx.OpMkdir || on != testDir) {
			t.Errorf("operation %b on %s", op, on)
		}
	})
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		for _, part := range []string{path.Base(name), version, "start ", "nothing was changed"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", what, err, part)
			}
		}
	}
	db, err := Open(t.Context(), small(faulty))
	if err == nil {
		_ = db.Close() // the test has failed
	}
	check("open", err)
	if newer, ok := errors.AsType[*NewerFormatError](err); !ok || newer.File != name || newer.Kind != kind {
		t.Errorf("open: %v, want a NewerFormatError of %s", err, name)
	}
	report, err := Verify(t.Context(), VerifyOptions{Dir: testDir, FS: faulty})
	if err != nil || len(report.Findings) != 1 || !report.Findings[0].Newer || path.Join(testDir, report.Findings[0].File) != name {
		t.Errorf("verify: %v, %+v", err, report)
	}
	_, err = Repair(t.Context(), RepairOptions{Dir: testDir, FS: faulty})
	check("repair", err)
	if !maps.Equal(before, tree(t, disk, testDir)) {
		t.Error("the directory has changed")
	}
}

// putVersion changes a number of two bytes at off of a trailer, as docs/format-block.md draws it.
func putVersion(off int, v uint16) func([]byte) []byte {
	return func(p []byte) []byte {
		trailer := p[len(p)-44:]
		binary.LittleEndian.PutUint16(trailer[off:], v)
		binary.LittleEndian.PutUint32(trailer[32:], crc32.Checksum(trailer[:32], castagnoli))
		return p
	}
}

// putFeature sets a bit of the mandatory features of a block or a part.
func putFeature(p []byte) []byte {
	trailer := p[len(p)-44:]
	size := int(binary.LittleEndian.Uint32(trailer))
	footer := p[len(p)-44-size : len(p)-44]
	footer[5] |= 1
	binary.LittleEndian.PutUint32(trailer[4:], crc32.Checksum(footer, castagnoli))
	binary.LittleEndian.PutUint32(trailer[32:], crc32.Checksum(trailer[:32], castagnoli))
	return p
}

// sealMagic changes the version behind a magic, with the checksum that versions to come have.
func sealMagic(version byte) func([]byte) []byte {
	return func(p []byte) []byte {
		p[4] = version
		binary.BigEndian.PutUint32(p[5:], crc32.Update(crc32.Checksum(p[:5], castagnoli), castagnoli, p[9:]))
		return p
	}
}

func TestAStoreOfANewerFormatIsNotChanged(t *testing.T) {
	refused(t, "/store.json", kindStore, "format 99", func([]byte) []byte {
		return []byte(`{"format":99,"shards":4,"slot_ms":60000}`)
	})
}

func TestAStoreWithANewerBlockIsNotChanged(t *testing.T) {
	refused(t, block.Suffix, kindBlock, "format 77", putVersion(8, 77))
}

func TestAStoreWithANewerFeatureOfABlockIsNotChanged(t *testing.T) {
	refused(t, block.Suffix, kindBlock, "feature 0x10000000000", putFeature)
}

func TestAStoreWithANewerPartIsNotChanged(t *testing.T) {
	refused(t, block.PartSuffix, kindPart, "format 77", putVersion(8, 77))
}

func TestAStoreWithANewerFeatureOfAPartIsNotChanged(t *testing.T) {
	refused(t, block.PartSuffix, kindPart, "feature 0x10000000000", putFeature)
}

func TestAStoreWithANewerCheckpointIsNotChanged(t *testing.T) {
	refused(t, checkpointSuffix, kindCheckpoint, "format 77", func(p []byte) []byte {
		size := 8 + binary.LittleEndian.Uint32(p)
		p[9] = 77
		sum := crc32.Checksum(p[:4], castagnoli)
		binary.LittleEndian.PutUint32(p[4:], crc32.Update(sum, castagnoli, p[8:size]))
		return p
	})
}

func TestAStoreWithANewerLogSegmentIsNotChanged(t *testing.T) {
	refused(t, ".seg", kindLog, "format 77", func(p []byte) []byte {
		for _, at := range []int{0, 512} {
			binary.LittleEndian.PutUint32(p[at+8:], 77)
			binary.LittleEndian.PutUint32(p[at+60:], crc32.Checksum(p[at:at+60], castagnoli))
		}
		return p
	})
}

func TestAStoreWithNewerTombstonesIsNotChanged(t *testing.T) {
	refused(t, tombstoneSuffix, kindTombstones, "format 77", sealMagic(77))
}

func TestAStoreWithANewerListOfDeletesIsNotChanged(t *testing.T) {
	refused(t, "/deletes", kindDeletes, "format 77", sealMagic(77))
}

// TestAFlippedVersionIsDamageAndNotANewerVersion has files whose checksum does not cover their version, or whose version
// alone has changed: they go to quarantine, and the store starts without them.
func TestAFlippedVersionIsDamageAndNotANewerVersion(t *testing.T) {
	check := func(suffix string, off func(size int) int) {
		t.Helper()
		disk, _ := everyKind(t)
		files := tree(t, disk, testDir)
		name := oneOf(t, files, suffix, true)
		p := []byte(files[name])
		p[off(len(p))] += 4
		writeFile(t, disk, name, p)
		openTest(t, small(disk))
		names, err := disk.List(path.Join(testDir, "tidemark", "quarantine"))
		if err != nil || len(names) != 1 || !strings.HasSuffix(names[0], path.Base(name)) {
			t.Errorf("%s: in quarantine are %v, error %v", name, names, err)
		}
		if bytes.Equal(p, []byte(files[name])) {
			t.Error("nothing was flipped")
		}
	}
	at := func(n int) func(int) int { return func(int) int { return n } }
	check(block.Suffix, func(size int) int { return size - 36 })
	check(block.PartSuffix, func(size int) int { return size - 36 })
	check(checkpointSuffix, at(9))
	check(tombstoneSuffix, at(4))
	check("/deletes", at(4))
}
