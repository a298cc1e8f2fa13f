// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// statsOf counts by looking at every series of every index.
func statsOf(limit int, indexes ...[]labels.Labels) Stats {
	var s Stats
	pairs := map[labels.Label]uint64{}
	for _, series := range indexes {
		s.Series = max(s.Series, len(series))
		here := map[labels.Label]uint64{}
		for _, ls := range series {
			ls.Range(func(l labels.Label) { here[l]++ })
		}
		for l, n := range here {
			pairs[l] = max(pairs[l], n)
		}
	}
	values, bytes := map[string]uint64{}, map[string]uint64{}
	for l, n := range pairs {
		values[l.Name]++
		bytes[l.Name] += uint64(len(l.Value))
		s.SeriesByLabelPair = append(s.SeriesByLabelPair, Stat{l.Name + "=" + l.Value, n})
		if l.Name == labels.MetricName {
			s.SeriesByMetric = append(s.SeriesByMetric, Stat{l.Value, n})
		}
	}
	for name := range values {
		s.ValuesByLabel = append(s.ValuesByLabel, Stat{name, values[name]})
		s.BytesByLabel = append(s.BytesByLabel, Stat{name, bytes[name]})
		s.SymbolBytes += int64(bytes[name]) + int64(len(name))
	}
	s.LabelPairs = len(pairs)
	for _, list := range []*[]Stat{&s.SeriesByMetric, &s.ValuesByLabel, &s.BytesByLabel, &s.SeriesByLabelPair} {
		slices.SortFunc(*list, func(a, b Stat) int { return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Name, b.Name)) })
		*list = (*list)[:min(limit, len(*list))]
	}
	return s
}

func TestStatsOfIndexesAreThoseOfTheirSeries(t *testing.T) {
	one, other, third := sortedFleet(900), sortedFleet(2500)[600:], cornerSeries()
	for i := range 3000 {
		third = append(third, labels.FromStrings("__name__", fmt.Sprintf("m%d", i%9), "session", fmt.Sprintf("%05d", i*7%3000)))
	}
	slices.SortFunc(third, labels.Compare)
	readerOf := func(series []labels.Labels) Countable {
		r, _ := build(t, series)
		return r
	}
	memOf := func(series []labels.Labels) Countable {
		h := newHead()
		for i, ls := range series {
			h.add(t, uint32(i), ls)
		}
		return h.mem
	}
	tallyOf := func(series []labels.Labels) Countable {
		r, _ := build(t, series)
		ids := make([]uint32, len(series))
		for i := range ids {
			ids[i] = uint32(i)
		}
		y := NewTally(budget.NewTask(t.Context(), nil))
		r.EachPairs(ids, func(pairs []uint32) { y.Add(pairs) })
		err := y.Name(func(syms []uint32, dst []string) []string {
			for _, sym := range syms {
				dst = append(dst, r.Symbol(sym))
			}
			return dst
		})
		if err != nil {
			t.Fatal(err)
		}
		return y
	}
	check := func(what string, limit int, got []Countable, indexes ...[]labels.Labels) {
		t.Helper()
		s, err := StatsOf(budget.NewTask(t.Context(), nil), limit, got...)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		s.MemUsed = 0
		if diff := gocmp.Diff(statsOf(limit, indexes...), s); diff != "" {
			t.Errorf("%s, limit %d:\n%s", what, limit, diff)
		}
	}
	for _, limit := range []int{1, 10, 10_000} {
		check("a block", limit, []Countable{readerOf(third)}, third)
		check("the head", limit, []Countable{memOf(third)}, third)
		check("series counted one by one", limit, []Countable{tallyOf(third)}, third)
		check("some counted one by one", limit, []Countable{readerOf(one), tallyOf(other)}, one, other)
		check("two blocks", limit, []Countable{readerOf(one), readerOf(other)}, one, other)
		check("blocks and head", limit, []Countable{readerOf(one), readerOf(third), memOf(other)}, one, third, other)
	}
	check("nothing", 10, nil)
	check("an empty block", 10, []Countable{readerOf(nil), memOf(nil)}, nil)
}

// Series and values that leave while they are counted are counted or not; what stays is.
func TestStatsOfAHeadWhoseSeriesLeave(t *testing.T) {
	h := newHead()
	var gone []uint32
	for i := range uint32(4000) {
		h.add(t, i, labels.FromStrings("a", fmt.Sprintf("%05d", i/2)))
		if i%4 > 1 || i < 100 {
			gone = append(gone, i)
		}
	}
	task := budget.NewTask(t.Context(), nil)
	c := h.mem.countValues(task, "a")
	h.remove(gone)
	h.add(t, 0, labels.FromStrings("b", "takes the number of a pair")) // or of a symbol
	want := len(c.(*memCursor).table.entries)
	series := 0
	for c.next() {
		text, n := c.value()
		var i uint32
		if _, err := fmt.Sscanf(text, "%d", &i); err != nil {
			t.Fatal(err)
		}
		if left := i%2 == 0 && i >= 50; left != (n == 2) || n == 1 {
			t.Fatalf("%s has %d series", text, n)
		}
		series += n
		want--
	}
	if want != 0 || series != h.mem.Len()-1 {
		t.Errorf("%d values are left out, %d series of %d", want, series, h.mem.Len()-1)
	}
}

// A tally pays for each label before it has it, and ends where it must not.
func TestATallyKeepsToItsBudget(t *testing.T) {
	account := budget.NewRoot("test", 100_000)
	task := budget.NewTask(t.Context(), account)
	y := NewTally(task)
	n := 0
	for y.Add([]uint32{1, uint32(n)}) && n < 10_000 {
		n++
	}
	if n < 100 || n > 1000 || y.Name(func([]uint32, []string) []string { return nil }) == nil {
		t.Errorf("%d labels in 100 kB, error %v", n, task.Err())
	}
	if task.Settle(0); account.Used() != 0 {
		t.Errorf("%d bytes stay charged", account.Used())
	}
}

func TestStatsEndWithTheContext(t *testing.T) {
	r, _ := build(t, sortedFleet(20_000))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := StatsOf(budget.NewTask(ctx, nil), 10, r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Counting looks at each value once and keeps the lists alone: the limit is what memory depends on.
func TestStatsTakeMemoryForTheirListsAlone(t *testing.T) {
	var series []labels.Labels
	for i := range 50_000 {
		series = append(series, labels.FromStrings("a", fmt.Sprintf("%08d", i)))
	}
	r, _ := build(t, series)
	ctx := &counted{Context: t.Context()}
	took := testing.AllocsPerRun(1, func() {
		if s, err := StatsOf(budget.NewTask(ctx, nil), 10, r); err != nil || s.ValuesByLabel[0].Value != 50_000 {
			t.Errorf("%+v, %v", s, err)
		}
	})
	if took > 500 || ctx.looks > 2*(50_000/(1<<13)+2) {
		t.Errorf("%.0f allocations, %d looks at the context", took, ctx.looks)
	}
}
