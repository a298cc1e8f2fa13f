// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// perStep is what a meter should have counted, found out the plain way.
type perStep struct{ Count, Size []int64 }

func TestMetersCountWhatNodesYield(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, workers := range []int{0, 3} {
		for _, grid := range []vector.Grid{{Step: 1, N: 1}, {Step: 1, N: 7}} {
			env := newEnv(workers)
			want := perStep{make([]int64, grid.N), make([]int64, grid.N)}
			var rows []operatortest.Series
			for range 3000 {
				rows = append(rows, randomRow(r, grid.N, &want))
			}
			m := operator.NewMeter(env, true)
			node := m.Node(operatortest.Rows(env, grid, rows...))
			opened(t, node)
			if err := env.Drain(t.Context(), node, nil, func(*vector.Batch) error { return nil }); err != nil {
				t.Fatal(err)
			}
			c, got := m.Cells(), perStep{make([]int64, grid.N), make([]int64, grid.N)}
			for i := range grid.N {
				got.Count[i] = c.Every + c.Count[i]
				got.Size[i] = c.Every + c.Size[i]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d workers, %d steps (-want +got):\n%s", workers, grid.N, diff)
			}
			if node.Close(); env.Account.Used() != 0 {
				t.Errorf("%d bytes are charged", env.Account.Used())
			}
		}
	}
}

func randomRow(r *rand.Rand, n int, want *perStep) operatortest.Series {
	s := operatortest.Series{Labels: labels.EmptyLabels(), V: make([]float64, n), K: make([]vector.Kind, n)}
	full := r.IntN(3) == 0
	for i := range s.K {
		s.K[i] = vector.Float
		if !full {
			s.K[i] = vector.Kind(r.IntN(3))
		}
		switch s.K[i] {
		case vector.Float:
			want.Count[i]++
			want.Size[i]++
		case vector.Histogram:
			if s.H == nil {
				s.H = make([]*histogram.FloatHistogram, n)
			}
			s.H[i] = &histogram.FloatHistogram{PositiveBuckets: make([]float64, r.IntN(5))}
			want.Count[i]++
			want.Size[i] += int64((s.H[i].Size() + 8) / 16)
		case vector.Absent:
		}
	}
	return s
}

func TestASelectorBeyondTheLimitIsStopped(t *testing.T) {
	env := newEnv(0)
	env.Samples = operator.NewSamplesum(1000*steps, 0)
	for _, rows := range []int{1000, 1001} {
		node := operator.NewMeter(env, true).Node(rowsOf(env, rows))
		opened(t, node)
		err := env.Drain(t.Context(), node, nil, func(*vector.Batch) error { return nil })
		if (err != nil) != (rows > 1000) {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
}

func TestNotesAreKeptOncePerSlotKindAndName(t *testing.T) {
	var n operator.Notes
	text := func(at posrange.PositionRange) error { return annotations.NewMixedFloatsHistogramsWarning("m", at) }
	n.Add(0, "mixed", "m", text)
	n.Add(0, "mixed", "m", func(posrange.PositionRange) error { t.Error("the second of a kind was kept"); return nil })
	n.Add(1, "mixed", "m", text)
	n.Append(1, text)
	var a annotations.Annotations = map[string]error{}
	n.AddTo(&a, []posrange.PositionRange{{Start: 0, End: 3}, {Start: 1, End: 2}})
	if len(a) != 1 {
		t.Errorf("annotations %v, want one: they differ in nothing but position", a)
	}
}
