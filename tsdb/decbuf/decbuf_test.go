// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package decbuf_test

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
)

func TestWhatWasWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, i, text := rapid.Uint64().Draw(t, "u"), rapid.Int64().Draw(t, "i"), rapid.String().Draw(t, "text")
		p := binary.AppendUvarint(nil, u)
		p = binary.AppendVarint(p, i)
		p = append(binary.AppendUvarint(p, uint64(len(text))), text...)
		p = append(p, 7)
		p = binary.LittleEndian.AppendUint32(p, uint32(u))
		p = binary.LittleEndian.AppendUint64(p, math.Float64bits(float64(i)))
		p = binary.BigEndian.AppendUint64(p, u)
		b := decbuf.Buf{B: p}
		if got := b.Uvarint(); got != u {
			t.Fatalf("uvarint %d, want %d", got, u)
		}
		if got := b.Varint(); got != i {
			t.Fatalf("varint %d, want %d", got, i)
		}
		if got := b.Text(); got != text {
			t.Fatalf("text %q, want %q", got, text)
		}
		if one, four, f, eight := b.Byte(), b.LE32(), b.Float(), b.BE64(); one != 7 || four != uint32(u) || f != float64(i) || eight != u {
			t.Fatalf("fixed numbers %d %d %v %d of %d, %d", one, four, f, eight, u, i)
		}
		if b.Finish(); b.Failed() {
			t.Fatal(b.Fault())
		}
	})
}

func TestFirstFaultSticksAndSaysWhere(t *testing.T) {
	check := func(p []byte, read func(*decbuf.Buf), want string) {
		t.Helper()
		b := decbuf.Buf{B: p, Off: 1}
		if read(&b); !b.Failed() || b.Fault().Error() != want {
			t.Fatalf("fault %v, want %s", b.Fault(), want)
		}
		b.Fail("another")
		if u, f, p, n, text := b.Uvarint(), b.Float(), b.Sized(), b.Count(1), b.Text(); u != 0 || f != 0 || len(p) != 0 || n != 0 || text != "" {
			t.Fatalf("after a fault %d, %v, %v, %d and %q were read", u, f, p, n, text)
		}
		if b.Fault().Error() != want || b.Left() != 0 {
			t.Fatalf("fault %v with %d bytes left, want %s and none", b.Fault(), b.Left(), want)
		}
	}
	long := slices.Repeat([]byte{0xff}, 12)
	check([]byte{0}, func(b *decbuf.Buf) { b.Byte() }, "byte 1: cut short")
	check([]byte{0}, func(b *decbuf.Buf) { b.Uvarint() }, "byte 1: malformed number")
	check(long, func(b *decbuf.Buf) { b.Varint() }, "byte 1: malformed number")
	check([]byte{0, 1, 2, 3}, func(b *decbuf.Buf) { b.LE32() }, "byte 1: cut short")
	check([]byte{0, 1, 9, 3}, func(b *decbuf.Buf) { b.Byte(); b.LE64() }, "byte 2: cut short")
	check([]byte{0, 1, 9, 3}, func(b *decbuf.Buf) { b.BE64() }, "byte 1: cut short")
	check([]byte{0, 3, 9, 3}, func(b *decbuf.Buf) { b.Sized() }, "byte 2: more entries than bytes")
	check([]byte{0, 2, 9, 3, 4}, func(b *decbuf.Buf) { b.Count(2) }, "byte 2: more entries than bytes")
	check([]byte{0, 5}, func(b *decbuf.Buf) { b.AtMost(4, "kind") }, "byte 2: kind out of range")
	check([]byte{0, 5}, func(b *decbuf.Buf) { b.Bytes(-1) }, "byte 1: cut short")
	check([]byte{0, 5}, func(b *decbuf.Buf) { b.Finish() }, "byte 1: bytes left over")
}
