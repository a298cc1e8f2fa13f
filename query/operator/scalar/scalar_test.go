// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scalar_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/operator/scalar"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func testEnv(limit int64) *operator.Env {
	return &operator.Env{Dict: vector.NewDict(), Account: budget.NewRoot("test", limit)}
}

// Package function compares whole expressions with Prometheus' engine; here are the parts it has no words for.
func TestScalarsAreComputedPerStepAndGivenBack(t *testing.T) {
	env := testEnv(0)
	grid := vector.Grid{Start: -1500, Step: 1000, N: 3}
	number := func(v float64) operator.Scalar { return scalar.Number(env, grid, v) }
	check := func(s operator.Scalar, want ...float64) {
		t.Helper()
		if err := s.Open(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, s.Values(), cmpopts.EquateNaNs()); diff != "" {
			t.Error(diff)
		}
		s.Close()
		s.Close()
		if used := env.Account.Used(); used != 0 {
			t.Errorf("%d bytes still charged", used)
		}
	}
	check(scalar.Time(env, grid), -1.5, -0.5, 0.5)
	check(scalar.Negate(env, scalar.Time(env, grid)), 1.5, 0.5, -0.5)
	check(scalar.Broadcast(env, scalar.Time(env, vector.Grid{Start: 7000, N: 1}), grid), 7, 7, 7)
	check(scalar.Binary(env, parser.LSS, scalar.Time(env, grid), number(0)), 1, 1, 0)
	check(scalar.Binary(env, parser.ATAN2, number(1), number(-1)), 3*math.Pi/4, 3*math.Pi/4, 3*math.Pi/4)
	rows := operatortest.Rows(env, grid,
		operatortest.Series{Labels: labels.FromStrings("a", "1"), V: []float64{1, 2, 3}, K: []vector.Kind{1, 1, 0}},
		operatortest.Series{Labels: labels.FromStrings("a", "2"), V: []float64{4, 5, 6}, K: []vector.Kind{0, 1, 0}})
	check(scalar.Of(env, rows), 1, math.NaN(), math.NaN())
}

func TestOperatorsThatAreNoneForScalarsFailWhenOpened(t *testing.T) {
	env := testEnv(0)
	one := scalar.Number(env, vector.Grid{N: 1}, 1)
	s := scalar.Binary(env, parser.TRIM_UPPER, one, one)
	defer s.Close()
	const want = `operator "</" not allowed for Scalar operations`
	if err := s.Open(t.Context()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestBuildRefusesWhatIsNoFunction(t *testing.T) {
	for _, c := range []scalar.Call{{Func: "abs"}, {Func: "scalar"}, {Func: "max_of"}} {
		if _, err := scalar.Build(testEnv(0), c); err == nil {
			t.Errorf("%s was built", c.Func)
		}
	}
}

func TestAFullAccountRefusesValues(t *testing.T) {
	grid := vector.Grid{N: 1000, Step: 1}
	env := testEnv(8000)
	s := scalar.Negate(env, scalar.Time(env, grid))
	var exceeded *budget.ExceededError
	if err := s.Open(t.Context()); !errors.As(err, &exceeded) {
		t.Error(err)
	}
	s.Close()
	if used := env.Account.Used(); used != 0 {
		t.Errorf("%d bytes still charged", used)
	}
}
