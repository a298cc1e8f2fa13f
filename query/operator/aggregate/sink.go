// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// ParamError is a parameter that an aggregation cannot use. It is found out before the input is read and told after,
// because an error of the input goes first.
type ParamError struct{ Text string }

// Error has Prometheus' words.
func (e *ParamError) Error() string { return e.Text }

func isParamError(err error) bool {
	var e *ParamError
	return errors.As(err, &e)
}

// sink returns what takes in the input of the aggregation, which is open. With a *ParamError it returns a sink too.
func (n *node) sink() (sink, error) {
	if n.group == nil {
		if err := n.resolve(); err != nil {
			return nil, err
		}
	}
	switch n.cfg.Op {
	case parser.TOPK, parser.BOTTOMK, parser.LIMITK:
		k, err := counted(&n.held, n.cfg.Param.Values())
		if k == nil || err != nil {
			return n.nothing(), err
		}
		if n.cfg.Op == parser.LIMITK {
			return newLimit(n, k)
		}
		return newTop(n, k, 0, n.group.len())
	case parser.LIMIT_RATIO:
		r, err := ratios(&n.held, &n.notes, n.cfg.Param.Values())
		if r == nil || err != nil {
			return n.nothing(), err
		}
		return newSampled(n, r)
	case parser.COUNT_VALUES:
		return newValues(n), nil
	case parser.QUANTILE:
		checkQuantiles(&n.notes, n.cfg.Param.Values())
	default:
	}
	return newGrouped(n)
}

func (n *node) resolve() (err error) {
	n.group, err = n.cfg.groups(n.feed.env, &n.held, n.feed.input.Table())
	return err
}

// nothing is an aggregation without a result, whose input has to be read nevertheless: it may fail, and it counts.
type nothing struct{ empty *sparse }

func (n *node) nothing() nothing {
	s := newSparse(&n.held, n.Grid().N)
	s.table = n.group.in.Take(nil)
	return nothing{s}
}

func (nothing) add(*vector.Batch) error     { return nil }
func (x nothing) end() (retain.Rows, error) { return x.empty, nil }

// bounds are the least and greatest of parameters, and whether any is NaN. Both are NaN then, unless an infinity is
// among the parameters, which math.Min and math.Max prefer.
func bounds(params []float64) (least, greatest float64, nan bool) {
	least, greatest = math.MaxFloat64, -math.MaxFloat64
	for _, p := range params {
		least, greatest = math.Min(least, p), math.Max(greatest, p)
		nan = nan || math.IsNaN(p)
	}
	return least, greatest, nan
}

// What a number of topk and its like must be between, both excluded.
const (
	minCount = math.MinInt64
	maxCount = math.MaxInt64 - 1023
)

// counted returns how many series are wanted at each step; nil: never any.
func counted(h *retain.Memory, params []float64) ([]int, error) {
	least, greatest, nan := bounds(params)
	switch {
	case greatest < 1:
		return nil, nil
	case nan:
		return nil, &ParamError{"Parameter value is NaN"}
	case least <= minCount:
		return nil, &ParamError{fmt.Sprintf("Scalar value %v underflows int64", least)}
	case greatest >= maxCount:
		return nil, &ParamError{fmt.Sprintf("Scalar value %v overflows int64", greatest)}
	}
	k, err := retain.Make[int](h, len(params))
	if err != nil {
		return nil, err
	}
	for i, p := range params {
		k[i] = int(int64(p))
	}
	return k, nil
}

// ratios returns the ratio of series wanted at each step, between -1 and 1; nil: never any.
func ratios(h *retain.Memory, notes *operator.Notes, params []float64) ([]float64, error) {
	least, greatest, nan := bounds(params)
	if least == 0 && greatest == 0 {
		return nil, nil
	}
	if nan {
		return nil, &ParamError{"Ratio value is NaN"}
	}
	note := func(got, capped float64) {
		notes.Append(SlotParam, func(p posrange.PositionRange) error {
			return annotations.NewInvalidRatioWarning(got, capped, p)
		})
	}
	if greatest > 1 {
		note(greatest, 1)
	}
	if least < -1 {
		note(least, -1)
	}
	r, err := retain.Make[float64](h, len(params))
	if err != nil {
		return nil, err
	}
	for i, p := range params {
		r[i] = max(-1, min(1, p))
	}
	return r, nil
}

func checkQuantiles(notes *operator.Notes, params []float64) {
	least, greatest, nan := bounds(params)
	note := func(got float64) {
		notes.Append(SlotParam, func(p posrange.PositionRange) error {
			return annotations.NewInvalidQuantileWarning(got, p)
		})
	}
	if nan {
		note(math.NaN())
	}
	if greatest > 1 {
		note(greatest)
	}
	if least < 0 {
		note(least)
	}
}
