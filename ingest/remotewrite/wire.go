// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MalformedError says that a body is not the protobuf message it should be.
type MalformedError struct {
	Msg string
}

// Error returns what is wrong.
func (e *MalformedError) Error() string { return "malformed remote-write message: " + e.Msg }

// The wire types of protobuf.
const (
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireStartGroup = 3
	wireEndGroup   = 4
	wireFixed32    = 5
)

// reader walks the fields of one protobuf message. After the first error it yields nothing any more.
type reader struct {
	buf []byte
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &MalformedError{Msg: fmt.Sprintf(format, args...)}
	}
	r.pos = len(r.buf)
}

// next reads the tag of the next field and reports whether there is one.
func (r *reader) next() (number int32, wire int, ok bool) {
	if r.pos >= len(r.buf) {
		return 0, 0, false
	}
	tag := r.uvarint()
	number, wire = int32(tag>>3), int(tag&7)
	if r.err == nil && (number <= 0 || wire == wireEndGroup) {
		r.fail("field %d of wire type %d", number, wire)
	}
	return number, wire, r.err == nil
}

// uvarint reads a variable-length integer; bits beyond the 64th are cut off, as protobuf has it.
func (r *reader) uvarint() uint64 {
	if r.pos < len(r.buf) && r.buf[r.pos] < 0x80 { // most tags and lengths
		v := r.buf[r.pos]
		r.pos++
		return uint64(v)
	}
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if r.pos >= len(r.buf) {
			r.fail("it ends within an integer")
			return 0
		}
		b := r.buf[r.pos]
		r.pos++
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail("an integer is longer than ten bytes")
	return 0
}

// bytes reads a length and so many bytes, which alias the message.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.buf)-r.pos) {
		r.fail("a field of %d bytes where %d are left", n, len(r.buf)-r.pos)
		return nil
	}
	b := r.buf[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

func (r *reader) fixed64() uint64 {
	if len(r.buf)-r.pos < 8 {
		r.fail("it ends within a number")
		return 0
	}
	v := binary.LittleEndian.Uint64(r.buf[r.pos:])
	r.pos += 8
	return v
}

func (r *reader) double() float64 { return math.Float64frombits(r.fixed64()) }

// expect reports whether a known field has the wire type it must have.
func (r *reader) expect(number int32, wire, want int) bool {
	if wire != want {
		r.fail("field %d has wire type %d, not %d", number, wire, want)
	}
	return wire == want
}

// skip passes over the value of a field that is not known.
func (r *reader) skip(wire int) {
	for depth := 0; ; {
		switch wire {
		case wireVarint:
			r.uvarint()
		case wireFixed64:
			r.advance(8)
		case wireBytes:
			r.bytes()
		case wireStartGroup:
			depth++
		case wireEndGroup:
			depth--
		case wireFixed32:
			r.advance(4)
		default:
			r.fail("wire type %d does not exist", wire)
		}
		if r.err != nil || depth <= 0 {
			return
		}
		if r.pos >= len(r.buf) {
			r.fail("it ends within a group")
			return
		}
		wire = int(r.uvarint() & 7)
	}
}

func (r *reader) advance(n int) {
	if len(r.buf)-r.pos < n {
		r.fail("it ends within a number")
		return
	}
	r.pos += n
}

// zigzag decodes a signed integer of the types sint32 and sint64.
func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// repeated calls f for each element of a repeated number, packed or not, of which want is the wire type.
func (r *reader) repeated(number int32, wire, want int, f func(*reader)) {
	if wire != wireBytes {
		if r.expect(number, wire, want) {
			f(r)
		}
		return
	}
	packed := reader{buf: r.bytes()}
	for packed.pos < len(packed.buf) {
		f(&packed)
	}
	if packed.err != nil {
		r.fail("packed field %d: %v", number, packed.err)
	}
}

// refs appends the elements of a repeated reference, packed or not, to dst. It is repeated without a callback, for
// the path that every sample takes.
func (r *reader) refs(dst []uint32, number int32, wire int) []uint32 {
	if wire != wireBytes {
		if r.expect(number, wire, wireVarint) {
			dst = appendRef(dst, uint32(r.uvarint()))
		}
		return dst
	}
	packed := r.bytes()
	for at := 0; at < len(packed); {
		ref := uint32(packed[at])
		switch {
		case ref < 0x80:
			at++
		case at+1 < len(packed) && packed[at+1] < 0x80:
			ref = ref&0x7f | uint32(packed[at+1])<<7
			at += 2
		default:
			long := reader{buf: packed, pos: at}
			ref = uint32(long.uvarint())
			if at = long.pos; long.err != nil {
				r.fail("packed field %d: %v", number, long.err)
				return dst
			}
		}
		dst = appendRef(dst, ref)
	}
	return dst
}

// plainSample reads a Sample message that is what all senders write: a value, unless it is 0, a time, and nothing else. For
// any other message ok is false, and the message is to be read field by field.
func plainSample(msg []byte) (t int64, v float64, ok bool) {
	const valueTag, timeTag = 1<<3 | wireFixed64, 2<<3 | wireVarint
	if len(msg) > 9 && msg[0] == valueTag {
		v, msg = math.Float64frombits(binary.LittleEndian.Uint64(msg[1:])), msg[9:]
	}
	if len(msg) < 2 || len(msg) > 10 || msg[0] != timeTag {
		return 0, 0, false
	}
	last := len(msg) - 1
	var u uint64
	for i, b := range msg[1:] {
		if (b < 0x80) != (i+1 == last) {
			return 0, 0, false
		}
		u |= uint64(b&0x7f) << (7 * i)
	}
	return int64(u), v, true
}
