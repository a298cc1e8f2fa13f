// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// build writes and opens the index of series, which are in order.
func build(t failer, series []labels.Labels) (*Reader, []byte) {
	t.Helper()
	b := NewBuilder(nil)
	defer b.Close()
	for _, ls := range series {
		if err := b.AddSeries(ls); err != nil {
			t.Fatalf("add: %v", err)
		}
	}
	raw, err := b.AppendTo(nil)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	r, err := OpenReader(raw)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return r, raw
}

func modelOf(series []labels.Labels) model {
	m := model{}
	for i, ls := range series {
		m[uint32(i)] = ls
	}
	return m
}

func checkSeries(t failer, r *Reader, series []labels.Labels) {
	t.Helper()
	if r.N() != len(series) {
		t.Fatalf("%d series, want %d", r.N(), len(series))
	}
	b := labels.NewScratchBuilder(8)
	hashes := hashesOf(t, r, testSeed)
	for i, ls := range series {
		if got := r.Labels(uint32(i), &b); !labels.Equal(got, ls) {
			t.Fatalf("series %d is %s, want %s", i, got, ls)
		}
		if want := testSeed.Labels(ls); hashes[i] != want {
			t.Fatalf("hash of series %d is %x, want %x", i, hashes[i], want)
		}
	}
}

func TestReaderAnswersMatcherCornersLikePrometheus(t *testing.T) {
	r, _ := build(t, nil)
	checkCorners(t, r, model{})
	series := cornerSeries()
	r, _ = build(t, series)
	checkSeries(t, r, series)
	checkCorners(t, r, modelOf(series))
}

func TestReaderEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var series []labels.Labels
		for range rapid.SampledFrom([]int{0, 1, 5, 30, 150}).Draw(t, "series") {
			series = append(series, genLabels(t))
		}
		slices.SortFunc(series, labels.Compare)
		series = slices.CompactFunc(series, labels.Equal)
		r, _ := build(t, series)
		checkSeries(t, r, series)
		for range 4 {
			compare(t, r, modelOf(series), genMatchers(t), rapid.IntRange(0, 3).Draw(t, "limit"))
		}
	})
}

func TestReaderHoldsAFleet(t *testing.T) {
	series := sortedFleet(20_000)
	r, raw := build(t, series)
	checkSeries(t, r, series)
	perSeries := float64(len(raw)) / float64(len(series))
	t.Logf("%.1f bytes per series, %.1f in memory", perSeries, float64(r.Bytes())/float64(len(series)))
	if perSeries > 12 {
		t.Errorf("%.1f bytes per series", perSeries)
	}
	// Beside the bytes: where every 16th series and value and each list begins, and room for decoded values.
	tables := int64(len(series))*4/groupSize + int64(len(r.lists))*(4+12) + 4<<10
	if got := r.Bytes() - int64(len(raw)); got > tables {
		t.Errorf("%d bytes in memory beside the index, want %d at most", got, tables)
	}
}

func TestBuilderAppendsBehindOtherBytes(t *testing.T) {
	b := NewBuilder(nil)
	defer b.Close()
	if err := b.AddSeries(labels.FromStrings("a", "x")); err != nil {
		t.Fatal(err)
	}
	alone, err := b.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := b.AppendTo([]byte("front"))
	if err != nil || string(behind) != "front"+string(alone) {
		t.Errorf("%q, %v, want front and %q", behind, err, alone)
	}
}

func TestBuilderRefusesDisorder(t *testing.T) {
	check := func(want error, series ...labels.Labels) {
		t.Helper()
		b := NewBuilder(nil)
		defer b.Close()
		var err error
		for _, ls := range series {
			if err = b.AddSeries(ls); err != nil {
				break
			}
		}
		if !errors.Is(err, want) {
			t.Errorf("%v: error %v, want %v", series, err, want)
		}
	}
	from := labels.FromStrings
	check(nil, from("a", "x"), from("a", "x", "b", "y"), from("a", "y"), from("b", "a"))
	check(ErrOrder, from("a", "x"), from("a", "x"))
	check(ErrOrder, from("a", "y"), from("a", "x"))
	check(ErrOrder, from("a", "x", "b", "y"), from("a", "x"))
	check(ErrOrder, from("b", "x"), from("a", "y"))
	check(ErrOrder, labels.EmptyLabels(), labels.EmptyLabels())
	check(nil, labels.EmptyLabels(), from("a", "x"))
	check(ErrLabels, from("a", ""))
	check(ErrLabels, from("", "x"))
	check(ErrLabels, from("a", "x", "a", "y"))
}

