// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"slices"

	"github.com/prometheus/common/model"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// naming says what an operator does to the names of its series.
type naming uint8

const (
	keepNames naming = iota
	// dropNames takes the metric name away, with type and unit.
	dropNames
	// dropNameOnly leaves type and unit when names are taken away at once, but marks the rows all the same: there are
	// operators that then take them away.
	dropNameOnly
)

// apply returns the table of an operator over a table. Where names are taken away at the end only, the rows are marked.
func (n naming) apply(env *operator.Env, t *vector.Table, h *held) (*vector.Table, error) {
	switch {
	case n == keepNames:
		return t, nil
	case !env.DelayedNameRemoval && n == dropNameOnly:
		t = t.Without(model.MetricNameLabel)
	case !env.DelayedNameRemoval:
		return nameless(t), nil
	case t.Drop != nil && !slices.Contains(t.Drop, false):
		return t, nil
	}
	if err := h.charge(int64(t.N)); err != nil {
		return nil, err
	}
	return t.WithDrop(true), nil
}

// nameless returns t without what names a metric.
func nameless(t *vector.Table) *vector.Table {
	return t.Without(model.MetricNameLabel, model.MetricTypeLabel, model.MetricUnitLabel)
}

// held is memory charged to a query.
type held struct {
	account *budget.Account
	bytes   int64
}

// charge takes n bytes from the budget before they are allocated.
func (h *held) charge(n int64) error {
	if err := h.account.Reserve(n); err != nil {
		return err
	}
	h.bytes += n
	return nil
}

// release gives back everything.
func (h *held) release() {
	h.account.Release(h.bytes)
	h.bytes = 0
}
