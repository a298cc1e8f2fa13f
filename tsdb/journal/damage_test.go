// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// sessions writes a log of three short segments, each closed in order, and returns its records.
func sessions(t *testing.T) (*fsx.Crashable, []entry) {
	t.Helper()
	base := fsx.NewCrashable()
	for range 3 {
		j := open(t, small(base))
		for i := range 5 {
			appendOne(t, j, 1, 40+i)
			if i == 2 {
				ok(t, j.Durable(t.Context(), j.Last()))
			}
		}
		ok(t, j.Close())
	}
	j := open(t, small(base))
	want, _ := replay(t, j, 0)
	ok(t, j.Close())
	if len(want) != 15 || len(segments(t, base)) != 3 {
		t.Fatalf("%d records in %q", len(want), segments(t, base))
	}
	return base, want
}

// damaged opens a log after a change to one of its files and checks what must hold whatever the change: each
// record that comes back is one that was written, what does not is counted, and the log goes on.
func damaged(t *testing.T, fsys fsx.FS, want []entry, what string) journal.Recovery {
	t.Helper()
	j := open(t, small(fsys))
	got, rec := replay(t, j, 1)
	for _, e := range got {
		if e.lsn < 1 || int(e.lsn) > len(want) || e != want[e.lsn-1] {
			t.Fatalf("%s: wrong record %d: %.40q", what, e.lsn, e.data)
		}
	}
	if len(got) != rec.Records || rec.Records > 0 && (rec.First != got[0].lsn || rec.Last != got[len(got)-1].lsn) {
		t.Fatalf("%s: %d records, %+v", what, len(got), rec)
	}
	last := j.Last()
	if rec.Last > last || uint64(last) != uint64(rec.Records)+rec.LostRecords {
		t.Fatalf("%s: %d records of %d, %d reported lost", what, len(got), last, rec.LostRecords)
	}
	if rec.LostRecords > 0 && len(rec.Corrupt) == 0 {
		t.Fatalf("%s: %d records lost without a place", what, rec.LostRecords)
	}
	for _, c := range rec.Corrupt {
		if c.Quarantine == "" || c.End <= c.Off || c.Error() == "" {
			t.Fatalf("%s: damage reported as %+v", what, c)
		}
		if _, err := fsys.Stat(c.Quarantine); err != nil {
			t.Fatalf("%s: nothing was put aside: %v", what, err)
		}
	}
	ok(t, j.Durable(t.Context(), appendOne(t, j, 2, 10)))
	ok(t, j.Close())
	j = open(t, small(fsys))
	again, rec2 := replay(t, j, 1)
	ok(t, j.Close())
	if len(again) != len(got)+1 || again[len(got)] != (entry{last + 1, kind, string(payload(2, last+1, 10))}) {
		t.Fatalf("%s: %d records after one more, %d before", what, len(again), len(got))
	}
	if rec2.LostRecords != rec.LostRecords {
		t.Fatalf("%s: %d lost at first, then %d", what, rec.LostRecords, rec2.LostRecords)
	}
	return rec
}

func flip(t *testing.T, fsys fsx.FS, name string, off int64, mask byte) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	ok(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	ok(t, err)
	b[0] ^= mask
	_, err = f.WriteAt(b[:], off)
	ok(t, err)
	ok(t, f.Close())
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	base, want := sessions(t)
	lost := 0
	for _, name := range segments(t, base) {
		info, err := base.Stat(path.Join(dir, name))
		ok(t, err)
		for off := range info.Size {
			for bit := range 8 {
				if (off+int64(bit))%4 != 0 { // a quarter of all bits, every byte among them
					continue
				}
				c := base.Crash(100, 0)
				flip(t, c, path.Join(dir, name), off, 1<<bit)
				rec := damaged(t, c, want, fmt.Sprintf("%s byte %d bit %d", name, off, bit))
				lost += int(rec.LostRecords)
				if rec.LostRecords > 1 || rec.Records+int(rec.LostRecords) != len(want) {
					t.Fatalf("%s byte %d bit %d: %+v", name, off, bit, rec)
				}
			}
		}
	}
	if lost == 0 {
		t.Error("no flip did any harm")
	}
}

