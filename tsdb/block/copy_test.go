// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// copying yields the series of blocks by their pages, and counts those that had to be decoded.
type copying struct {
	blocks          []*block.Block
	series, decoded int
}

func (c *copying) source() block.Source { return block.Source{Series: c.each()} }

func (c *copying) each() iter.Seq2[block.Series, error] {
	return func(yield func(block.Series, error) bool) {
		ctx := context.Background()
		readers, next := make([]block.Reader, len(c.blocks)), make([]uint32, len(c.blocks))
		for i, b := range c.blocks {
			readers[i] = b.ReaderOnce()
		}
		var rows column.Block
		for {
			var s block.Series
			var of []int
			for i, b := range c.blocks {
				if int(next[i]) == b.Index().N() {
					continue
				}
				var lb labels.ScratchBuilder
				ls := b.Index().Labels(next[i], &lb)
				if d := labels.Compare(ls, s.Labels); len(of) == 0 || d < 0 {
					s.Labels, of = ls, append(of[:0], i)
				} else if d == 0 {
					of = append(of, i)
				}
			}
			if len(of) == 0 {
				return
			}
			rows.Reset()
			all, failed := true, error(nil)
			for _, i := range of {
				pages, ok, err := readers[i].Pages(ctx, next[i], &rows, s.Pages)
				s.Pages, all, failed = pages, all && ok, err
				if s.Exemplars == nil && err == nil {
					s.Exemplars, failed = c.blocks[i].Exemplars(ctx, next[i], allMin, allMax)
				}
			}
			c.series++
			s.Decode = func() (block.Series, error) {
				c.decoded++
				var got []row
				for _, i := range of {
					more, err := rowsOf(c.blocks[i], next[i], allMin, allMax, true)
					if err != nil {
						return s, err
					}
					got = append(got, more...)
				}
				slices.SortFunc(got, func(a, b row) int { return int(min(1, max(-1, a.T-b.T))) })
				for one, err := range (content{series: []testSeries{{labels: s.Labels, rows: got}}}).source().Series {
					s.Rows, s.From, s.To = one.Rows, one.From, one.To
					return s, err
				}
				return s, nil
			}
			if !all || !block.InOrder(s.Pages) {
				s.Pages = nil
				s, failed = s.Decode()
			}
			if !yield(s, failed) {
				return
			}
			for _, i := range of {
				next[i]++
			}
		}
	}
}

// writeAs writes a block of a level under a name, and opens it.
func writeAs(t failer, fs fsx.FS, id string, meta block.Meta, src block.Source) *block.Block {
	t.Helper()
	meta.ULID = id
	if _, err := block.Write(fs, "blocks", meta, src); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	b, err := block.Open(fs, block.Path("blocks", id), block.NewCache(16<<20, nil), block.Options{})
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return b
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Content is dealt out to blocks, by slots or, of some series, row by row. Merged by copying pages it is what it was.
func TestRandomMergesOfPagesComeBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := genContent(rt)
		meta := testMeta()
		meta.Slot = rapid.SampledFrom([]int64{60_000, 7_200_000, 1 << 37}).Draw(rt, "slot")
		parts := make([]content, rapid.IntRange(1, 3).Draw(rt, "blocks"))
		left := content{}
		for _, s := range c.series {
			if len(s.rows) == 0 {
				continue
			}
			left.series = append(left.series, s)
			mixed := rapid.IntRange(0, 3).Draw(rt, "mixed") == 0
			at := rapid.IntRange(0, 2).Draw(rt, "place")
			dealt := make([]testSeries, len(parts))
			for i, r := range s.rows {
				k := int((uint64(r.T/meta.Slot) + uint64(at)) % uint64(len(parts)))
				if mixed {
					k = i % len(parts)
				}
				dealt[k].rows = append(dealt[k].rows, r)
			}
			for k := range parts {
				if dealt[k].labels, dealt[k].exemplars = s.labels, s.exemplars; len(dealt[k].rows) > 0 {
					parts[k].series = append(parts[k].series, dealt[k])
				}
			}
		}
		if len(left.series) == 0 {
			return
		}
		fs := fsx.NewCrashable()
		if err := fs.MkdirAll("blocks"); err != nil {
			rt.Fatal(err)
		}
		meta.Level = 1
		var from copying
		for k, p := range parts {
			if len(p.series) > 0 {
				from.blocks = append(from.blocks, writeAs(rt, fs, fmt.Sprintf("01JD000000000000000000000%d", k+2), meta, p.source()))
			}
		}
		meta.Level = 2
		b := writeAs(rt, fs, testID, meta, from.source())
		defer b.Close()
		if msg := differs(b, left); msg != "" {
			rt.Fatal(msg)
		}
		if err := b.Verify(context.Background()); err != nil {
			rt.Fatal(err)
		}
	})
}

