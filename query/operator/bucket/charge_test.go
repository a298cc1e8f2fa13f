// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// median opens histogram_quantile(0.5, rows) with an account of limit bytes, 0 for none, and returns the most that was
// charged.
func median(t *testing.T, steps int, limit int64, rows []operatortest.Series) (peak int64, err error) {
	t.Helper()
	env := newEnv(true)
	env.Account = budget.NewRoot("query", limit)
	q := make(operatortest.Constants, steps)
	for i := range q {
		q[i] = 0.5
	}
	in := operatortest.Rows(env, vector.Grid{Step: 1000, N: steps}, rows...)
	in.PerBatch = 1
	n := New(env, Config{Params: []operator.Scalar{q}, Input: in})
	err = n.Open(t.Context())
	n.Close()
	if used := env.Account.Used(); used != 0 {
		t.Errorf("%d bytes are charged after all", used)
	}
	return env.Account.Peak(), err
}

func TestWhatAFamilyHoldsIsCharged(t *testing.T) {
	check := func(what string, steps int, rows []operatortest.Series, least int64) {
		t.Helper()
		peak, err := median(t, steps, 0, rows)
		if err != nil || peak < least {
			t.Errorf("%s: %d bytes were charged, want %d at least; %v", what, peak, least, err)
		}
		var exceeded *budget.ExceededError
		if _, err := median(t, steps, least/2, rows); !errors.As(err, &exceeded) {
			t.Errorf("%s: %v with little memory", what, err)
		}
	}
	const n = 10_000
	var buckets []operatortest.Series
	for i := range n {
		buckets = append(buckets, operatortest.Series{Labels: labels.FromStrings("le", fmt.Sprint(i)), V: []float64{float64(i)}})
	}
	// The row, a cell, the form of a step, and a bound.
	check("buckets", 1, buckets, n*(16+9+50+60))

	const steps = 100
	native := operatortest.Series{Labels: labels.FromStrings("a", "b"), V: make([]float64, steps)}
	bytes := int64(0)
	for range steps {
		h := &histogram.FloatHistogram{Count: 200, PositiveSpans: []histogram.Span{{Length: 200}}, PositiveBuckets: make([]float64, 200)}
		native.H, native.K = append(native.H, h), append(native.K, vector.Histogram)
		bytes += int64(h.Size())
	}
	check("native histograms", steps, []operatortest.Series{native}, bytes)
}
