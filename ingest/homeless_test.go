// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestOfRefusedSeriesNothingStaysAndOfOthersAll: rows, start times, histograms, exemplars and metadata, wherever the refused
// ones are, and however often series are resolved on the way.
func TestOfRefusedSeriesNothingStaysAndOfOthersAll(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		store := refusing()
		in := newSource(t, store, nil).in
		req := in.Begin()
		var rows, exemplars []string
		for i := range 1 + rng.IntN(12) {
			name := fmt.Sprintf("%s%d", []string{"a", "b", "x"}[rng.IntN(3)], i)
			ls := labels.FromStrings(labels.MetricName, name)
			req.Define(ingest.Key{}, ls)
			kept := name[0] != 'x'
			st := rng.Int64N(2)
			if rng.IntN(4) == 0 {
				req.ScrapeHistogram(st, int64(i), &histogram.Histogram{Sum: float64(i)}, nil, sample.RejectOutOfOrder)
			} else {
				req.Scrape(st, int64(i), float64(i), 0)
			}
			if kept {
				rows = append(rows, fmt.Sprint(ls.String(), st, i))
			}
			for k := range rng.IntN(3) {
				e := labels.FromStrings("trace", fmt.Sprint(i, k))
				req.Exemplar(sample.Exemplar{Labels: e, T: int64(i)})
				if kept {
					exemplars = append(exemplars, ls.String()+" # "+e.String())
				}
			}
			req.Metadata(sample.Metadata{Help: name})
			if rng.IntN(3) == 0 {
				if err := req.Resolve(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := req.CommitScrape(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range store.Rows() {
			got = append(got, fmt.Sprint(r.Series, r.ST, r.T))
			name := strings.Split(r.Series, `"`)[1]
			if help := store.Metadata(r.Series).Help; help != name {
				t.Errorf("the help of %s is %q", name, help)
			}
			if r.H != nil && r.H.Sum != float64(r.T) || r.H == nil && r.V != float64(r.T) {
				t.Errorf("%s has another's value: %+v", name, r)
			}
		}
		if diff := cmp.Diff(rows, got) + cmp.Diff(exemplars, store.Exemplars()); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		req.Release()
	}
}
