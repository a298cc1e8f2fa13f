// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with the seed it printed")

// each runs a test on every file system, in an empty directory.
func each(t *testing.T, test func(t *testing.T, fsys fsx.FS, dir string)) {
	t.Helper()
	t.Run("os", func(t *testing.T) { test(t, fsx.OS(), t.TempDir()) })
	t.Run("crashable", func(t *testing.T) { test(t, fsx.NewCrashable(), "/") })
	t.Run("faulty", func(t *testing.T) { test(t, fsx.NewFaulty(fsx.NewCrashable()), "/") })
	t.Run("volatile over os", func(t *testing.T) { test(t, fsx.NewVolatile(fsx.OS()), t.TempDir()) })
	t.Run("volatile over crashable", func(t *testing.T) { test(t, fsx.NewVolatile(fsx.NewCrashable()), "/") })
}

func write(t *testing.T, fsys fsx.FS, name, data string) {
	t.Helper()
	f, err := fsys.Create(name)
	ok(t, err)
	_, err = f.WriteAt([]byte(data), 0)
	ok(t, err)
	ok(t, f.Close())
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, fsys fsx.FS, name string) string {
	t.Helper()
	data, err := fsx.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "<none>"
	}
	ok(t, err)
	return string(data)
}

func TestFileSystemsBehaveAlike(t *testing.T) {
	each(t, func(t *testing.T, fsys fsx.FS, dir string) {
		sub := path.Join(dir, "a", "b")
		ok(t, fsx.MakeDir(fsys, sub))
		ok(t, fsx.MakeDir(fsys, sub))
		name := path.Join(sub, "f")
		isErr := func(err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			} else if _, isPath := errors.AsType[*fs.PathError](err); !isPath {
				t.Errorf("error %v is a %T, want a path error", err, err)
			}
		}
		_, err := fsys.Open(name)
		isErr(err, fs.ErrNotExist)
		_, err = fsys.OpenReadWrite(name)
		isErr(err, fs.ErrNotExist)
		_, err = fsys.Stat(name)
		isErr(err, fs.ErrNotExist)
		_, err = fsys.List(name)
		isErr(err, fs.ErrNotExist)
		isErr(fsys.Remove(name), fs.ErrNotExist)
		_, err = fsys.Create(path.Join(sub, "none", "f"))
		isErr(err, fs.ErrNotExist)

		write(t, fsys, name, "hello")
		_, err = fsys.List(name)
		isErr(err, syscall.ENOTDIR)
		isErr(fsys.Remove(sub), syscall.ENOTEMPTY)
		isErr(fsys.MkdirAll(path.Join(name, "g")), syscall.ENOTDIR)

		f, err := fsys.OpenReadWrite(name)
		ok(t, err)
		_, err = f.WriteAt([]byte("J"), 7)
		ok(t, err)
		ok(t, f.Preallocate(10))
		ok(t, f.Preallocate(4)) // never shrinks
		if got, want := content(t, fsys, name), "hello\x00\x00J\x00\x00"; got != want {
			t.Errorf("content %q, want %q", got, want)
		}
		buf := make([]byte, 5)
		n, err := f.ReadAt(buf, 7)
		if n != 3 || !errors.Is(err, io.EOF) || string(buf[:n]) != "J\x00\x00" {
			t.Errorf("read past the end: %d %q %v", n, buf[:n], err)
		}
		ok(t, f.Truncate(3))
		ok(t, f.Truncate(5))
		ok(t, f.SyncData())
		if got, want := content(t, fsys, name), "hel\x00\x00"; got != want {
			t.Errorf("after truncation %q, want %q", got, want)
		}
		ok(t, f.Close())
		if _, err := f.ReadAt(buf, 0); err == nil {
			t.Error("a closed file can be read")
		}

		write(t, fsys, path.Join(sub, "e"), "other")
		ok(t, fsys.Rename(path.Join(sub, "e"), name))
		names, err := fsys.List(sub)
		ok(t, err)
		if diff := cmp.Diff([]string{"f"}, names); diff != "" {
			t.Errorf("names after rename: %s", diff)
		}
		info, err := fsys.Stat(name)
		ok(t, err)
		if info != (fsx.Info{Size: 5}) || content(t, fsys, name) != "other" {
			t.Errorf("after rename %+v %q", info, content(t, fsys, name))
		}
		ok(t, fsys.SyncDir(sub))
		ok(t, fsys.Remove(name))
		ok(t, fsys.Remove(sub))
		free, total, err := fsys.Usage(dir)
		if err != nil || free == 0 || free > total {
			t.Errorf("usage %d of %d: %v", free, total, err)
		}
	})
}

