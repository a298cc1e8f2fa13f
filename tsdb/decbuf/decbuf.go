// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package decbuf reads numbers, bytes and texts off encoded bytes, which may be damaged.
//
// A Buf is bytes and a place in them. Its first fault sticks: what is read after it is zero or empty, so a decoder
// looks for a fault once behind a run of reads, and where it takes memory or calls others. It never panics, never reads
// beyond the bytes, and Count bounds what a damaged count can ask for. A Buf is for one goroutine. A number below 128
// costs a call and a comparison.
package decbuf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Fault says what is wrong with bytes, and where.
type Fault struct {
	Off int // in the bytes
	Msg string
}

// Error names the place.
func (f *Fault) Error() string { return fmt.Sprintf("byte %d: %s", f.Off, f.Msg) }

// Buf is encoded bytes B that are read from Off on.
type Buf struct {
	B     []byte
	Off   int
	fault *Fault
}

// Fault returns the first fault; nil: there is none.
func (b *Buf) Fault() *Fault { return b.fault }

// Failed tells whether there is a fault.
func (b *Buf) Failed() bool { return b.fault != nil }

// Fail notes a fault at Off, unless there is one, and gives up the rest of the bytes.
func (b *Buf) Fail(msg string) {
	if b.fault == nil {
		b.fault = &Fault{Off: b.Off, Msg: msg}
	}
	b.Off = len(b.B)
}

// Left returns how many bytes are to come.
func (b *Buf) Left() int { return len(b.B) - b.Off }

// Finish demands that there are none.
func (b *Buf) Finish() {
	if b.Left() > 0 {
		b.Fail("bytes left over")
	}
}

// Uvarint reads a number of variable length, as encoding/binary writes it.
func (b *Buf) Uvarint() uint64 {
	if b.Off < len(b.B) && b.B[b.Off] < 0x80 {
		b.Off++
		return uint64(b.B[b.Off-1])
	}
	return b.longUvarint()
}

func (b *Buf) longUvarint() uint64 {
	v, n := binary.Uvarint(b.B[b.Off:])
	if n <= 0 {
		b.Fail("malformed number")
		return 0
	}
	b.Off += n
	return v
}

// Varint reads a signed number of variable length, as encoding/binary writes it.
func (b *Buf) Varint() int64 {
	v := b.Uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// AtMost is Uvarint for a number that must not exceed limit.
func (b *Buf) AtMost(limit uint64, what string) uint64 {
	v := b.Uvarint()
	if v > limit {
		b.Fail(what + " out of range")
		return 0
	}
	return v
}

// Count reads how many things follow, each of which takes size bytes at least. What cannot be is a fault, so that no
// memory is taken for it.
func (b *Buf) Count(size int) int {
	v := b.Uvarint()
	if v > uint64(b.Left()/size) {
		b.Fail("more entries than bytes")
		return 0
	}
	return int(v)
}

// Bytes returns the next n bytes, which are not copied.
func (b *Buf) Bytes(n int) []byte {
	if n < 0 || n > b.Left() {
		b.Fail("cut short")
		return nil
	}
	b.Off += n
	return b.B[b.Off-n : b.Off : b.Off]
}

// Sized returns bytes that stand behind their number.
func (b *Buf) Sized() []byte { return b.Bytes(b.Count(1)) }

// Text is Sized, copied to a string.
func (b *Buf) Text() string { return string(b.Sized()) }

// Byte reads one.
func (b *Buf) Byte() byte {
	if b.Off >= len(b.B) {
		b.Fail("cut short")
		return 0
	}
	b.Off++
	return b.B[b.Off-1]
}

// LE32 reads a number of 4 bytes, the lowest first.
func (b *Buf) LE32() uint32 {
	if p := b.Bytes(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// LE64 reads a number of 8 bytes, the lowest first.
func (b *Buf) LE64() uint64 {
	if p := b.Bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// BE64 reads a number of 8 bytes, the highest first.
func (b *Buf) BE64() uint64 {
	if p := b.Bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// Float reads the bits of a float as LE64.
func (b *Buf) Float() float64 { return math.Float64frombits(b.LE64()) }
