// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var testID = [8]byte{'i', 'd', 'e', 'n', 't', 'i', 't', 'y'}

// appendFrame appends a sealed frame to a segment image.
func appendFrame(b []byte, s stamp, lsn sample.LSN, synced int64, payload []byte) []byte {
	f := make([]byte, frameSize(len(payload)))
	copy(f[frameHeader:], payload)
	putHeader(f, lsn, FirstKind, len(payload))
	s.seal(f, synced)
	return append(b, f...)
}

// image puts bytes behind a segment header and returns the file as a segment.
func image(t testing.TB, frames []byte) (fsx.FS, *segment) {
	t.Helper()
	h := header{version: headerFormat, segment: 1, id: testID, first: 1}
	fsys := fsx.NewCrashable()
	if err := fsx.MakeDir(fsys, "/wal"); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(segmentName("/wal", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(append(h.encode(), frames...), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := loadSegment(fsys, "/wal", 1)
	if err != nil || !s.intact {
		t.Fatalf("segment %+v, %v", s, err)
	}
	return fsys, s
}

func TestPromiseTellsCorruptionFromATornTail(t *testing.T) {
	st := newStamp(testID, 1)
	check := func(frames []byte, end int64, last sample.LSN, records int, torn bool) {
		t.Helper()
		fsys, s := image(t, frames)
		got, err := s.measure(fsys, testID)
		if err != nil {
			t.Fatal(err)
		}
		if got.end != end || got.last != last || len(got.records) != records || got.dropped > 0 != torn {
			t.Errorf("end %d, last %d, %d records in the tail, %d torn; want %d, %d, %d, %t",
				got.end, got.last, len(got.records), got.dropped, end, last, records, torn)
		}
	}
	const size = 40 // of a frame with a payload of up to 8 bytes
	one := appendFrame(nil, st, 1, 0, []byte("one"))
	two := appendFrame(one, st, 2, 0, []byte("two"))
	check(nil, dataStart, 0, 0, false)
	check(make([]byte, 4096), dataStart, 0, 0, false)
	check(two, dataStart+2*size, 2, 2, false)

	bad := bytes.Clone(two)
	bad[3] ^= 1
	check(bad, dataStart, 0, 0, true) // nobody said that the first one was synced
	promised := appendFrame(bad, st, 3, dataStart+2*size, []byte("three"))
	check(promised, dataStart+3*size, 3, 1, false) // now somebody does
	half := appendFrame(bad, st, 3, dataStart+size, []byte("three"))
	check(half, dataStart+3*size, 3, 2, false) // of the first: what follows is whole

	tail := appendFrame(two, st, 3, dataStart+size, []byte("three"))
	tail[2*size+3] ^= 1
	check(appendFrame(tail, st, 4, dataStart+size, []byte("four")), dataStart+2*size, 2, 1, true)
	stranger := appendFrame(two, newStamp(testID, 2), 3, 0, []byte("other segment"))
	check(stranger, dataStart+2*size, 2, 2, false)
	check(appendFrame(two, newStamp([8]byte{1}, 1), 3, 0, []byte("other log")), dataStart+2*size, 2, 2, false)
	check(appendFrame(two, st, 5, 0, []byte("five")), dataStart+2*size, 2, 2, true)
	check(two[:len(two)-1], dataStart+size, 1, 1, true)
}

func FuzzMeasure(f *testing.F) {
	st := newStamp(testID, 1)
	two := appendFrame(appendFrame(nil, st, 1, 0, []byte("one")), st, 2, 1064, []byte("two"))
	f.Add(two, 0, byte(0))
	f.Add(two, 3, byte(1))
	f.Add(appendFrame(nil, st, 1<<60, 0, make([]byte, 1000)), 70, byte(0xff))
	f.Fuzz(func(t *testing.T, frames []byte, at int, mask byte) {
		if len(frames) > 1<<16 {
			return
		}
		if at >= 0 && at < len(frames) {
			frames = bytes.Clone(frames)
			frames[at] ^= mask
		}
		fsys, s := image(t, frames)
		got, err := s.measure(fsys, testID)
		if err != nil {
			t.Fatal(err)
		}
		if got.end < dataStart || got.end > s.size || got.promised > got.end {
			t.Errorf("%+v of %d bytes", got, s.size)
		}
		sc, err := s.scan(fsys, testID, got.end)
		if err != nil {
			t.Fatal(err)
		}
		for sc.off < sc.end {
			off := sc.off
			if _, ok := sc.next(); !ok {
				if off >= got.promised {
					t.Fatalf("a bad frame at %d within the records, promised up to %d", off, got.promised)
				}
				sc.seek()
			}
			if sc.off <= off {
				t.Fatalf("no progress at %d", off)
			}
		}
		if err := sc.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	h := header{version: 1, segment: 7, id: testID, first: 9, prev: 6, prevEnd: 4096}
	f.Add(h.encode(), 5)
	f.Add(h.encode()[headerCopy:], 0)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		if h, ok := decodeHeader(b); ok {
			if again, ok := decodeHeader(h.encode()); !ok || again != h {
				t.Errorf("%+v became %+v", h, again)
			}
		}
	})
}

func TestEitherHeaderWillDo(t *testing.T) {
	h := header{version: 1, segment: 7, id: testID, first: 9, prev: 6, prevEnd: 4096}
	for _, at := range []int{0, headerCopy} {
		b := h.encode()
		clear(b[at : at+sectorOf(headerCopy)])
		if got, ok := decodeHeader(b); !ok || got != h {
			t.Errorf("without the copy at %d: %+v, %t", at, got, ok)
		}
	}
	b := h.encode()
	b[1] ^= 1
	b[headerCopy+20] ^= 1
	if _, ok := decodeHeader(b); ok {
		t.Error("two damaged copies were taken for a header")
	}
}

// sectorOf returns the size of the sector that a copy of the header has to itself.
func sectorOf(offset int) int { return offset }