// TestRandomWritesReadBack compares every file system with a plain byte slice.
func TestRandomWritesReadBack(t *testing.T) {
	each(t, func(t *testing.T, fsys fsx.FS, dir string) {
		seed := *seedFlag
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		f, err := fsys.Create(path.Join(dir, "f"))
		ok(t, err)
		var model []byte
		resize := func(n int) {
			for len(model) < n {
				model = append(model, 0)
			}
		}
		for range 300 {
			off, n := rng.IntN(3000), rng.IntN(1500)
			switch rng.IntN(8) {
			case 0:
				ok(t, f.Truncate(int64(off)))
				resize(off)
				model = model[:off]
			case 1:
				ok(t, f.SyncData())
			case 2:
				ok(t, f.Preallocate(int64(off)))
				resize(off)
			case 3:
				got := make([]byte, n)
				k, err := f.ReadAt(got, int64(off))
				want := model[min(off, len(model)):min(off+n, len(model))]
				if !bytes.Equal(got[:k], want) || (k < n) != errors.Is(err, io.EOF) {
					t.Fatalf("read %d at %d: %d bytes, %v", n, off, k, err)
				}
			default:
				p := bytes.Repeat([]byte{byte(rng.IntN(255) + 1)}, n)
				_, err := f.WriteAt(p, int64(off))
				ok(t, err)
				if n > 0 {
					resize(off + n)
				}
				copy(model[min(off, len(model)):], p)
			}
			if size, err := f.Size(); err != nil || size != int64(len(model)) {
				t.Fatalf("size %d, %v, want %d", size, err, len(model))
			}
		}
		if got := content(t, fsys, path.Join(dir, "f")); got != string(model) {
			t.Error("content differs from the model")
		}
		ok(t, f.Close())
	})
}

func TestPublishIsAllOrNothing(t *testing.T) {
	run := func(fsys fsx.FS) error {
		return fsx.Publish(fsys, "/d/f", func(w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("new"), 1000))
			return err
		})
	}
	start := func() *fsx.Crashable {
		c := fsx.NewCrashable()
		ok(t, fsx.MakeDir(c, "/d"))
		ok(t, fsx.Publish(c, "/d/f", func(w io.Writer) error { _, err := io.WriteString(w, "old"); return err }))
		return c
	}
	whole := string(bytes.Repeat([]byte("new"), 1000))
	count := fsx.NewFaulty(start())
	ok(t, run(count))
	steps := count.Count(fsx.OpChange)
	if steps < 5 {
		t.Fatalf("only %d steps", steps)
	}
	for k := range steps + 1 {
		for seed := range uint64(12) {
			for _, percent := range []int{0, 50, 100} {
				c := start()
				faulty := fsx.NewFaulty(c)
				var after *fsx.Crashable
				done := 0
				faulty.Observe(func(op fsx.Op, _ string) {
					if op&fsx.OpChange == 0 {
						return
					}
					if done == k {
						after = c.Crash(percent, seed)
					}
					done++
				})
				ok(t, run(faulty))
				if after == nil {
					after = c.Crash(percent, seed)
				}
				got := content(t, after, "/d/f")
				if got != whole && (k == steps || got != "old") {
					t.Fatalf("crash before step %d, %d %%, seed %d: %d bytes %.10q", k, percent, seed, len(got), got)
				}
				ok(t, fsx.RemoveTemp(after, "/d"))
				names, err := after.List("/d")
				ok(t, err)
				if !slices.Equal(names, []string{"f"}) {
					t.Fatalf("names %q", names)
				}
			}
		}
		faulty := fsx.NewFaulty(start(), fsx.Fault{Op: fsx.OpChange, After: k, Times: 1, Err: syscall.EIO})
		err := run(faulty)
		if k < steps && !errors.Is(err, syscall.EIO) {
			t.Errorf("failing step %d: error %v", k, err)
		}
		if names, err := faulty.List("/d"); err != nil || !slices.Equal(names, []string{"f"}) {
			t.Errorf("failing step %d leaves %q, %v", k, names, err)
		}
	}
}

