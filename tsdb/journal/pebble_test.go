// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// pebbleFS is Pebble's crashable file system behind our interface: a second opinion on what a crash may leave,
// by people who did not write ours.
type pebbleFS struct{ *vfs.MemFS }

type pebbleFile struct{ vfs.File }

func (p pebbleFS) wrap(f vfs.File, err error) (fsx.File, error) {
	if err != nil {
		return nil, err
	}
	return pebbleFile{f}, nil
}

func (p pebbleFS) Create(name string) (fsx.File, error) {
	return p.wrap(p.MemFS.Create(name, vfs.WriteCategoryUnspecified))
}

func (p pebbleFS) Open(name string) (fsx.File, error) { return p.wrap(p.MemFS.Open(name)) }

func (p pebbleFS) OpenReadWrite(name string) (fsx.File, error) {
	if _, err := p.MemFS.Stat(name); err != nil {
		return nil, err
	}
	return p.wrap(p.MemFS.OpenReadWrite(name, vfs.WriteCategoryUnspecified))
}

func (p pebbleFS) MkdirAll(dir string) error { return p.MemFS.MkdirAll(dir, 0o755) }

func (p pebbleFS) List(dir string) ([]string, error) {
	names, err := p.MemFS.List(dir)
	slices.Sort(names)
	return names, err
}

func (p pebbleFS) Stat(name string) (fsx.Info, error) {
	st, err := p.MemFS.Stat(name)
	if err != nil {
		return fsx.Info{}, err
	}
	return fsx.Info{Size: st.Size(), Dir: st.IsDir()}, nil
}

func (p pebbleFS) SyncDir(dir string) error {
	d, err := p.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (p pebbleFS) Lock(name string) (io.Closer, error) { return p.MemFS.Lock(name) }

func (p pebbleFS) Usage(string) (free, total uint64, err error) { return 1 << 40, 1 << 40, nil }

func (f pebbleFile) Preallocate(size int64) error {
	have, err := f.Size()
	if err != nil || have >= size {
		return err
	}
	_, err = f.WriteAt(make([]byte, size-have), have)
	return err
}

// Truncate is what Pebble's file system lacks. The journal cuts only zeros off.
func (f pebbleFile) Truncate(int64) error { return nil }

func (f pebbleFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// TestCrashOnPebblesFileSystem repeats the crash test on the other model, with the floor that makes segments be
// used again.
func TestCrashOnPebblesFileSystem(t *testing.T) {
	seed := seedOf(t)
	tr := &trial{options: small(nil), size: 3000, floor: true, sent: map[sample.LSN][]string{}}
	type pebbleState struct {
		fs    *vfs.MemFS
		acked sample.LSN
	}
	base := vfs.NewCrashableMem()
	for tr.run = range 3 {
		faulty := fsx.NewFaulty(pebbleFS{base})
		rng := rand.New(rand.NewPCG(seed, uint64(tr.run)))
		var states []pebbleState
		faulty.Observe(func(op fsx.Op, _ string) {
			if op&fsx.OpChange == 0 {
				return
			}
			tr.mu.Lock()
			defer tr.mu.Unlock()
			for _, percent := range []int{0, 50, 100} {
				cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}
				states = append(states, pebbleState{base.CrashClone(cfg), tr.acked})
			}
		})
		j := tr.open(t, faulty)
		tr.work(t, j, rand.New(rand.NewPCG(seed, uint64(tr.run))))
		ok(t, j.Close())
		for i, s := range states {
			from := tr.from(s.acked)
			j := tr.open(t, pebbleFS{s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})})
			got, rec := replay(t, j, from)
			ok(t, j.Close())
			next := from
			for _, e := range got {
				if e.lsn != next || !slices.Contains(tr.sent[e.lsn], e.data) {
					t.Fatalf("run %d, state %d: record %d, want %d: %.40q", tr.run, i, e.lsn, next, e.data)
				}
				next++
			}
			if next <= s.acked || rec.LostRecords > 0 || len(rec.Corrupt) > 0 {
				t.Fatalf("run %d, state %d: recovered up to %d of %d: %+v", tr.run, i, next-1, s.acked, rec)
			}
		}
		s := states[len(states)*2/3]
		base, tr.acked = s.fs, s.acked
	}
}

var _ fsx.FS = pebbleFS{}
