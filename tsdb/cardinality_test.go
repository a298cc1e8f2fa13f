// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

func TestCardinalityIsOfTheTimesAskedFor(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := scattered(300)
	fillAt(t, db, ls[:200], 0)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := 10 * db.meta.SlotMillis
	fillAt(t, db, ls[100:], late)
	check := func(mint, maxt int64, series, ids int) {
		t.Helper()
		s, _, err := db.CardinalityIn(t.Context(), CardinalityQuery{MinT: mint, MaxT: maxt, Limit: 3})
		if err != nil || s.Series != series || len(s.ValuesByLabel) == 0 != (ids == 0) || ids > 0 && s.ValuesByLabel[0].Value != uint64(ids) {
			t.Errorf("[%d, %d]: %+v, %v, want %d series and %d ids", mint, maxt, s, err, series, ids)
		}
	}
	check(0, 1000, 200, 200)
	check(late, late+1000, 300, 300) // the head has not forgotten the others yet
	check(0, late, 300, 300)
	check(late/2, late/2+1000, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := db.CardinalityIn(ctx, CardinalityQuery{MaxT: late, Limit: 3}); err == nil {
		t.Error("no error after the end of the context")
	}
}

// The figures of a selection are those of its series alone: in a block, in the head, and each once where two selectors
// match it. All series counted one by one come to what the indexes say.
func TestCardinalityOfASelectionIsThatOfItsSeries(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := scattered(300)
	fillAt(t, db, ls[:200], 0)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillAt(t, db, ls, 600_000)
	used := db.opts.Budget.Used()
	ask := func(sets ...[]*labels.Matcher) index.Stats {
		t.Helper()
		s, _, err := db.CardinalityIn(t.Context(), CardinalityQuery{MinT: 0, MaxT: math.MaxInt64, Sets: sets, Limit: 4})
		if err != nil {
			t.Fatal(err)
		}
		s.MemUsed = 0
		return s
	}
	half := []*labels.Matcher{equal("half", "y")}
	want := index.Stats{
		Series: 150, LabelPairs: 153, SymbolBytes: 150*8 + 3 + int64(len("id"+labels.MetricName+"half"+"job")),
		SeriesByMetric: []index.Stat{{Name: "m", Value: 150}},
		ValuesByLabel:  []index.Stat{{Name: "id", Value: 150}, {Name: "__name__", Value: 1}, {Name: "half", Value: 1}, {Name: "job", Value: 1}},
		BytesByLabel:   []index.Stat{{Name: "id", Value: 1200}, {Name: "__name__", Value: 1}, {Name: "half", Value: 1}, {Name: "job", Value: 1}},
	}
	got := ask(half, []*labels.Matcher{equal("half", "y"), equal("job", "x")})
	pairs := got.SeriesByLabelPair
	got.SeriesByLabelPair = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("half of the series:\n%s", diff)
	}
	if diff := cmp.Diff([]index.Stat{{Name: "__name__=m", Value: 150}, {Name: "half=y", Value: 150}, {Name: "job=x", Value: 150}}, pairs[:3]); diff != "" {
		t.Errorf("pairs of half of the series:\n%s", diff)
	}
	if diff := cmp.Diff(ask(), ask([]*labels.Matcher{equal(labels.MetricName, "m")})); diff != "" {
		t.Errorf("counted by index and by series:\n%s", diff)
	}
	if s := ask([]*labels.Matcher{equal("none", "x")}); s.Series != 0 || s.LabelPairs != 0 {
		t.Errorf("nothing matches: %+v", s)
	}
	if now := db.opts.Budget.Used(); now != used {
		t.Errorf("%d bytes stay charged", now-used)
	}
}

func TestCardinalityBoundsTheSeriesItLooksAt(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := scattered(300)
	fillAt(t, db, ls[:200], 0)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillAt(t, db, ls, 600_000)
	ask := func(most int) error {
		_, _, err := db.cardinality(t.Context(), CardinalityQuery{MaxT: math.MaxInt64, Sets: [][]*labels.Matcher{{equal("job", "x")}}, Limit: 4}, most)
		return err
	}
	if err := ask(500); err != nil {
		t.Error(err)
	}
	if err := ask(499); err == nil || !strings.Contains(err.Error(), "narrower selectors") {
		t.Errorf("one too many: %v", err)
	}
}