func TestTruncationAtEveryByte(t *testing.T) {
	base, want := sessions(t)
	for i, name := range segments(t, base) {
		info, err := base.Stat(path.Join(dir, name))
		ok(t, err)
		for size := range info.Size {
			c := base.Crash(100, 0)
			f, err := c.OpenReadWrite(path.Join(dir, name))
			ok(t, err)
			ok(t, f.Truncate(size))
			ok(t, f.Close())
			what := fmt.Sprintf("%s cut at %d", name, size)
			if i == 2 && size < 1024 {
				// Too little is left to see that the last segment ever was one: the log ends before it.
				j := open(t, small(c))
				got, _ := replay(t, j, 1)
				ok(t, j.Close())
				if len(got) != 10 {
					t.Fatalf("%s: %d records", what, len(got))
				}
				continue
			}
			rec := damaged(t, c, want, what)
			if i < 2 && rec.Records+int(rec.LostRecords) != len(want) {
				t.Fatalf("%s: %+v", what, rec)
			}
		}
	}
}

func TestMissingAndForeignFiles(t *testing.T) {
	check := func(change func(c *fsx.Crashable, names []string), lost uint64, corrupt bool) {
		t.Helper()
		base, want := sessions(t)
		change(base, segments(t, base))
		j := open(t, small(base))
		got, rec := replay(t, j, 1)
		ok(t, j.Close())
		for _, e := range got {
			if e != want[e.lsn-1] {
				t.Errorf("wrong record %d", e.lsn)
			}
		}
		if rec.LostRecords != lost || len(rec.Corrupt) > 0 != corrupt {
			t.Errorf("%d records lost, want %d; corrupt %v", rec.LostRecords, lost, rec.Corrupt)
		}
	}
	rename := func(c *fsx.Crashable, from, to string) { ok(t, c.Rename(path.Join(dir, from), path.Join(dir, to))) }
	check(func(c *fsx.Crashable, names []string) { ok(t, c.Remove(path.Join(dir, names[1]))) }, 5, false)
	check(func(c *fsx.Crashable, names []string) { rename(c, names[1], names[1]+".bak") }, 5, false)
	check(func(c *fsx.Crashable, names []string) { // two files swapped
		rename(c, names[0], "x")
		rename(c, names[1], names[0])
		rename(c, "x", names[1])
	}, 10, true)
	check(func(c *fsx.Crashable, names []string) { // a file of another log
		other, _ := sessions(t)
		data, err := fsx.ReadFile(other, path.Join(dir, names[1]))
		ok(t, err)
		f, err := c.Create(path.Join(dir, names[1]))
		ok(t, err)
		_, err = f.WriteAt(data, 0)
		ok(t, err)
		ok(t, f.Close())
	}, 5, true)
	check(func(c *fsx.Crashable, names []string) { // another log's record inside a payload
		j := open(t, small(c))
		data, err := fsx.ReadFile(c, path.Join(dir, names[2]))
		ok(t, err)
		_, err = j.Append(kind, data)
		ok(t, err)
		ok(t, j.Close())
		names = segments(t, c)
		flip(t, c, path.Join(dir, names[3]), 1024+3, 1)
	}, 1, true)
}

