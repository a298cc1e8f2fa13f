// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// world is random rows in a storage.
type world struct{ operatortest.Reference }

type worldConfig struct {
	series, steps          int
	gaps, histograms, hard bool
	whole                  bool // small whole numbers, whose sums are exact in any order
}

func newWorld(r *rand.Rand, c worldConfig) *world {
	w := &world{}
	w.Grid = vector.Grid{Start: 600_000, Step: 60_000, N: c.steps}
	seen := map[string]bool{}
	var rows []operatortest.Series
	for range c.series {
		ls := labels.FromStrings(labels.MetricName, []string{"m", "n"}[r.IntN(2)],
			"a", fmt.Sprint(r.IntN(3)), "b", fmt.Sprint(r.IntN(40)))
		if r.IntN(4) == 0 {
			ls = labels.NewBuilder(ls).Set("c", fmt.Sprint(r.IntN(2))).Labels()
		}
		if seen[ls.String()] {
			continue
		}
		seen[ls.String()] = true
		rows = append(rows, randomSeries(r, ls, c))
	}
	sort.Slice(rows, func(i, j int) bool { return labels.Compare(rows[i].Labels, rows[j].Labels) < 0 })
	w.Load(rows)
	return w
}

func randomSeries(r *rand.Rand, ls labels.Labels, c worldConfig) operatortest.Series {
	s := operatortest.Series{Labels: ls}
	native := c.histograms && r.IntN(3) == 0
	gappy := c.gaps && r.IntN(2) == 0
	for range c.steps {
		v, k := operatortest.RandomFloat(r, c.hard), vector.Float
		if c.whole {
			v = float64(r.IntN(9))
		}
		var h *histogram.FloatHistogram
		switch {
		case gappy && r.IntN(3) == 0:
			k = vector.Absent
		case native && r.IntN(8) > 0, c.histograms && r.IntN(30) == 0:
			k, h = vector.Histogram, operatortest.RandomHistogram(r)
		}
		s.V, s.K, s.H = append(s.V, v), append(s.K, k), append(s.H, h)
	}
	if !slices.Contains(s.K, vector.Histogram) {
		s.H = nil
	}
	return s
}

func newEnv(delayed bool) *operator.Env {
	return &operator.Env{
		Dict: vector.NewDict(), Account: budget.NewRoot("query", 1<<40), Samples: operator.NewSamplesum(0, 0),
		Options: operator.Options{DelayedNameRemoval: delayed},
	}
}
