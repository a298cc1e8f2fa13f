// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// scrubbed is what a block and a part have in common.
type scrubbed interface {
	Scrub(ctx context.Context, c Check) error
	Recheck(off int64) error
	Span(off int64) (first, last int64)
}

// checkScrub changes each byte of an open file in turn: a scrub finds it and says where, and of which times; and when the
// byte is right again there is nothing to find.
func checkScrub(t *testing.T, fsys *fsx.Faulty, name string, size int64, x scrubbed) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := int64(0)
	scrub := func() (found []Damage) {
		t.Helper()
		read = 0
		err := x.Scrub(t.Context(), Check{
			Before: func(_ context.Context, n int64) error { read += n; return nil },
			Found:  func(d Damage) { found = append(found, d) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	flip := func(at int64) {
		t.Helper()
		b := []byte{0}
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << (at % 8)
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	if found := scrub(); len(found) > 0 || read < size-1000 {
		t.Errorf("in a sound file of %d bytes %v was found, %d bytes read", size, found, read)
	}
	for at := range size {
		flip(at)
		found := scrub()
		if len(found) != 1 || x.Recheck(found[0].Off) == nil {
			t.Fatalf("byte %d of %d: found %v", at, size, found)
		}
		if first, last := x.Span(at); first != found[0].MinT || last != found[0].MaxT || first > last {
			t.Errorf("byte %d: times %d to %d, found was %+v", at, first, last, found[0])
		}
		flip(at)
		if err := x.Recheck(found[0].Off); err != nil {
			t.Errorf("byte %d is right again: %v", at, err)
		}
	}
	fsys.Inject(fsx.Fault{Op: fsx.OpRead, After: 1, Times: 1, Err: syscall.EIO})
	if found := scrub(); len(found) != 1 || !errors.Is(found[0].Err, syscall.EIO) {
		t.Errorf("a sector that the disk does not give: found %v", found)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Scrub(ended, Check{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a scrub whose context ended: %v", err)
	}
}

func TestScrubFindsEveryChangedByteOfABlock(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "blocks", "v*", "*"+Suffix))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fsys := fsx.NewFaulty(fsx.NewCrashable())
		f, err := fsys.Create(filepath.Base(file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(raw, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		b, err := Open(fsys, filepath.Base(file), nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkScrub(t, fsys, b.Name(), b.Size(), b)
		b.Close()
	}
}

func TestScrubFindsEveryChangedByteOfAPart(t *testing.T) {
	disk := fsx.NewCrashable()
	newTestPart(rand.New(rand.NewPCG(5, 6)), 30).write(t, disk)
	fsys := fsx.NewFaulty(disk)
	p, err := OpenPart(fsys, partName, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkScrub(t, fsys, p.Name(), p.Size(), p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Scrub(t.Context(), Check{Found: func(d Damage) { t.Errorf("in a closed part %v was found", d) }}); err != nil {
		t.Error(err)
	}
}
