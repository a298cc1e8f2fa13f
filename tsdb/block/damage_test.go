// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// crashContent is small, since each crash point tries many states, and has more than one stripe.
func crashContent() content {
	c := manyContent(6, 5)
	for i := range 2 {
		c.series[5].labels = labels.FromStrings("__name__", "n", "i", strings.Repeat("x", i))
	}
	return c
}

func TestCrashDuringWriteLeavesNothingOrAWholeBlock(t *testing.T) {
	c := crashContent()
	disk := fsx.NewCrashable()
	if err := fsx.MakeDir(disk, "blocks"); err != nil {
		t.Fatal(err)
	}
	faulty := fsx.NewFaulty(disk)
	var states []*fsx.Crashable
	crash := func() {
		for _, percent := range []int{0, 30, 70, 100} {
			for seed := range uint64(5) {
				states = append(states, disk.Crash(percent, seed))
			}
		}
	}
	faulty.Observe(func(op fsx.Op, _ string) {
		if op&fsx.OpChange != 0 {
			crash()
		}
	})
	if _, err := block.Write(faulty, "blocks", testMeta(), c.source()); err != nil {
		t.Fatal(err)
	}
	during := len(states)
	crash()
	whole := 0
	for i, fs := range states {
		names, err := fs.List("blocks")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(names, testID+block.Suffix) {
			if i >= during {
				t.Fatalf("state %d after Write has lost the block: %v", i, names)
			}
			continue
		}
		whole++
		checkContent(t, open(t, fs), c)
	}
	t.Logf("%d states, %d with the block", len(states), whole)
	if during < 100 || whole == len(states) {
		t.Errorf("%d states during the write, %d of %d whole: the test saw no crash", during, whole, len(states))
	}
}

func TestFailedOperationsDuringWriteLeaveNothing(t *testing.T) {
	c := crashContent()
	full := 0
	for after := 0; ; after++ {
		disk := fsx.NewCrashable()
		if err := fsx.MakeDir(disk, "blocks"); err != nil {
			t.Fatal(err)
		}
		faulty := fsx.NewFaulty(disk, fsx.Fault{Op: fsx.OpCreate | fsx.OpWrite | fsx.OpSync | fsx.OpRename | fsx.OpSyncDir, After: after, Times: 1, Err: syscall.ENOSPC, Short: 3})
		_, err := block.Write(faulty, "blocks", testMeta(), c.source())
		if err == nil {
			checkContent(t, open(t, disk), c)
			break
		}
		full++
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("operation %d: %v", after, err)
		}
		if names, err := disk.List("blocks"); err != nil || len(names) > 0 {
			t.Fatalf("operation %d left %v, %v", after, names, err)
		}
	}
	if full < 5 {
		t.Errorf("only %d operations failed", full)
	}
}

// What could not be published must not be there after a crash: what is deleted meanwhile is not deleted from it.
func TestWhatFailedToBePublishedDoesNotComeBack(t *testing.T) {
	check := func(name string, write func(fsx.FS) error) {
		t.Helper()
		disk := fsx.NewCrashable()
		if err := fsx.MakeDir(disk, "files"); err != nil {
			t.Fatal(err)
		}
		failed, found := false, false
		faulty := fsx.NewFaulty(disk, fsx.Fault{Op: fsx.OpSyncDir, Times: 1, Err: syscall.EIO})
		faulty.Observe(func(op fsx.Op, _ string) { failed = failed || op == fsx.OpSyncDir })
		if err := write(faulty); !errors.Is(err, syscall.EIO) || !failed {
			t.Fatalf("%s: error %v", name, err)
		}
		for seed := range uint64(20) {
			names, err := disk.Crash(50, seed).List("files")
			if err != nil {
				t.Fatal(err)
			}
			found = found || slices.Contains(names, name)
		}
		if found {
			t.Errorf("%s is there after a crash", name)
		}
	}
	check(testID+block.Suffix, func(fsys fsx.FS) error {
		_, err := block.Write(fsys, "files", testMeta(), crashContent().source())
		return err
	})
	check("x.part", func(fsys fsx.FS) error {
		var rows column.Block
		rows.AppendFloat(1000, 0, 1)
		_, err := block.WritePart(fsys, "files/x.part", block.PartMeta{Slot: 10_000}, block.PartSource{
			Series: func(yield func(block.PartRows, error) bool) {
				yield(block.PartRows{Number: 1, Gen: 1, Rows: &rows}, nil)
			},
		})
		return err
	})
}

