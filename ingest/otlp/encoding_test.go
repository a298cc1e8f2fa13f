// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
)

func message(number protowire.Number, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), body)
}

func fixed(number protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(nil, number, protowire.Fixed64Type), v)
}

func varint(number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
}

func text(number protowire.Number, s string) []byte { return message(number, []byte(s)) }

func attribute(number protowire.Number, key, value string) []byte {
	return message(number, text(1, key), message(2, text(1, value)))
}

// TestFieldsMayComeInAnyOrder sends encodings that are legal, and that no client writes: fields in another order, attributes
// apart, lists of numbers that are not packed, fields of a version to come.
func TestFieldsMayComeInAnyOrder(t *testing.T) {
	send := func(points ...[]byte) *stored {
		t.Helper()
		metric := message(2, message(9, append(points, varint(2, 2))...), text(1, "h"), text(3, "s"))
		body := message(1, message(2, metric, message(1, text(1, "lib"))), message(1, attribute(1, "service.name", "shop")))
		h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
		for range 2 {
			if n, reason := partial(t, post(h, protobuf, body)); n != 0 {
				t.Fatalf("%d points are rejected: %s", n, reason)
			}
		}
		return h.stored()
	}
	a, b, c := attribute(9, "a", "1"), attribute(9, "b", "2"), attribute(9, "c", "3")
	at, count, total := fixed(3, 1_700_000_000_000_000_000), fixed(4, 6), fixed(5, math.Float64bits(2.5))
	packed := func(number protowire.Number, values ...uint64) []byte {
		var list []byte
		for _, v := range values {
			list = protowire.AppendFixed64(list, v)
		}
		return message(number, list)
	}
	one, two := math.Float64bits(1), math.Float64bits(2)
	usual := message(1, a, b, c, at, count, total, packed(6, 1, 2, 3), packed(7, one, two))
	want := send(usual)
	if len(want.rows) != 5 {
		t.Fatalf("%d rows: %q", len(want.rows), want.rows)
	}
	check := func(point []byte) {
		t.Helper()
		same(t, send(point), want)
	}
	check(message(1, packed(7, one, two), packed(6, 1, 2, 3), total, count, at, c, b, a))
	check(message(1, a, at, b, count, c, total, packed(6, 1, 2, 3), packed(7, one, two)))
	check(message(1, c, at, b, a, count, total, packed(6, 1, 2, 3), packed(7, one, two)))
	check(message(1, a, b, c, at, count, total, fixed(6, 1), packed(6, 2, 3), fixed(7, one), fixed(7, two)))
	check(message(1, varint(99, 7), a, b, c, text(98, "new"), at, count, total, packed(6, 1, 2, 3), packed(7, one, two), fixed(97, 1)))
}
