// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Layout of a frame, little-endian; see docs/format-wal.md.
const (
	frameHeader = 32
	frameAlign  = 8

	offSum    = 0  // u32: crc32c of bytes 4..32
	offBody   = 4  // u32: crc32c of the payload
	offSize   = 8  // u32: bytes of payload
	offSeg    = 12 // u32: number of the segment the frame was written for
	offLSN    = 16 // u64
	offSynced = 24 // u32: everything of the segment before this offset was synced when the frame was written
	offKind   = 28 // u8, then three zero bytes
)

// Kinds of frame that are the journal's own. Records have those from FirstKind on.
const (
	kindClose byte = iota // the log was closed; the LSN is that of the last record
	kindSkip              // the LSNs up to this one are left out; the payload is the LSN of the last record, u64

	// FirstKind is the smallest kind of record that a user of a journal may append.
	FirstKind byte = 16
)

// MaxRecord is the most bytes one record may have: what a segment's 32-bit offsets hold, with room to spare.
const MaxRecord = 1 << 30

// maxSegment bounds a segment to what offSynced can name.
const maxSegment = math.MaxUint32 &^ (frameAlign - 1)

// castagnoli is the polynomial that processors compute in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stamp is what makes a frame one of its segment: a sum seeded with the identity of the journal, so that no
// payload can hold what looks like a frame of ours, and the number of the segment, so that no frame of the
// file's earlier life counts.
type stamp struct {
	seed    uint32
	segment uint32
}

func newStamp(id [8]byte, segment uint32) stamp {
	return stamp{seed: crc32.Checksum(id[:], castagnoli), segment: segment}
}

func frameSize(payload int) int64 {
	return frameHeader + (int64(payload)+frameAlign-1)&^(frameAlign-1)
}

// putHeader fills in what is known when a record is appended. Stamping it comes with the write.
func putHeader(b []byte, lsn sample.LSN, kind byte, size int) {
	binary.LittleEndian.PutUint32(b[offSize:], uint32(size))
	binary.LittleEndian.PutUint64(b[offLSN:], uint64(lsn))
	binary.LittleEndian.PutUint32(b[offKind:], uint32(kind))
}

// seal completes the frame at the start of b: the segment, the promise of what is synced, the sums.
func (s stamp) seal(b []byte, synced int64) {
	size := binary.LittleEndian.Uint32(b[offSize:])
	body := crc32.Update(s.seed, castagnoli, b[frameHeader:frameHeader+size])
	binary.LittleEndian.PutUint32(b[offBody:], body)
	binary.LittleEndian.PutUint32(b[offSeg:], s.segment)
	binary.LittleEndian.PutUint32(b[offSynced:], uint32(synced))
	binary.LittleEndian.PutUint32(b[offSum:], crc32.Update(s.seed, castagnoli, b[offBody:frameHeader]))
}

// frame is one that was read.
type frame struct {
	lsn     sample.LSN
	kind    byte
	off     int64 // of the frame in its segment
	size    int64 // of the frame with its padding
	synced  int64
	body    uint32
	payload []byte // valid until the window moves
}

// open reads the header at the start of b, which is at offset off of the segment. The payload is checked apart.
func (s stamp) open(b []byte, off int64) (f frame, ok bool) {
	if len(b) < frameHeader || binary.LittleEndian.Uint32(b[offSeg:]) != s.segment {
		return frame{}, false
	}
	if crc32.Update(s.seed, castagnoli, b[offBody:frameHeader]) != binary.LittleEndian.Uint32(b[offSum:]) {
		return frame{}, false
	}
	size := binary.LittleEndian.Uint32(b[offSize:])
	f = frame{
		lsn:    sample.LSN(binary.LittleEndian.Uint64(b[offLSN:])),
		kind:   b[offKind],
		off:    off,
		size:   frameSize(int(size)),
		synced: int64(binary.LittleEndian.Uint32(b[offSynced:])),
		body:   binary.LittleEndian.Uint32(b[offBody:]),
	}
	return f, size <= MaxRecord && f.synced <= off && f.lsn > 0
}

// bodyOf returns the payload out of the bytes of the whole frame if its sum is right.
func (s stamp) bodyOf(f frame, b []byte) ([]byte, bool) {
	size := binary.LittleEndian.Uint32(b[offSize:])
	payload := b[frameHeader : frameHeader+size : frameHeader+size]
	return payload, crc32.Update(s.seed, castagnoli, payload) == f.body
}