func TestFullDiskDuringWriteLeavesNothing(t *testing.T) {
	disk := fsx.NewCrashable()
	if err := fsx.MakeDir(disk, "blocks"); err != nil {
		t.Fatal(err)
	}
	disk.SetFree(300_000)
	_, err := block.Write(disk, "blocks", testMeta(), manyContent(1500, 100).source())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if names, err := disk.List("blocks"); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
}

// rawBlock returns the bytes of a block file.
func rawBlock(t testing.TB, c content) []byte {
	t.Helper()
	fs := fsx.NewCrashable()
	write(t, fs, c)
	raw, err := fsx.ReadFile(fs, block.Path("blocks", testID))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// place puts a file of these bytes where the test block belongs.
func place(t testing.TB, fs fsx.FS, raw []byte) {
	t.Helper()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(block.Path("blocks", testID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// soundOrRefused asserts that every answer of a damaged file is an error or the right one.
func soundOrRefused(t *testing.T, fs fsx.FS, c content, what string) (refusedAtOpen bool) {
	t.Helper()
	b, err := block.Open(fs, block.Path("blocks", testID), nil, block.Options{})
	var corrupt *block.CorruptError
	if err != nil {
		if !errors.As(err, &corrupt) {
			t.Fatalf("%s: error %v", what, err)
		}
		return true
	}
	defer b.Close()
	if b.Index().N() != len(c.series) {
		t.Fatalf("%s: %d series", what, b.Index().N())
	}
	if err := b.Verify(t.Context()); !errors.As(err, &corrupt) {
		t.Fatalf("%s: Verify answered %v", what, err)
	}
	lb := labels.NewScratchBuilder(4)
	for i, s := range c.series {
		id := uint32(i)
		if got := b.Index().Labels(id, &lb); !labels.Equal(got, s.labels) {
			t.Fatalf("%s: series %d is %s", what, id, got)
		}
		got, err := rowsOf(b, id, allMin, allMax, true)
		if err != nil && (!errors.As(err, &corrupt) || !partOf(got, s.rows)) {
			t.Fatalf("%s: error %v with rows %v", what, err, got)
		}
		if diff := sameRows(got, s.rows); err == nil && diff != "" {
			t.Fatalf("%s: series %d:\n%s", what, id, diff)
		}
		es, err := b.Exemplars(t.Context(), id, allMin, allMax)
		if diff := cmp.Diff(s.exemplars, es, cmpopts.EquateEmpty(), cmp.Comparer(labels.Equal)); err == nil && diff != "" {
			t.Fatalf("%s: exemplars of %d:\n%s", what, id, diff)
		}
	}
	if diff := differsInMetadata(b, c); b.Damage() == nil && diff != "" {
		t.Fatalf("%s: metadata:\n%s", what, diff)
	}
	return false
}

// partOf tells whether all rows of got are rows of all, in their order. Perhaps none is missing: whether a series has rows
// in a damaged stripe is not known.
func partOf(got, all []row) bool {
	for _, r := range all {
		if len(got) > 0 && sameRow(got[0], r) {
			got = got[1:]
		}
	}
	return len(got) == 0
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	c := fullContent()
	check := func(version string, raw []byte) {
		fs := fsx.NewCrashable()
		place(t, fs, raw)
		f, err := fs.OpenReadWrite(block.Path("blocks", testID))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		opened := 0
		for i := range raw {
			for bit := range 8 {
				if _, err := f.WriteAt([]byte{raw[i] ^ 1<<bit}, int64(i)); err != nil {
					t.Fatal(err)
				}
				if !soundOrRefused(t, fs, c, fmt.Sprintf("%s: byte %d bit %d", version, i, bit)) {
					opened++
				}
			}
			if _, err := f.WriteAt(raw[i:i+1], int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: %d bits; %d of the damaged files opened with a part unreadable", version, 8*len(raw), opened)
		if opened == 0 {
			t.Errorf("%s: damage in a stripe keeps the rest of the block from being read", version)
		}
	}
	check("as written", rawBlock(t, c))
	first, err := os.ReadFile(block.Path("testdata/blocks/v1", testID))
	if err != nil {
		t.Fatal(err)
	}
	check("version 1", first)
}

func TestEveryTruncationIsRefused(t *testing.T) {
	c := fullContent()
	raw := rawBlock(t, c)
	for n := range raw {
		fs := fsx.NewCrashable()
		place(t, fs, raw[:n])
		if !soundOrRefused(t, fs, c, fmt.Sprintf("%d bytes", n)) {
			t.Fatalf("opened with %d of %d bytes", n, len(raw))
		}
	}
	fs := fsx.NewCrashable()
	place(t, fs, append(slices.Clone(raw), 0))
	if !soundOrRefused(t, fs, c, "one byte more") {
		t.Error("opened with a byte more")
	}
}

func TestDamagedStripeFailsOnlyItsOwnSeries(t *testing.T) {
	c := manyContent(600, 100)
	raw := rawBlock(t, c)
	raw[100] ^= 1
	fs := fsx.NewCrashable()
	place(t, fs, raw)
	b := open(t, fs)
	failed := 0
	for i, s := range c.series {
		got, err := rowsOf(b, uint32(i), allMin, allMax, false)
		if corrupt, ok := errors.AsType[*block.CorruptError](err); ok {
			failed++
			if corrupt.File != b.Name() || corrupt.Off != 16 || i > 300 {
				t.Fatalf("series %d: %v", i, err)
			}
			continue
		}
		if diff := sameRows(got, s.rows); err != nil || diff != "" {
			t.Fatalf("series %d: %v\n%s", i, err, diff)
		}
	}
	if failed == 0 {
		t.Error("no series failed")
	}
}

func TestBlockUnderAnotherNameIsRefused(t *testing.T) {
	fs := fsx.NewCrashable()
	write(t, fs, fullContent())
	other := block.Path("blocks", "01JD0000000000000000000002")
	if err := fs.Rename(block.Path("blocks", testID), other); err != nil {
		t.Fatal(err)
	}
	var corrupt *block.CorruptError
	if _, err := block.Open(fs, other, nil, block.Options{}); !errors.As(err, &corrupt) {
		t.Errorf("error %v", err)
	}
}

func TestReadErrorIsNoDamage(t *testing.T) {
	disk := fsx.NewCrashable()
	c := fullContent()
	write(t, disk, c)
	faulty := fsx.NewFaulty(disk)
	b := open(t, faulty)
	faulty.Inject(fsx.Fault{Op: fsx.OpRead, Times: 1, Err: syscall.EIO})
	var corrupt *block.CorruptError
	if _, err := rowsOf(b, 0, allMin, allMax, false); !errors.Is(err, syscall.EIO) || errors.As(err, &corrupt) {
		t.Errorf("error %v", err)
	}
	checkContent(t, b, c)
	faulty.Inject(fsx.Fault{Op: fsx.OpRead, Times: 1, Err: syscall.EIO})
	if _, err := block.Open(faulty, b.Name(), nil, block.Options{}); !errors.Is(err, syscall.EIO) || errors.As(err, &corrupt) {
		t.Errorf("error of Open: %v", err)
	}
}
