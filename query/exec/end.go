// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"

	"github.com/prometheus/common/model"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/function"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// ending is what the names of series are removed from at the end of a query. If that can make series the same, or they
// are so already, it is evaluated first: Prometheus has all annotations by the time it finds that two of them cannot be
// merged.
type ending struct {
	operator.Node
	env   *operator.Env
	table *vector.Table
	kept  kept
	held  bool
}

// atEnd returns in without the names of the series that are to lose them.
func (r *root) atEnd(env *operator.Env, in operator.Node) operator.Node {
	r.ending = &ending{Node: in, env: env}
	return function.NewDropNames(env, r.ending)
}

// Open implements operator.Node.
func (e *ending) Open(ctx context.Context) error {
	if err := e.Node.Open(ctx); err != nil {
		return err
	}
	t := e.Node.Table()
	e.table = t
	named := t
	if t.Drop != nil {
		named = t.Without(model.MetricNameLabel, model.MetricTypeLabel, model.MetricUnitLabel)
	}
	unique, err := named.Unique()
	if err != nil {
		return err
	}
	if unique {
		if t.Drop == nil {
			known := *t
			known.Distinct = true // so that nobody has to look again
			e.table = &known
		}
		return nil
	}
	if err := e.kept.room(e.env.Account, t.N, e.Grid().N); err != nil {
		return err
	}
	if err := e.env.Drain(ctx, e.Node, nil, e.kept.add); err != nil {
		return err
	}
	e.held = true
	return nil
}

// Table implements operator.Node.
func (e *ending) Table() *vector.Table { return e.table }

// Cursor implements operator.Node.
func (e *ending) Cursor(ids []uint32) operator.Cursor {
	if e.held {
		return e.kept.cursor(ids)
	}
	return e.Node.Cursor(ids)
}

// Close implements operator.Node.
func (e *ending) Close() {
	e.Node.Close()
	e.kept.release()
}

// evaluated tells whether all of the query was evaluated, and only its end may have failed.
func (r *root) evaluated() bool { return r.ending != nil && r.ending.held }