func TestCrashKeepsWhatIsSyncedAndOnlyThat(t *testing.T) {
	c := fsx.NewCrashable()
	ok(t, fsx.MakeDir(c, "/d"))
	write(t, c, "/d/named", "x")
	write(t, c, "/d/gone", "x")
	ok(t, c.SyncDir("/d"))
	f, err := c.OpenReadWrite("/d/named")
	ok(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("s"), 2048), 0)
	ok(t, err)
	ok(t, f.SyncData())
	_, err = f.WriteAt(bytes.Repeat([]byte("u"), 1024), 1536)
	ok(t, err)
	write(t, c, "/d/unnamed", "y")
	ok(t, c.Remove("/d/gone"))

	none := c.Crash(0, 1)
	if got, want := content(t, none, "/d/named"), string(bytes.Repeat([]byte("s"), 2048)); got != want {
		t.Errorf("at 0 %%: %d bytes", len(got))
	}
	if names, _ := none.List("/d"); !slices.Equal(names, []string{"gone", "named"}) {
		t.Errorf("names at 0 %%: %q", names)
	}
	if got := content(t, none, "/d/gone"); got != "" {
		t.Errorf("unsynced content at 0 %%: %q", got)
	}
	all := c.Crash(100, 1)
	if content(t, all, "/d/named") != content(t, c, "/d/named") {
		t.Error("content at 100 % differs")
	}
	if names, _ := all.List("/d"); !slices.Equal(names, []string{"named", "unnamed"}) {
		t.Errorf("names at 100 %%: %q", names)
	}
	torn := map[string]bool{}
	for seed := range uint64(200) {
		got := content(t, c.Crash(50, seed), "/d/named")
		if got[:1536] != content(t, none, "/d/named")[:1536] {
			t.Fatal("synced bytes changed")
		}
		var shape []byte
		for i := 1536; i < len(got); i += 512 {
			sector := got[i:min(i+512, len(got))]
			shape = append(shape, sector[0])
			if sector != string(bytes.Repeat([]byte(sector[:1]), len(sector))) {
				t.Fatalf("a sector is torn: %q", sector)
			}
		}
		torn[string(shape)] = true
	}
	for _, shape := range []string{"s", "u", "su", "uu", "s\x00", "u\x00"} {
		if !torn[shape] {
			t.Errorf("state %q never came in 200 crashes: %v", shape, torn)
		}
	}
}

func TestCrashableDiskGetsFull(t *testing.T) {
	c := fsx.NewCrashable()
	write(t, c, "/a", "12345")
	c.SetFree(4)
	f, err := c.Create("/b")
	ok(t, err)
	_, err = f.WriteAt([]byte("12345"), 0)
	if !errors.Is(err, syscall.ENOSPC) || !fsx.IsFull(err) {
		t.Errorf("write to a full disk: %v", err)
	}
	if err := f.Preallocate(5); !fsx.IsFull(err) {
		t.Errorf("reservation on a full disk: %v", err)
	}
	if size, err := f.Size(); size != 0 || err != nil {
		t.Errorf("a refused write left %d bytes, %v", size, err)
	}
	ok(t, c.Remove("/a"))
	if free, total, err := c.Usage("/"); free != 9 || total != 9 || err != nil {
		t.Errorf("usage %d of %d, %v", free, total, err)
	}
	_, err = f.WriteAt([]byte("12345"), 0)
	ok(t, err)
}

