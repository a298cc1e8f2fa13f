// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/ingest"
)

// MalformedError says where a body is not the message it should be.
type MalformedError struct {
	Message string // the protobuf message
	Field   int32  // 0: between fields
	Msg     string
}

// Error returns the place and what is wrong there.
func (e *MalformedError) Error() string {
	if e.Field == 0 {
		return fmt.Sprintf("malformed %s: %s", e.Message, e.Msg)
	}
	return fmt.Sprintf("malformed %s, field %d: %s", e.Message, e.Field, e.Msg)
}

// fields iterates over the fields of one message. A value is valid until the next call of next.
type fields struct {
	message string // for errors
	buf     []byte
	pos     int

	number int32
	wire   protowire.Type
	start  int    // where the field begins
	bytes  []byte // of a field with a length
	value  uint64 // of a number, as it stands on the wire
	err    error
}

// next reads a field, and reports whether there was one.
func (f *fields) next() bool {
	if f.err != nil || f.pos == len(f.buf) {
		return false
	}
	f.start = f.pos
	number, wire, n := protowire.ConsumeTag(f.buf[f.pos:])
	if n < 0 {
		return f.fail(0, n)
	}
	f.pos += n
	f.number, f.wire = int32(number), wire
	rest := f.buf[f.pos:]
	switch wire {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(rest)
	case protowire.Fixed64Type:
		f.value, n = protowire.ConsumeFixed64(rest)
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(rest)
	default:
		n = protowire.ConsumeFieldValue(number, wire, rest)
	}
	if n < 0 {
		return f.fail(int32(number), n)
	}
	f.pos += n
	return true
}

func (f *fields) fail(number int32, n int) bool {
	f.err = &MalformedError{Message: f.message, Field: number, Msg: protowire.ParseError(n).Error()}
	return false
}

// is reports whether the field has the wire type that its number has; where it does not, the message is malformed.
func (f *fields) is(wire protowire.Type) bool {
	if f.wire != wire && f.err == nil {
		f.err = &MalformedError{Message: f.message, Field: f.number, Msg: fmt.Sprintf("wire type %d instead of %d", f.wire, wire)}
	}
	return f.err == nil
}

// take returns the bytes of the field. What is singular in the message must not have been there before: putting parts of
// messages together is legal protobuf that nobody writes.
func (f *fields) take(before []byte) []byte {
	if !f.is(protowire.BytesType) {
		return nil
	}
	if before != nil {
		f.err = &MalformedError{Message: f.message, Field: f.number, Msg: "it is there twice"}
		return nil
	}
	return slices.Clip(f.bytes)
}

// repeated calls add with each number of a repeated field, packed or not.
func (f *fields) repeated(wire protowire.Type, add func(uint64)) {
	if f.wire == wire {
		add(f.value)
		return
	}
	if !f.is(protowire.BytesType) {
		return
	}
	for rest := f.bytes; len(rest) > 0; {
		var v uint64
		var n int
		if wire == protowire.Fixed64Type {
			v, n = protowire.ConsumeFixed64(rest)
		} else {
			v, n = protowire.ConsumeVarint(rest)
		}
		if n < 0 {
			f.fail(f.number, n)
			return
		}
		add(v)
		rest = rest[n:]
	}
}

// appendMessage appends a field with a length.
func appendMessage(dst []byte, number int32, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, protowire.Number(number), protowire.BytesType), value)
}

// maxNesting is how deep the lists and maps in the value of an attribute may be nested. Whoever reads them recurses.
const maxNesting = 32

var errNesting = errors.New("the value of an attribute is nested too deeply")

// checkAttributes reports attributes, fields of this number in a message, that are nested more deeply than maxNesting, or
// so many that no series could have them: the time that the translator takes grows with their square.
func checkAttributes(msg []byte, number int32) error {
	n := 0
	return eachMessage(msg, "KeyValue", number, func(pair []byte) error {
		if n++; n > ingest.MaxLabels {
			return fmt.Errorf("there are more than %d attributes", ingest.MaxLabels)
		}
		return checkKeyValue(pair, 0)
	})
}

func checkKeyValue(msg []byte, depth int) error {
	return eachMessage(msg, "KeyValue", 2, func(value []byte) error { return checkValue(value, depth) })
}

func checkValue(msg []byte, depth int) error {
	if depth++; depth > maxNesting {
		return errNesting
	}
	err := eachMessage(msg, "AnyValue", 5, func(list []byte) error {
		return eachMessage(list, "ArrayValue", 1, func(value []byte) error { return checkValue(value, depth) })
	})
	if err != nil {
		return err
	}
	return eachMessage(msg, "AnyValue", 6, func(list []byte) error {
		return eachMessage(list, "KeyValueList", 1, func(pair []byte) error { return checkKeyValue(pair, depth) })
	})
}

// eachMessage calls visit with each field of a number that has a length.
func eachMessage(msg []byte, name string, number int32, visit func([]byte) error) error {
	f := fields{message: name, buf: msg}
	for f.next() {
		if f.number == number && f.wire == protowire.BytesType {
			if err := visit(f.bytes); err != nil {
				return err
			}
		}
	}
	return f.err
}