func TestUnreadableSectorsCostOnlyTheirRecords(t *testing.T) {
	base, want := sessions(t)
	for _, name := range segments(t, base) {
		c := base.Crash(100, 0)
		faulty := fsx.NewFaulty(c, fsx.Fault{Op: fsx.OpRead, Path: name, Err: syscall.EIO})
		j := open(t, small(faulty))
		got, rec := replay(t, j, 1)
		if len(got) < 10 || len(rec.Corrupt) == 0 {
			t.Errorf("%s: %d records, %+v", name, len(got), rec)
		}
		for _, e := range got {
			if e != want[e.lsn-1] {
				t.Errorf("wrong record %d", e.lsn)
			}
		}
		ok(t, j.Close())
		found := false
		for _, d := range []string{dir, path.Join(dir, "quarantine")} {
			names, err := c.List(d)
			ok(t, err)
			for _, n := range names {
				info, err := c.Stat(path.Join(d, n))
				ok(t, err)
				found = found || strings.HasPrefix(n, name) && info.Size > 1024
			}
		}
		if !found {
			t.Errorf("%s is gone", name)
		}
	}
}

// TestUnreadableNewestFile puts a log aside whose newest file cannot be read, twice: LSNs it may have held are not
// given out again, and neither copy in quarantine replaces the other.
func TestUnreadableNewestFile(t *testing.T) {
	base, want := sessions(t)
	name := segments(t, base)[2]
	last := sample.LSN(10)
	for round := range 2 {
		faulty := fsx.NewFaulty(base, fsx.Fault{Op: fsx.OpRead, Path: name, Err: syscall.EIO})
		j := open(t, small(faulty))
		got, rec := replay(t, j, 1)
		if len(got) != 10+round || rec.LostRecords != 0 || len(rec.Corrupt) != 1 {
			t.Fatalf("round %d: %d records, %+v", round, len(got), rec)
		}
		for _, e := range got[:10] {
			if e != want[e.lsn-1] {
				t.Errorf("wrong record %d", e.lsn)
			}
		}
		lsn := appendOne(t, j, 1, 5)
		if lsn < last+1000 {
			t.Errorf("round %d: record %d was given out after %d", round, lsn, last)
		}
		last = lsn
		ok(t, j.Close())
		names, err := base.List(path.Join(dir, "quarantine"))
		ok(t, err)
		if len(names) != round+1 {
			t.Errorf("in quarantine: %q", names)
		}
		write, err := base.Create(path.Join(dir, "0000009999.seg"))
		ok(t, err)
		_, err = write.WriteAt([]byte("no segment"), 0)
		ok(t, err)
		ok(t, write.Close())
		name = "0000009999.seg"
	}
}

// TestPayloadCannotPassForARecord damages the header of a record whose payload holds whole frames of another
// segment number and of none of this log's identity.
func TestPayloadCannotPassForARecord(t *testing.T) {
	base := fsx.NewCrashable()
	other := fsx.NewCrashable()
	j := open(t, small(other))
	for range 5 {
		appendOne(t, j, 66, 100)
	}
	ok(t, j.Close())
	crafted, err := fsx.ReadFile(other, path.Join(dir, segments(t, other)[0]))
	ok(t, err)
	j = open(t, small(base))
	_, err = j.Append(kind, crafted)
	ok(t, err)
	appendOne(t, j, 1, 10)
	ok(t, j.Durable(t.Context(), j.Last()))
	appendOne(t, j, 1, 10)
	ok(t, j.Close())
	flip(t, base, path.Join(dir, segments(t, base)[0]), 1024+9, 0x40)
	j = open(t, small(base))
	got, rec := replay(t, j, 1)
	ok(t, j.Close())
	if len(got) != 2 || rec.LostRecords != 1 || got[0].data != string(payload(1, 2, 10)) {
		t.Errorf("%d records, %+v", len(got), rec)
	}
}

func TestErrorOfTheCallbackEndsTheReplay(t *testing.T) {
	base, _ := sessions(t)
	j := open(t, small(base))
	stop := errors.New("stop")
	n := 0
	_, err := j.Replay(3, func(lsn sample.LSN, _ byte, _ []byte) error {
		if n++; n == 3 {
			return stop
		}
		if lsn != sample.LSN(n+2) {
			t.Errorf("record %d", lsn)
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 3 {
		t.Errorf("%d calls, error %v", n, err)
	}
	ok(t, j.Close())
}