// Where groups end elsewhere than in the blocks that pages come from, those are decoded that are expressed by pages of the
// group before, and the others go on referring to them.
func TestPagesAreDecodedBehindTheEndsOfOtherGroups(t *testing.T) {
	const slot = 7_200_000
	rng := rand.New(rand.NewPCG(1, 2))
	base := make([]float64, 2*240)
	for i := range base {
		base[i] = float64(rng.IntN(1 << 40))
	}
	var all content
	parts := make([]content, 2)
	for k := range 2500 {
		s := testSeries{labels: labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%05d", k))}
		for i, v := range base {
			s.rows = append(s.rows, float(int64(i)*30_000, 0, v+float64(k%7*(i%3))))
		}
		all.series = append(all.series, s)
		for p := range parts {
			if part := (testSeries{labels: s.labels, rows: s.rows[p*240 : (p+1)*240]}); p == 0 || k >= 500 {
				parts[p].series = append(parts[p].series, part)
			} else {
				all.series[k].rows = s.rows[:240]
			}
		}
	}
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	meta := testMeta()
	meta.Slot, meta.Level = slot, 1
	from := copying{blocks: []*block.Block{
		writeAs(t, fs, "01JD0000000000000000000002", meta, parts[0].source()), writeAs(t, fs, "01JD0000000000000000000003", meta, parts[1].source()),
	}}
	whole := writeAs(t, fs, "01JD0000000000000000000004", meta, all.source())
	meta.Level = 2
	b := writeAs(t, fs, testID, meta, from.source())
	for _, x := range append(from.blocks, whole, b) {
		defer x.Close()
	}
	t.Logf("%d of %d series decoded, %d bytes, %d encoded anew", from.decoded, from.series, b.Size(), whole.Size())
	if from.decoded == 0 || from.decoded > from.series/20 || b.Size() > whole.Size()+whole.Size()/50 {
		t.Errorf("%d of %d series decoded, %d bytes, %d encoded anew", from.decoded, from.series, b.Size(), whole.Size())
	}
	checkContent(t, b, all)
	if err := b.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Nearly all pages of a fleet are copied, with their references, and the block is as small as one that is encoded anew.
func TestPagesOfAFleetAreCopied(t *testing.T) {
	f := fleet{hosts: 6, samples: 1440, step: 15_000, jitter: 3}
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	meta := fleetMeta()
	meta.Level, meta.Slot = 1, 7_200_000
	// between yields the rows in a range of time of the hosts that some say.
	between := func(mint, maxt int64, some string) block.Source {
		return block.Source{Series: func(yield func(block.Series, error) bool) {
			for s, err := range f.source().Series {
				if host := s.Labels.Get("host"); !strings.Contains(some, host[len(host)-1:]) {
					continue
				}
				s.From, _ = slices.BinarySearch(s.Rows.T, mint)
				s.To, _ = slices.BinarySearch(s.Rows.T, maxt)
				if !yield(s, err) {
					return
				}
			}
		}}
	}
	edge := (int64(fleetStart)/meta.Slot + 2) * meta.Slot
	from := copying{blocks: []*block.Block{
		writeAs(t, fs, "01JD0000000000000000000002", meta, between(allMin, edge, "012345")),
		writeAs(t, fs, "01JD0000000000000000000003", meta, between(edge, allMax, "0134")),
		writeAs(t, fs, "01JD0000000000000000000004", meta, between(edge, allMax, "25")),
	}}
	whole := writeAs(t, fs, "01JD0000000000000000000005", meta, between(allMin, allMax, "012345"))
	meta.Level = 2
	b := writeAs(t, fs, testID, meta, from.source())
	for _, x := range append(from.blocks, whole, b) {
		defer x.Close()
	}
	t.Logf("%d of %d series decoded, %d bytes, %d encoded anew", from.decoded, from.series, b.Size(), whole.Size())
	if from.decoded > from.series/20 || b.Size() > whole.Size()+whole.Size()/200 {
		t.Errorf("%d of %d series decoded, %d bytes, %d encoded anew", from.decoded, from.series, b.Size(), whole.Size())
	}
	if err := b.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id := range uint32(f.series()) {
		want, err := rowsOf(whole, id, allMin, allMax, true)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rowsOf(b, id, allMin, allMax, true)
		if diff := sameRows(got, want); err != nil || diff != "" {
			t.Fatalf("series %d: %v\n%s", id, err, diff)
		}
	}
}
