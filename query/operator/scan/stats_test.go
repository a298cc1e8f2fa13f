// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// reduced calls f with an iterator over each series as Prometheus' engine reads it for histogram_count() and its like.
func (f *fixture) reduced(t *testing.T, mint, maxt int64, each func(ls labels.Labels, it chunkenc.Iterator)) {
	t.Helper()
	q, err := queryable.New(f.store).Querier(mint, maxt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	set := q.Select(t.Context(), true, &storage.SelectHints{Start: mint, End: maxt}, f.name)
	for set.Next() {
		each(set.At().Labels(), promql.NewHistogramStatsIterator(set.At().Iterator(nil)))
	}
}

func describe(t int64, h *histogram.FloatHistogram) string {
	return fmt.Sprintf("%d: %s hint %d schema %d\n", t, h, h.CounterResetHint, h.Schema)
}

func TestReducedHistogramsHaveTheHintsOfPrometheus(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		lookback := (1 + r.Int64N(300)) * second
		f.env.LookbackDelta = lookback
		want := map[string]string{}
		f.reduced(t, g.Start-lookback+1, g.End(), func(ls labels.Labels, it chunkenc.Iterator) {
			m := storage.NewMemoizedEmptyIterator(lookback)
			m.Reset(it)
			for i := range g.N {
				ref := g.At(i)
				var at int64
				var h *histogram.FloatHistogram
				kind := m.Seek(ref)
				switch kind {
				case chunkenc.ValFloatHistogram:
					at, h = m.AtFloatHistogram()
				case chunkenc.ValFloat:
					at, _ = m.At()
				default:
				}
				if kind == chunkenc.ValNone || at > ref {
					var ok bool
					if _, at, _, h, ok = m.PeekPrev(); !ok || at <= ref-lookback {
						continue
					}
				}
				if h != nil && !value.IsStaleNaN(h.Sum) {
					want[ls.String()] += describe(ref, h)
				}
			}
		})
		got := map[string]string{}
		for _, s := range f.rows(t, scan.NewInstant(f.env, scan.Selector{Matchers: []*labels.Matcher{f.name}, StatsOnly: true}, g)) {
			for _, p := range s.Histograms {
				got[s.Metric.String()] += describe(p.T, p.H)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v with lookback %d (-want +got):\n%s", g, lookback, diff)
		}
	})
}

func TestReducedHistogramsOfRangesHaveTheHintsOfPrometheus(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		length := (1 + r.Int64N(600)) * second
		want := map[string]string{}
		f.reduced(t, g.Start-length+1, g.End(), func(ls labels.Labels, it chunkenc.Iterator) {
			for _, p := range firstSeen(it, g, length) {
				want[ls.String()] += describe(p.T, p.H)
			}
		})
		got := map[string]string{}
		n := scan.NewRange(f.env, scan.Selector{Matchers: []*labels.Matcher{f.name}, StatsOnly: true}, length, g)
		defer n.Close()
		if err := n.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := n.Cursor(nil)
		defer c.Close()
		var sb labels.ScratchBuilder
		for {
			s, ok, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			for i, h := range s.H {
				if h != nil && inWindow(s.T[i], g, length) {
					got[n.Table().Labels(s.ID, &sb).String()] += describe(s.T[i], h)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v with windows of %d (-want +got):\n%s", g, length, diff)
		}
	})
}

func inWindow(t int64, g vector.Grid, length int64) bool {
	for i := range g.N {
		if t > g.At(i)-length && t <= g.At(i) {
			return true
		}
	}
	return false
}

// firstSeen reads histograms through the buffer of Prometheus' engine, each as the first window with it has it.
func firstSeen(it chunkenc.Iterator, g vector.Grid, length int64) (out []promql.HPoint) {
	b := storage.NewBuffer(length)
	b.Reset(it)
	add := func(t int64, h *histogram.FloatHistogram) {
		if (len(out) == 0 || t > out[len(out)-1].T) && !value.IsStaleNaN(h.Sum) {
			out = append(out, promql.HPoint{T: t, H: h.Copy()})
		}
	}
	for i := range g.N {
		end := g.At(i)
		kind := b.Seek(end)
		for buf := b.Buffer(); ; {
			k := buf.Next()
			if k == chunkenc.ValNone {
				break
			}
			if k != chunkenc.ValFloat && buf.AtT() > end-length {
				add(buf.AtFloatHistogram(nil))
			}
		}
		if kind == chunkenc.ValFloatHistogram && b.AtT() == end {
			add(b.AtFloatHistogram(nil))
		}
		b.ReduceDelta(min(length, g.Step))
	}
	return out
}

