// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// histogramContent has series of histograms, integer ones and floats in turns, with all that goes with them: start
// timestamps that change, a start that is not known, stale markers, exemplars and a description.
func histogramContent(series, rows int) content {
	var c content
	for i := range series {
		s := testSeries{labels: labels.FromStrings("__name__", "latency", "i", fmt.Sprintf("%03d", i))}
		for k := range rows {
			t := int64(k) * 15_000
			r := row{T: t, ST: 1 + t/1_000_000*1_000_000, H: tsdbutil.GenerateTestHistogram(int64(k))}
			switch {
			case k%97 == 50:
				r.H = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
			case k%89 == 40:
				r.ST = 0
			}
			if i%2 == 1 {
				r.H, r.FH = nil, r.H.ToFloat(nil)
			}
			s.rows = append(s.rows, r)
		}
		s.exemplars = []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", fmt.Sprint(i)), Value: 0.2, Ts: 15_000, HasTs: true}}
		c.series = append(c.series, s)
	}
	c.families = []family{{"latency", []metadata.Metadata{{Type: "histogram", Unit: "seconds", Help: "How long it took."}}}}
	return c
}

func TestHistogramsKeepAllThatGoesWithThem(t *testing.T) {
	c := histogramContent(7, 400)
	fs := fsx.NewCrashable()
	write(t, fs, c)
	b := open(t, fs)
	checkContent(t, b, c)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	for id, s := range c.series {
		for _, withST := range []bool{true, false} {
			from, to := 30+id, 200+20*id
			want := slices.Clone(s.rows[from : to+1])
			for i := range want {
				if !withST {
					want[i].ST = 0
				}
			}
			got, err := rowsOf(b, uint32(id), s.rows[from].T, s.rows[to].T, withST)
			if err != nil {
				t.Fatal(err)
			}
			if diff := sameRows(got, want); diff != "" {
				t.Errorf("series %d, start timestamps %v: %s", id, withST, diff)
			}
		}
	}
}

// Series of one scrape share their times, and histograms of one sort what they say of their buckets: beside their
// counts a histogram costs next to nothing.
func TestHistogramsOfABlockAreSmall(t *testing.T) {
	c := histogramContent(50, 400)
	for i := range c.series {
		c.series[i].exemplars = nil
		if i%2 == 1 {
			c.series[i].rows = c.series[i-1].rows
		}
	}
	if got := float64(len(rawBlock(t, c))) / (50 * 400); got > 3 {
		t.Errorf("%.2f bytes a histogram, all of whose counts grow evenly", got)
	}
}
