// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"fmt"
	"path"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestSyncLiesBetweenTheLastByteAndTheAcknowledgement traces the calls that reach the operating system.
func TestSyncLiesBetweenTheLastByteAndTheAcknowledgement(t *testing.T) {
	root := t.TempDir()
	faulty := fsx.NewFaulty(fsx.OS())
	var mu sync.Mutex
	var trace []string
	add := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		trace = append(trace, what)
	}
	faulty.Observe(func(op fsx.Op, name string) {
		verb := map[fsx.Op]string{fsx.OpWrite: "write ", fsx.OpSync: "sync ", fsx.OpSyncDir: "syncdir "}[op]
		if verb != "" {
			add(verb + path.Base(name))
		}
	})
	j, err := journal.Open(journal.Options{FS: faulty, Dir: path.Join(root, "wal"), SegmentBytes: 64 << 10})
	ok(t, err)
	for i := range 200 {
		lsn, err := j.Append(kind, payload(1, j.Last()+1, 1000))
		ok(t, err)
		ok(t, j.Durable(t.Context(), lsn))
		add(fmt.Sprintf("acknowledged %d", i))
	}
	ok(t, j.Close())
	unsynced := map[string]bool{}
	acknowledged := 0
	for i, what := range trace {
		var verb, name string
		_, err := fmt.Sscan(what, &verb, &name)
		ok(t, err)
		switch verb {
		case "write":
			unsynced[name] = true
		case "sync":
			delete(unsynced, name)
		case "acknowledged":
			acknowledged++
			if len(unsynced) > 0 {
				t.Fatalf("acknowledged with %v unsynced: %q", unsynced, trace[max(0, i-6):i+1])
			}
		}
	}
	first := slices.Index(trace, "acknowledged 0")
	if i := slices.Index(trace, "syncdir wal"); acknowledged != 200 || i < 0 || i > first {
		t.Errorf("%d acknowledged; the directory was synced at %d, the first acknowledgement came at %d", acknowledged, i, first)
	}
}

func TestOperatingSystemRoundTrip(t *testing.T) {
	o := journal.Options{Dir: path.Join(t.TempDir(), "a", "wal"), SegmentBytes: 64 << 10}
	n := 0
	for range 3 {
		j, err := journal.Open(o)
		ok(t, err)
		got, rec := replay(t, j, 0)
		if len(got) != n || len(rec.Corrupt) > 0 || rec.LostRecords > 0 {
			t.Fatalf("%d records, want %d: %+v", len(got), n, rec)
		}
		f := j.NewFloor("test", 1)
		for range 500 {
			appendOne(t, j, 1, 500)
			n++
		}
		f.Set(1)
		ok(t, j.Close())
	}
}

// noDisk makes writes and syncs free, so that a benchmark sees the journal alone.
type noDisk struct{ fsx.FS }

type noFile struct{ fsx.File }

func (d noDisk) Create(name string) (fsx.File, error) {
	f, err := d.FS.Create(name)
	return noFile{f}, err
}

func (d noDisk) OpenReadWrite(name string) (fsx.File, error) {
	f, err := d.FS.OpenReadWrite(name)
	return noFile{f}, err
}

func (noFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (noFile) SyncData() error                        { return nil }
func (noFile) Preallocate(int64) error                { return nil }

// BenchmarkAppend is the cost under the caller's lock.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 20_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			j, err := journal.Open(journal.Options{FS: noDisk{fsx.NewCrashable()}, Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			f := j.NewFloor("bench", 1)
			p := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := j.Admit(b.Context(), size); err != nil {
					b.Fatal(err)
				}
				lsn, err := j.Append(kind, p)
				if err != nil {
					b.Fatal(err)
				}
				if lsn%64 == 0 { // As much as comes together while a disk syncs.
					b.StopTimer()
					if err := j.Durable(b.Context(), lsn); err != nil {
						b.Fatal(err)
					}
					f.Set(lsn)
					b.StartTimer()
				}
			}
			b.StopTimer()
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkDurable(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			j, err := journal.Open(journal.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			p := make([]byte, 10_000)
			b.SetParallelism(max(writers/2, 1))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					lsn, err := j.Append(kind, p)
					if err == nil {
						err = j.Durable(b.Context(), lsn)
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(j.Stats().Syncs)/float64(b.N), "syncs/op")
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	j, err := journal.Open(journal.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	const records = 10_000
	p := make([]byte, 5_000)
	for range records {
		if _, err := j.Append(kind, p); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Durable(b.Context(), j.Last()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(records * int64(len(p)))
	for b.Loop() {
		rec, err := j.Replay(0, func(_ sample.LSN, _ byte, _ []byte) error { return nil })
		if err != nil || rec.Records != records {
			b.Fatal(rec, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen opens a log whose last segment is full and was not closed, as after a kill.
func BenchmarkOpen(b *testing.B) {
	o := journal.Options{FS: fsx.OS(), Dir: path.Join(b.TempDir(), "wal"), FirstSegmentBytes: 64 << 20}
	j, err := journal.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 20_000)
	for range 3000 {
		if _, err := j.Append(kind, p); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Durable(b.Context(), j.Last()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		again, err := journal.Open(journal.Options{FS: readOnly{o.FS}, Dir: o.Dir})
		if err != nil || again.Last() != 3000 {
			b.Fatal(again.Last(), err)
		}
		b.StopTimer()
		_ = again.Close()
		b.StartTimer()
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
}

// readOnly refuses new files, so that each opening finds the same.
type readOnly struct{ fsx.FS }

func (readOnly) Create(name string) (fsx.File, error) { return nil, syscall.ENOSPC }

func TestVolatileDiskKeepsWhatWasAcknowledged(t *testing.T) {
	faulty := fsx.NewFaulty(fsx.NewVolatile(fsx.OS()))
	o := journal.Options{FS: faulty, Dir: path.Join(t.TempDir(), "wal"), SegmentBytes: 64 << 10}
	j, err := journal.Open(o)
	ok(t, err)
	for range 100 {
		appendOne(t, j, 1, 2000)
	}
	ok(t, j.Durable(t.Context(), 100))
	faulty.Inject(fsx.Fault{Op: fsx.OpSync, Err: syscall.EIO}) // From here on the disk forgets.
	if err := j.Durable(t.Context(), appendOne(t, j, 1, 2000)); err == nil {
		t.Error("acknowledged without a sync")
	}
	_ = j.Close()
	o.FS = fsx.OS()
	j, err = journal.Open(o)
	ok(t, err)
	got, rec := replay(t, j, 0)
	if len(got) != 100 || rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
		t.Errorf("%d records, %+v", len(got), rec)
	}
	ok(t, j.Close())
}
