// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"runtime"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// timesOf makes the i-th of many columns of times.
func timesOf(i int) []int64 { return []int64{int64(i), int64(i) + 10, int64(i) + 20 + int64(i%3)} }

// newTimes returns a writer of times that knows at most limit of them, and notes what it writes by cell.
func newTimes(limit int, stored *[]int) *timeWriter {
	w := &timeWriter{}
	w.init(&encoding.Encoder{}, limit)
	w.emit = func(cell uint32, s *timeStripeWriter) error {
		*stored = append(*stored, len(s.sizes))
		return nil
	}
	return w
}

// number asks for the number of a column and fails the test on an error.
func (w *timeWriter) mustNumber(t *testing.T, cell uint32, times []int64) uint32 {
	t.Helper()
	n, err := w.number(cell, times)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTimesAreStoredOncePerCell(t *testing.T) {
	var stored []int
	w := newTimes(100, &stored)
	for range 3 {
		for cell := range uint32(2) {
			for i := range 5 {
				if n := w.mustNumber(t, cell, timesOf(i)); n != uint32(i) {
					t.Errorf("column %d of cell %d has number %d", i, cell, n)
				}
			}
		}
	}
	for cell := range uint32(2) {
		if n := w.cells[cell].next; n != 5 {
			t.Errorf("cell %d has %d columns", cell, n)
		}
	}
}

// TestTimesOfOneRowAreToldApart has times that differ by what their cells differ by, moved up by any bits.
func TestTimesOfOneRowAreToldApart(t *testing.T) {
	for shift := range 60 {
		var stored []int
		w := newTimes(1000, &stored)
		for cell := range uint32(8) {
			w.mustNumber(t, cell, []int64{int64(cell) << shift})
			if w.cells[cell].next != 1 {
				t.Fatalf("time %d of cell %d was taken for another", int64(cell)<<shift, cell)
			}
		}
	}
}

func TestTimesThatNobodySharesAreForgottenFirst(t *testing.T) {
	const limit = 40
	var stored []int
	w := newTimes(limit, &stored)
	numbers := map[int]uint32{}
	for range 2 { // shared by two pages
		for i := range 20 {
			numbers[i] = w.mustNumber(t, 0, timesOf(i))
		}
	}
	for i := 1000; i < 11_000; i++ { // and ten thousand series with times of their own
		w.mustNumber(t, 0, timesOf(i))
		if len(w.known) > limit {
			t.Fatalf("%d columns are known", len(w.known))
		}
	}
	for i := range 20 {
		if n := w.mustNumber(t, 0, timesOf(i)); n != numbers[i] {
			t.Errorf("column %d was forgotten", i)
		}
	}
	if n := w.mustNumber(t, 0, timesOf(1000)); n == 20 {
		t.Error("a column that nobody shares was kept over ten thousand others")
	}
	total := 0
	for _, n := range stored {
		total += n
	}
	if got := total + len(w.cells[0].sizes); got != int(w.cells[0].next) || got < 10_020 {
		t.Errorf("%d columns stored, %d numbers given", got, w.cells[0].next)
	}
}

func TestSharedTimesAreKeptWhenThereAreTooMany(t *testing.T) {
	const limit, all = 100, 1000
	var stored []int
	w := newTimes(limit, &stored)
	for range 4 { // metric after metric, over targets that are more than the limit
		for i := range all {
			w.mustNumber(t, 0, timesOf(i))
			w.mustNumber(t, 0, timesOf(i))
		}
	}
	known := 0
	for i := range all {
		before := w.cells[0].next
		w.mustNumber(t, 0, timesOf(i))
		if w.cells[0].next == before {
			known++
		}
	}
	if known < limit/2 || len(w.known) > limit {
		t.Errorf("%d of %d columns known", known, all)
	}
}

// Many cells are filled side by side: what is unfinished of them keeps to its bound, and every column is stored once.
func TestUnfinishedStripesOfTimesKeepToTheirMemory(t *testing.T) {
	const cells, rounds, most = 300, 60, 400_000
	var stored []int
	w := newTimes(1<<20, &stored)
	w.most = most
	for round := range rounds {
		for cell := range uint32(cells) {
			times := make([]int64, 1+int(cell)%40)
			for i := range times {
				times[i] = int64(100_000*i + round*round*round%9973*i + int(cell))
			}
			if n := w.mustNumber(t, cell, times); n > uint32(round) {
				t.Fatalf("column %d of cell %d has number %d", round, cell, n)
			}
			if again := w.mustNumber(t, cell, times); again >= w.cells[cell].next {
				t.Fatalf("cell %d has no column %d", cell, again)
			}
			held := int64(0)
			for i := range w.cells {
				held += w.cells[i].bytes()
			}
			if held != w.filling || held > most {
				t.Fatalf("%d bytes are held, %d counted", held, w.filling)
			}
		}
	}
	given, kept := 0, 0
	for i := range w.cells {
		given += int(w.cells[i].next)
		kept += len(w.cells[i].sizes)
	}
	for _, n := range stored {
		kept += n
	}
	if given != kept || len(stored) < 10 || len(stored) > cells*rounds/4 {
		t.Errorf("%d numbers given, %d columns kept in %d stripes", given, kept, len(stored))
	}
}

func TestLoadedTimesAreCountedAsIfParsed(t *testing.T) {
	const rows, columns = 400, 5
	var e encoding.Encoder
	check := func(what string, low, high int64, next func(i int) int64) {
		t.Helper()
		var sizes, counts []int64
		var data []byte
		for range columns {
			var times []int64
			for i, at := 0, int64(0); i < rows; i++ {
				times = append(times, at)
				at += next(i)
			}
			start := len(data)
			data = e.AppendTimes(data, times)
			sizes, counts = append(sizes, int64(len(data)-start)), append(counts, rows)
		}
		var b []byte
		for _, x := range [][]int64{sizes, counts, make([]int64, columns)} {
			b = appendColumn(b, &e, x)
		}
		b = append(b, data...)
		l, c := parseTimeStripe(b, columns)
		if c.Failed() {
			t.Fatal(c.Fault())
		}
		if n := l.bytes() - int64(len(b)); n < low || n > high {
			t.Errorf("%s: %d bytes beside the %d of the stripe", what, n, len(b))
		}
	}
	const lists = 8 * rows * columns
	check("regular", 0, 1000, func(int) int64 { return 15_000 })
	check("one scrape left out", lists, lists+1000, func(i int) int64 {
		if i == 200 {
			return 30_000
		}
		return 15_000
	})
	check("irregular", lists, lists+1000, func(i int) int64 { return 15_000 + int64(i*i%7) })
}

func TestTimesOfASeriesThatMissesScrapesArePartOfItsNeighbours(t *testing.T) {
	const rows = 400
	all := make([]int64, rows)
	for i := range all {
		all[i] = int64(i)*15_000 + int64(i*i%7) // a jitter that cannot be told from noise
	}
	var stored []int
	w := newTimes(100, &stored)
	check := func(what string, times []int64, base int64) {
		t.Helper()
		before := len(w.cells[0].sizes)
		w.mustNumber(t, 0, times)
		s := &w.cells[0]
		if len(s.sizes) != before+1 || s.bases[before] != base || base > 0 && s.sizes[before] > 20 {
			t.Errorf("%s: base %d, %d bytes", what, s.bases[before], s.sizes[before])
		}
	}
	w.cells = append(w.cells, timeStripeWriter{})
	check("all", all, 0)
	check("one that came", all[150:], 1)
	check("one that went", all[:250], 2)
	check("one that missed a scrape", slices.Concat(all[:100], all[101:]), 3)
	other := slices.Clone(all)
	other[200]++
	check("another target", other, 0)
	check("one that came there", other[150:], 1)
	check("one that came at first", all[160:], 6)
	check("a time that no other has", append(slices.Clone(all), all[rows-1]+1), 0)
}

// A column that says it has more rows than its stripe says gets no memory for them.
func TestTimesOfAnotherLengthAreRefusedUnread(t *testing.T) {
	var e encoding.Encoder
	times := make([]int64, 500_000)
	for i := range times {
		times[i] = 10 * int64(i)
	}
	times[7]++ // else there is no list of them
	column := e.AppendTimes(nil, times)
	b := appendColumn(nil, &e, []int64{int64(len(column))})
	b = appendColumn(appendColumn(b, &e, []int64{2}), &e, []int64{0})
	l, c := parseTimeStripe(append(b, column...), 1)
	if c.Failed() {
		t.Fatal(c.Fault())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, msg := l.column(0, nil)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; msg == "" || took > 1<<20 {
		t.Errorf("message %q, %d bytes", msg, took)
	}
}
