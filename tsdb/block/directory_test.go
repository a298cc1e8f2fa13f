// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

func TestDirectoryComesBack(t *testing.T) {
	var w directoryWriter
	w.times(&timeStripe{size: 70, crc: 7, cell: 1, cols: 30})
	w.stripe(&stripe{size: 100, crc: 1, cell: 0, minT: -50, maxT: -10}, 3, true)
	w.stripe(&stripe{size: 200, crc: 2, cell: 1, minT: 5, maxT: 5}, 3, false)
	w.emptyGroup(4)
	w.stripe(&stripe{size: 300, crc: 3, cell: 2, minT: 7, maxT: 1 << 60}, 2, true)
	w.times(&timeStripe{size: 80, crc: 8, cell: 0, cols: 20})
	w.times(&timeStripe{size: 90, crc: 9, cell: 1, cols: 10})
	d, c := parseGroups(w.appendTo(nil), 9, section{off: 16, size: 840})
	if c.Failed() {
		t.Fatal(c.Fault())
	}
	if want := []group{{0, 3, 0, 2}, {3, 4, 2, 2}, {7, 2, 2, 3}}; !slices.Equal(d.groups, want) {
		t.Errorf("groups %+v", d.groups)
	}
	if want := []stripe{
		{off: 86, size: 100, crc: 1, cell: 0, minT: -50, maxT: -10},
		{off: 186, size: 200, crc: 2, cell: 1, minT: 5, maxT: 5},
		{off: 386, size: 300, crc: 3, cell: 2, minT: 7, maxT: 1 << 60},
	}; !slices.Equal(d.stripes, want) {
		t.Errorf("stripes %+v", d.stripes)
	}
	if want := []timeStripe{
		{off: 686, size: 80, crc: 8, cell: 0, cols: 20},
		{off: 16, size: 70, crc: 7, cell: 1, cols: 30},
		{off: 766, size: 90, crc: 9, cell: 1, first: 30, cols: 10},
	}; !slices.Equal(d.times, want) {
		t.Errorf("stripes of times %+v", d.times)
	}
	check := func(cell, from, to uint32) {
		t.Helper()
		if a, b := d.ofCell(cell); a != from || b != to {
			t.Errorf("cell %d: stripes of times %d to %d", cell, a, b)
		}
	}
	check(0, 0, 1)
	check(1, 1, 3)
	check(2, 0, 0) // it has none
	check(99, 0, 0)
	for id, want := range []int{0, 0, 0, 1, 1, 1, 1, 2, 2} {
		if got := d.find(uint32(id)); got != want {
			t.Errorf("series %d is in group %d", id, got)
		}
	}
}

func TestWrongDirectoriesAreRefused(t *testing.T) {
	check := func(msg string, fill func(w *directoryWriter)) {
		t.Helper()
		var w directoryWriter
		fill(&w)
		_, c := parseGroups(w.appendTo(nil), 3, section{off: 16, size: 100})
		if !c.Failed() || !strings.Contains(c.Fault().Msg, msg) {
			t.Errorf("fault %v, want %q", c.Fault(), msg)
		}
	}
	whole := &stripe{size: 100, maxT: 9}
	check("do not hold the series", func(*directoryWriter) {})
	check("do not hold the series", func(w *directoryWriter) { w.stripe(whole, 2, true) })
	check("do not fill their section", func(w *directoryWriter) { w.stripe(&stripe{size: 99}, 3, true) })
	check("series of a group out of range", func(w *directoryWriter) { w.stripe(whole, 4, true) })
	check("group without series", func(w *directoryWriter) { w.stripe(whole, 0, true) })
	check("cell out of range", func(w *directoryWriter) { w.stripe(&stripe{size: 100, cell: 100}, 3, true) })
	check("cell out of range", func(w *directoryWriter) { w.times(&timeStripe{size: 100, cell: 100}) })
	check("columns of times out of range", func(w *directoryWriter) { w.times(&timeStripe{size: 100, cols: 101}) })
	check("out of place", func(w *directoryWriter) { w.stripe(whole, 3, false) })
	check("out of place", func(w *directoryWriter) { w.stripe(&stripe{size: 100, minT: 1 << 62, maxT: -1 << 62}, 3, true) })
	check("without a first", func(w *directoryWriter) {
		w.emptyGroup(3)
		w.stripe(whole, 3, false)
	})
	check("overlap in time", func(w *directoryWriter) {
		w.stripe(&stripe{size: 50, maxT: 9}, 3, true)
		w.stripe(&stripe{size: 50, minT: 9, maxT: 20}, 3, false)
	})
	check("bytes left over", func(w *directoryWriter) {
		w.stripe(whole, 3, true)
		w.b = append(w.b, 0)
	})
	check("stripe size out of range", func(w *directoryWriter) { w.stripe(&stripe{size: maxStripe + 1}, 3, true) })
}