func TestBuilderStopsAtItsBudget(t *testing.T) {
	root := budget.NewRoot("test", 1<<20)
	b := NewBuilder(root)
	var err error
	for i := 0; err == nil && i < 1e6; i++ {
		err = b.AddSeries(labels.FromStrings("a", fmt.Sprintf("%07d", i)))
	}
	if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
		t.Errorf("error %v", err)
	}
	b.Close()
	if root.Used() != 0 {
		t.Errorf("%d bytes in use after Close", root.Used())
	}
}

// probe asks a reader over hostile bytes for everything.
func probe(t *testing.T, r *Reader) {
	b := labels.NewScratchBuilder(8)
	for id := range min(r.N(), 100) {
		r.Labels(uint32(id), &b)
	}
	hashesOf(t, r, testSeed)
	if _, err := StatsOf(budget.NewTask(t.Context(), nil), 3, r, r); err != nil {
		t.Fatal(err)
	}
	for sym := range min(r.Symbols(), 100) {
		r.Symbol(uint32(sym))
	}
	for _, ms := range corners() {
		ids, err := r.Select(budget.NewTask(t.Context(), nil), ms)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if int(id) >= r.N() || i > 0 && id <= ids[i-1] {
				t.Fatalf("ids %v of %d series", ids, r.N())
			}
		}
		if _, err := r.LabelValues(budget.NewTask(t.Context(), nil), "a", ms, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaderSurvivesEveryFlippedBit(t *testing.T) {
	_, raw := build(t, cornerSeries())
	for i := range raw {
		for bit := range 8 {
			bad := slices.Clone(raw)
			bad[i] ^= 1 << bit
			if r, err := OpenReader(bad); err == nil {
				probe(t, r)
			} else if !errors.As(err, new(*FormatError)) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestReaderRefusesEveryTruncation(t *testing.T) {
	_, raw := build(t, cornerSeries())
	for n := range raw {
		if _, err := OpenReader(raw[:n:n]); err == nil {
			t.Fatalf("opened with %d of %d bytes", n, len(raw))
		}
	}
}

func FuzzOpenReader(f *testing.F) {
	_, raw := build(f, cornerSeries())
	f.Add(raw)
	_, raw = build(f, sortedFleet(100))
	f.Add(raw)
	f.Add([]byte(strings.Repeat("\x01\x00\x00\x00", 10)))
	f.Add(version1(raw, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := OpenReader(b); err == nil {
			probe(t, r)
		}
	})
}

// The values that a reader decodes stay in memory: in that of the budget, or they are decoded again each time.
func TestDecodedValuesAreChargedOrNotKept(t *testing.T) {
	var series []labels.Labels
	for i := range 500 {
		series = append(series, labels.FromStrings("pod", fmt.Sprintf("pod-with-a-long-name-%05d", i)))
	}
	check := func(limit, least, most int64) {
		t.Helper()
		r, _ := build(t, series)
		account := budget.NewRoot("decoded", limit)
		r.ChargeTo(account)
		for range 2 {
			checkSeries(t, r, series)
		}
		if got := account.Used(); got < least || got > most {
			t.Errorf("limit %d: %d bytes are charged, want %d to %d", limit, got, least, most)
		}
		r.Release()
		checkSeries(t, r, series)
		if got := account.Used(); got != 0 {
			t.Errorf("limit %d: %d bytes are charged after the release", limit, got)
		}
	}
	check(0, 500*(26+pairHashBytes), 500*(40+pairHashBytes))
	check(2000, 1, 2000)
	check(1, 0, 0)
}

func TestPairsOfManySeriesAreThoseOfEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(t, "n")
		var series []labels.Labels
		for i := range n {
			series = append(series, labels.FromStrings("a", fmt.Sprintf("%03d", i), fmt.Sprintf("b%d", i%3), "x"))
		}
		r, _ := build(t, series)
		ids := rapid.SliceOfDistinct(rapid.Uint32Range(0, uint32(n-1)), rapid.ID).Draw(t, "ids")
		slices.Sort(ids)
		next := 0
		r.EachPairs(ids, func(pairs []uint32) {
			if want := r.Pairs(ids[next], nil); !slices.Equal(want, pairs) {
				t.Fatalf("series %d of %d has %d, want %d", ids[next], ids, pairs, want)
			}
			next++
		})
		if next != len(ids) {
			t.Fatalf("%d of %d series", next, len(ids))
		}
	})
}
