// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Layout of a segment: the header twice, in sectors of their own, then frames. See docs/format-wal.md.
const (
	headerSize   = 64
	headerCopy   = 512 // offset of the second copy
	dataStart    = 1024
	headerMagic  = "TIDEMKJL"
	headerFormat = 1

	segmentSuffix = ".seg"
)

// header is the start of a segment.
type header struct {
	version uint32
	segment uint32
	id      [8]byte    // of the journal, random, the same in all its segments
	first   sample.LSN // of the first record that may be in it
	prev    uint32     // the segment before, 0 if none
	prevEnd int64      // where the records of prev end that are not repeated here
}

func (h header) encode() []byte {
	b := make([]byte, dataStart)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[8:], h.version)
	binary.LittleEndian.PutUint32(b[12:], h.segment)
	copy(b[16:24], h.id[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(h.first))
	binary.LittleEndian.PutUint32(b[32:], h.prev)
	binary.LittleEndian.PutUint32(b[36:], uint32(h.prevEnd))
	binary.LittleEndian.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], castagnoli))
	copy(b[headerCopy:], b[:headerSize])
	return b
}

// decodeHeader reads the better of the two copies in the first dataStart bytes of a file.
func decodeHeader(b []byte) (h header, ok bool) {
	for _, at := range []int{0, headerCopy} {
		if len(b) < at+headerSize {
			break
		}
		c := b[at : at+headerSize]
		sum := binary.LittleEndian.Uint32(c[headerSize-4:])
		if !bytes.HasPrefix(c, []byte(headerMagic)) || crc32.Checksum(c[:headerSize-4], castagnoli) != sum {
			continue
		}
		h = header{
			version: binary.LittleEndian.Uint32(c[8:]),
			segment: binary.LittleEndian.Uint32(c[12:]),
			first:   sample.LSN(binary.LittleEndian.Uint64(c[24:])),
			prev:    binary.LittleEndian.Uint32(c[32:]),
			prevEnd: int64(binary.LittleEndian.Uint32(c[36:])),
		}
		copy(h.id[:], c[16:24])
		return h, true
	}
	return header{}, false
}

// segment is what is known of one file of the log.
type segment struct {
	number uint32
	name   string // path
	header header
	intact bool // the header could be read
	blank  bool // there never was one: a crash left the making of the file half-done
	broken bool // it could not although it had been synced
	unread bool // the disk did not give it

	first sample.LSN // of its first record
	last  sample.LSN // of its last record; first-1 if it has none
	end   int64      // where its records end
	size  int64      // of the file
	tail  int64      // from here to end the records are repeated in the next segment, or will be
}

func segmentName(dir string, number uint32) string {
	return path.Join(dir, fmt.Sprintf("%010d%s", number, segmentSuffix))
}

// segmentNumber is the inverse of segmentName; 0 for a name that is not one of a segment.
func segmentNumber(name string) uint32 {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || len(digits) != 10 {
		return 0
	}
	return uint32(n)
}

// loadSegment reads the header of a file. A file without a readable one is a segment that is not intact.
func loadSegment(fsys fsx.FS, dir string, number uint32) (*segment, error) {
	s := &segment{number: number, name: segmentName(dir, number), end: dataStart, tail: dataStart}
	f, err := fsys.Open(s.name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if s.size, err = f.Size(); err != nil {
		return nil, err
	}
	b := make([]byte, dataStart)
	n, rerr := f.ReadAt(b, 0)
	if rerr != nil && !errors.Is(rerr, io.EOF) {
		s.unread = true
		return s, nil // The rest of the file may be sound.
	}
	s.blank = len(bytes.Trim(b[:n], "\x00")) == 0
	h, ok := decodeHeader(b[:n])
	if !ok || h.segment != number {
		return s, nil
	}
	if h.version > headerFormat {
		return nil, &VersionError{File: s.name, Version: h.version}
	}
	s.header, s.intact, s.first, s.last = h, true, h.first, h.first-1
	return s, err
}

// scan opens the segment's file and returns a scanner over its frames up to end, which is at most the file's.
func (s *segment) scan(fsys fsx.FS, id [8]byte, end int64) (*scanner, error) {
	f, err := fsys.Open(s.name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &scanner{
		stamp: newStamp(id, s.number),
		w:     window{f: f, size: size},
		off:   dataStart,
		end:   min(end, size),
	}, nil
}

func (s *scanner) close() error { return s.w.f.Close() }

// tail is what measure finds of a segment whose end no later segment tells.
type tail struct {
	promised int64 // what is before was synced: a bad frame there is corruption
	end      int64 // the valid records end here
	last     sample.LSN
	first    sample.LSN
	frames   int
	records  []record // those from promised to end, copied
	dropped  int64    // bytes that a crash tore off

	unreadable bool // the disk did not give all of it
}

// record is a log record in memory.
type record struct {
	lsn     sample.LSN
	kind    byte
	payload []byte
}

// measure finds where the records of a segment end that no later one speaks of. The largest promise of any
// frame divides it: below it a bad frame is corruption, from it on the first bad frame is where a crash tore the
// log, and what follows was never acknowledged.
func (s *segment) measure(fsys fsx.FS, id [8]byte) (t tail, err error) {
	sc, err := s.scan(fsys, id, s.size)
	if err != nil {
		return tail{}, err
	}
	defer func() { err = errors.Join(err, sc.close()) }()
	var lastValid int64
	for sc.off < sc.end {
		f, ok := sc.next()
		if !ok {
			sc.seek()
			continue
		}
		if t.frames++; t.first == 0 {
			t.first = f.lsn
		}
		t.promised = max(t.promised, f.synced)
		lastValid = sc.off
	}
	t.unreadable = sc.w.unreadable > 0
	if t.frames > 0 {
		t.promised = max(t.promised, sc.w.unreadable)
	}
	t.promised = max(t.promised, dataStart)
	t.end = dataStart
	if t.last = max(s.first, 1) - 1; !s.intact && t.first > 0 {
		t.last = t.first - 1
	}
	for sc.off = dataStart; sc.off < sc.end; {
		f, ok := sc.next()
		if !ok && sc.off < t.promised {
			sc.seek()
			continue
		}
		// In the tail, records follow one another: anything else is no part of it.
		if n := len(t.records); ok && n > 0 && f.kind != kindClose {
			ok = f.lsn == t.records[n-1].lsn+1 || f.kind == kindSkip
		}
		if !ok {
			break
		}
		if f.off >= t.promised && f.kind != kindClose {
			t.records = append(t.records, record{f.lsn, f.kind, append([]byte(nil), f.payload...)})
		}
		t.last = max(t.last, f.lsn)
		t.end = sc.off
	}
	if f, ok := sc.open(sc.w.at(t.end, frameHeader), t.end); ok {
		lastValid = max(lastValid, t.end+f.size)
	}
	t.end = max(t.end, t.promised)
	t.dropped = max(lastValid-t.end, 0)
	return t, nil
}
