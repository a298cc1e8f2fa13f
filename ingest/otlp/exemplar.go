// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/hex"
	"math"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// maxExemplarRunes is how long the labels of an exemplar may be, by the specification of OpenMetrics. Those that say
// which trace it is of are kept in any case.
const maxExemplarRunes = 128

// maxAttributeBytes is more than any attribute takes on the wire that an exemplar has room for.
const maxAttributeBytes = 4 << 10

// pair is a label.
type pair struct{ name, value string }

// exemplarMessage is what an Exemplar message says.
type exemplarMessage struct {
	t           uint64 // Unix nanoseconds
	v           float64
	hasValue    bool
	trace, span []byte
	attributes  []pair
	tooLong     bool // no use in reading all attributes
}

func (x *exemplarMessage) decode(msg []byte) error {
	*x = exemplarMessage{attributes: x.attributes[:0]}
	f := fields{message: "Exemplar", buf: msg}
	for f.next() {
		switch f.number {
		case 2:
			if f.is(protowire.Fixed64Type) {
				x.t = f.value
			}
		case 3:
			if f.is(protowire.Fixed64Type) {
				x.v, x.hasValue = math.Float64frombits(f.value), true
			}
		case 4:
			x.span = f.take(nil)
		case 5:
			x.trace = f.take(nil)
		case 6:
			if f.is(protowire.Fixed64Type) {
				x.v, x.hasValue = float64(int64(f.value)), true
			}
		case 7:
			x.attribute(&f)
		}
	}
	return f.err
}

func (x *exemplarMessage) attribute(outer *fields) {
	if !outer.is(protowire.BytesType) {
		return
	}
	if x.tooLong = x.tooLong || len(outer.bytes) > maxAttributeBytes || len(x.attributes) > maxExemplarRunes; x.tooLong {
		return
	}
	p, err := decodePair(outer.bytes)
	if err != nil {
		outer.err = err
	}
	x.attributes = append(x.attributes, p)
}

// decodePair reads a KeyValue message.
func decodePair(msg []byte) (p pair, err error) {
	f := fields{message: "KeyValue", buf: msg}
	for f.next() {
		switch f.number {
		case 1:
			p.name = string(f.take(nil))
		case 2:
			if !f.is(protowire.BytesType) {
				continue
			}
			v := pcommon.NewValueEmpty()
			if err := fill(v, f.bytes, 0); err != nil {
				return pair{}, err
			}
			p.value = v.AsString()
		}
	}
	return p, f.err
}

// fill sets v to an AnyValue message, so that its text is that which the translator makes of it.
func fill(v pcommon.Value, msg []byte, depth int) error {
	if depth++; depth > maxNesting {
		return errNesting
	}
	f := fields{message: "AnyValue", buf: msg}
	for f.next() {
		switch {
		case f.number == 1 && f.is(protowire.BytesType):
			v.SetStr(string(f.bytes))
		case f.number == 2 && f.is(protowire.VarintType):
			v.SetBool(f.value != 0)
		case f.number == 3 && f.is(protowire.VarintType):
			v.SetInt(int64(f.value))
		case f.number == 4 && f.is(protowire.Fixed64Type):
			v.SetDouble(math.Float64frombits(f.value))
		case f.number == 7 && f.is(protowire.BytesType):
			v.SetEmptyBytes().FromRaw(f.bytes)
		case (f.number == 5 || f.number == 6) && f.is(protowire.BytesType):
			if err := fillList(v, f.bytes, f.number == 6, depth); err != nil {
				return err
			}
		}
	}
	return f.err
}

func fillList(v pcommon.Value, msg []byte, isMap bool, depth int) error {
	if !isMap {
		list := v.SetEmptySlice()
		return eachMessage(msg, "ArrayValue", 1, func(value []byte) error { return fill(list.AppendEmpty(), value, depth) })
	}
	m := v.SetEmptyMap()
	return eachMessage(msg, "KeyValueList", 1, func(msg []byte) error {
		f := fields{message: "KeyValue", buf: msg}
		key, value := "", []byte(nil)
		for f.next() {
			switch f.number {
			case 1:
				key = string(f.take(nil))
			case 2:
				value = f.take(nil)
			}
		}
		if f.err != nil {
			return f.err
		}
		return fill(m.PutEmpty(key), value, depth)
	})
}

// sample makes an exemplar of a message; t is the time of its data point.
func (x *exemplarMessage) sample(b *ingest.LabelBuilder, t int64) (sample.Exemplar, error) {
	b.Reset()
	runes := 0
	id := func(name string, raw []byte, size int) {
		if len(raw) == size && !zeros(raw) {
			text := hex.AppendEncode(nil, raw)
			b.Add([]byte(name), text)
			runes += len(name) + len(text)
		}
	}
	id("trace_id", x.trace, 16)
	id("span_id", x.span, 8)
	for _, p := range x.attributes {
		runes += utf8.RuneCountInString(p.name) + utf8.RuneCountInString(p.value)
	}
	if runes <= maxExemplarRunes && !x.tooLong {
		for _, p := range x.attributes {
			b.Add([]byte(p.name), []byte(p.value))
		}
	}
	ls, err := b.Exemplar()
	if err != nil {
		return sample.Exemplar{}, err
	}
	e := sample.Exemplar{Labels: ls, V: x.v, T: millis(x.t), HasT: millis(x.t) != 0}
	if !e.HasT {
		e.T = t
	}
	return e, nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