func TestVolatileLosesWhatIsNotSynced(t *testing.T) {
	dir := t.TempDir()
	v := fsx.NewVolatile(fsx.OS())
	f, err := v.Create(path.Join(dir, "f"))
	ok(t, err)
	_, err = f.WriteAt([]byte("kept"), 0)
	ok(t, err)
	ok(t, f.SyncData())
	_, err = f.WriteAt([]byte("lost"), 0)
	ok(t, err)
	ok(t, f.Truncate(3))
	ok(t, f.Close())
	if got := content(t, v, path.Join(dir, "f")); got != "los" {
		t.Errorf("the process itself reads %q", got)
	}
	if got := content(t, fsx.OS(), path.Join(dir, "f")); got != "kept" {
		t.Errorf("the disk holds %q", got)
	}
	ok(t, v.Rename(path.Join(dir, "f"), path.Join(dir, "g")))
	if got := content(t, v, path.Join(dir, "g")); got != "los" {
		t.Errorf("after a rename the process reads %q", got)
	}
}

func TestFaultsHitTheOperationsTheyName(t *testing.T) {
	f := fsx.NewFaulty(fsx.NewCrashable())
	write(t, f, "/a", "1")
	f.Inject(fsx.Fault{Op: fsx.OpWrite, Path: "a*", After: 1, Times: 2, Err: syscall.EIO, Short: 2})
	h, err := f.OpenReadWrite("/a")
	ok(t, err)
	for i, want := range []int{4, 2, 2, 4} {
		n, err := h.WriteAt([]byte("abcd"), int64(4*i))
		if n != want || (want == 4) != (err == nil) {
			t.Errorf("write %d: %d bytes, %v", i, n, err)
		}
	}
	write(t, f, "/b", "1")
	if got := f.Count(fsx.OpWrite | fsx.OpCreate); got != 8 {
		t.Errorf("%d operations counted", got)
	}
	stall := make(chan struct{})
	f.Inject(fsx.Fault{Op: fsx.OpSync, Stall: stall})
	synced := make(chan error)
	go func() { synced <- h.SyncData() }()
	select {
	case <-synced:
		t.Error("a stalled sync returned")
	default:
	}
	close(stall)
	ok(t, <-synced)
	f.SetUsage(1, 2)
	if free, total, err := f.Usage("/"); free != 1 || total != 2 || err != nil {
		t.Errorf("usage %d of %d, %v", free, total, err)
	}
}

func TestLockExcludes(t *testing.T) {
	each(t, func(t *testing.T, fsys fsx.FS, dir string) {
		name := path.Join(dir, "lock")
		lock, err := fsys.Lock(name)
		ok(t, err)
		var held *fsx.LockedError
		if _, err := fsys.Lock(name); !errors.As(err, &held) {
			t.Errorf("second lock: %v", err)
		}
		ok(t, lock.Close())
		again, err := fsys.Lock(name)
		ok(t, err)
		ok(t, again.Close())
	})
}

func TestLockAndPrometheusExcludeEachOther(t *testing.T) {
	name := path.Join(t.TempDir(), "lock")
	theirs, _, err := fileutil.Flock(name)
	ok(t, err)
	if _, err := fsx.OS().Lock(name); err == nil {
		t.Fatal("locked what Prometheus holds")
	}
	ok(t, theirs.Release())
	ours, err := fsx.OS().Lock(name)
	ok(t, err)
	if _, _, err := fileutil.Flock(name); err == nil {
		t.Fatal("Prometheus locked what we hold")
	}
	ok(t, ours.Close())
}

func ExamplePublish() {
	fsys := fsx.NewCrashable()
	err := fsx.Publish(fsys, "/state", func(w io.Writer) error {
		_, err := io.WriteString(w, "firing")
		return err
	})
	data, _ := fsx.ReadFile(fsys.Crash(0, 0), "/state")
	fmt.Println(string(data), err)
	// Output: firing <nil>
}