// stripeOf makes a stripe of what its directory says, with pages of a byte each.
func stripeOf(kinds, sizes, times, refs []int64) []byte {
	var e encoding.Encoder
	var b []byte
	for _, x := range [][]int64{kinds, sizes, times, refs} {
		b = appendColumn(b, &e, x)
	}
	n := 0
	for _, size := range sizes {
		n += int(max(size, 0))
	}
	return append(b, make([]byte, min(n, 1000))...)
}

func TestWrongStripesAreRefused(t *testing.T) {
	const none, floats, rows = kindNone, kindFloats, kindRows
	check := func(msg string, b []byte) {
		t.Helper()
		_, c := parseStripe(b, 6)
		if msg == "" && c.Failed() || msg != "" && (!c.Failed() || !strings.Contains(c.Fault().Msg, msg)) {
			t.Errorf("fault %v, want %q", c.Fault(), msg)
		}
	}
	const wrongRef = "a reference to no column like it"
	kinds, sizes, times := []int64{floats, floats, rows, none, floats, floats}, []int64{1, 2, 3, 4, 5}, []int64{7, 7, 8, 7}
	good := stripeOf(kinds, sizes, times, []int64{0, 1, 0, 4})
	check("", good)
	check("pages do not fill the stripe", append(slices.Clone(good), 0))
	check("beyond the end", good[:len(good)-1])
	check("malformed number", nil)
	check("kinds of pages", []byte{1, 255, 0, 0, 0})
	check("of an unknown kind 4", stripeOf([]int64{4, 0, 0, 0, 0, 0}, nil, nil, nil))
	check("a reference to no column like it", stripeOf([]int64{kindHistograms, kindHistograms, 0, 0, 0, 0}, []int64{1, 1}, []int64{7, 7}, []int64{0, 1}))
	check("of an unknown kind 11", stripeOf([]int64{rows | flagStarts, 0, 0, 0, 0, 0}, nil, nil, nil))
	check("of an unknown kind -1", stripeOf([]int64{-1, 0, 0, 0, 0, 0}, nil, nil, nil))
	check("sizes of pages", stripeOf(kinds, nil, times, times))
	check("beyond the end", stripeOf(kinds, []int64{-1, 2, 3, 4, 5}, times, []int64{0, 1, 0, 4}))
	check("beyond the end", stripeOf(kinds, []int64{1, 2, 3, 4, 1 << 40}, times, []int64{0, 1, 0, 4}))
	check("without its column of times", stripeOf(kinds, sizes, []int64{-1, 7, 8, 7}, []int64{0, 0, 0, 0}))
	check("without its column of times", stripeOf(kinds, sizes, []int64{1 << 32, 7, 8, 7}, []int64{0, 0, 0, 0}))
	check(wrongRef, stripeOf(kinds, sizes, times, []int64{1, 0, 0, 0}))  // before the first
	check(wrongRef, stripeOf(kinds, sizes, times, []int64{0, -1, 0, 0})) // to a later one
	check(wrongRef, stripeOf(kinds, sizes, times, []int64{0, 0, 0, 1}))  // with other times
	check(wrongRef, stripeOf(kinds, sizes, times, []int64{0, 0, 0, 2}))  // to no page
	check(wrongRef, stripeOf(kinds, sizes, times, []int64{0, 0, 0, 3}))  // to a page without a column
	check("", stripeOf([]int64{1, 1, 1, 1, 1, 0}, []int64{1, 1, 1, 1, 1}, make([]int64, 5), []int64{0, 1, 1, 1, 1}))
	check(wrongRef, stripeOf([]int64{1, 1, 1, 1, 1, 1}, []int64{1, 1, 1, 1, 1, 1}, make([]int64, 6), []int64{0, 1, 1, 1, 1, 1}))
}