func TestSubqueryStepsAreMultiplesRoundedTowardsZero(t *testing.T) {
	at := int64(-500)
	check := func(s scan.Subquery, outer, want vector.Grid) {
		t.Helper()
		if got := s.Grid(outer); got != want {
			t.Errorf("%+v for %v: %+v, want %+v", s, outer, got, want)
		}
	}
	check(scan.Subquery{Range: 100, Step: 10}, vector.Grid{Start: 1000, Step: 1, N: 1}, vector.Grid{Start: 910, Step: 10, N: 10})
	check(scan.Subquery{Range: 100, Step: 10}, vector.Grid{Start: 1005, Step: 50, N: 3}, vector.Grid{Start: 910, Step: 10, N: 20})
	check(scan.Subquery{Range: 100, Step: 30}, vector.Grid{Start: 50, Step: 1, N: 1}, vector.Grid{Start: -30, Step: 30, N: 3})
	check(scan.Subquery{Range: 100, Step: 30}, vector.Grid{Start: -5, Step: 1, N: 1}, vector.Grid{Start: -90, Step: 30, N: 3})
	check(scan.Subquery{Range: 5, Step: 30}, vector.Grid{Start: 50, Step: 1, N: 1}, vector.Grid{Start: 60, Step: 30})
	check(scan.Subquery{Range: 100, Step: 10, Offset: 20, At: &at}, vector.Grid{Start: 1000, Step: 5, N: 3}, vector.Grid{Start: -610, Step: 10, N: 11})
}

func TestViewIsOpenedEarlierWhereHintsAreWorkedOut(t *testing.T) {
	opened := func(src column.Source) (mint int64) {
		t.Helper()
		v, err := scan.OpenView(src, 1_000_000, 2_000_000)
		if err != nil {
			t.Fatal(err)
		}
		return v.(from).mint
	}
	if got := opened(bare{}); got != 1_000_000-column.HintReach {
		t.Errorf("view opened from %d", got)
	}
	if got := opened(keeper{}); got != 1_000_000 {
		t.Errorf("view of a source that keeps hints opened from %d", got)
	}
}

func TestNothingIsReadBeforeARangeWhoseFirstHintDoesNotMatter(t *testing.T) {
	store := &columntest.Store{}
	for i := range int64(100) {
		store.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: i * 15 * second, H: &histogram.Histogram{Count: uint64(i)}})
	}
	read := func(anyFirst bool) *scans {
		t.Helper()
		f := newFixture(t, store)
		seen := &scans{View: f.env.View}
		f.env.View = seen
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}, AnyFirst: anyFirst}
		m := f.samples(t, scan.NewRange(f.env, sel, 2*minute, vector.Grid{Start: 20 * minute, Step: 1, N: 1}))
		if len(m) != 1 || len(m[0].Histograms) != 8 {
			t.Fatalf("read %v", m)
		}
		for i, x := range m[0].Histograms {
			if known := x.H.CounterResetHint == histogram.NotCounterReset; known != (i > 0 || !anyFirst) {
				t.Errorf("hint %d of histogram %d", x.H.CounterResetHint, i)
			}
		}
		return seen
	}
	from := 18*minute + 1
	if seen := read(true); !slices.Equal(seen.from, []int64{from}) {
		t.Errorf("scanned from %v", seen.from)
	}
	if seen := read(false); !slices.Equal(seen.from, []int64{from, from - column.HintReach}) {
		t.Errorf("scanned from %v where the hint matters", seen.from)
	}
}

// scans is a view that notes from when on it is read.
type scans struct {
	column.View
	from []int64
}

func (s *scans) Scan(ctx context.Context, set *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	s.from = append(s.from, n.MinT)
	return s.View.Scan(ctx, set, ids, n, dst)
}

// from is a view that remembers its range.
type from struct {
	column.View
	mint int64
}

type bare struct{}

func (bare) View(mint, _ int64) (column.View, error) { return from{mint: mint}, nil }

type keeper struct{ bare }

func (keeper) KeepsResetHints() bool { return true }
