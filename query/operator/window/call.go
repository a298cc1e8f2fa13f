// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Call is the call of a function over a range vector.
type Call struct {
	// Func is the name of the function. absent_over_time is evaluated as present_over_time: what is absent is told
	// by who sees all series.
	Func string
	// Over is the range vector.
	Over operator.Ranges
	// Args are the other arguments, scalars, in their order.
	Args []operator.Scalar
	// Subquery tells that Over is a subquery, which Prometheus evaluates before Args, and a selector after them.
	Subquery bool
	// Rung is the way in which sums are computed, for tests and for who needs Prometheus' last bit.
	Rung Rung
}

// Rung is a way to compute sum_over_time, avg_over_time, stddev_over_time and stdvar_over_time.
type Rung uint8

const (
	// Adaptive takes the fastest way that suits the series: prefix sums of integers, which are exact; prefix sums
	// with compensation where windows are long and overlap a lot, which may differ from Prometheus in the last
	// bits; else Sequential.
	Adaptive Rung = iota
	// Sequential adds up each window by itself, as Prometheus does, bit for bit.
	Sequential
	// Prefix takes prefix sums wherever they are sound, however short the windows are.
	Prefix
)

// New returns the operator of a call. Its rows drop the metric name, except for first_over_time and last_over_time,
// and are not merged where that makes them equal.
//
// Positions of its notes: slot 0 is the call, slot 1 is the first argument. All notes use slot 1. Where the first
// argument is a subquery, Prometheus has no position for it: the empty range.
func New(env *operator.Env, c Call) operator.Node { return &node{env: env, call: c} }

// Known tells whether a function is one of this package.
func Known(name string) bool {
	_, ok := functionOf(name)
	return ok
}

type node struct {
	env     *operator.Env
	call    Call
	fn      function
	notes   operator.Notes
	windows operator.Windows
	args    [][]float64
	table   *vector.Table
	in      *vector.Table // of the range vector
	held    memory        // of table
}

// Open implements operator.Node.
func (n *node) Open(ctx context.Context) error {
	fn, ok := functionOf(n.call.Func)
	if !ok {
		return fmt.Errorf("unknown function over a range vector: %q", n.call.Func)
	}
	if len(n.call.Args) != fn.args {
		return fmt.Errorf("%s over a range vector: %d scalar arguments, want %d", n.call.Func, len(n.call.Args), fn.args)
	}
	n.fn = fn
	if err := n.openInputs(ctx); err != nil {
		return err
	}
	n.windows = n.call.Over.Windows()
	if err := n.checkModifier(); err != nil {
		return err
	}
	n.in = n.call.Over.Table()
	var err error
	n.table, err = n.resultTable()
	return err
}

func (n *node) openInputs(ctx context.Context) error {
	if n.call.Subquery {
		if err := n.call.Over.Open(ctx); err != nil {
			return err
		}
	}
	for _, a := range n.call.Args {
		if err := a.Open(ctx); err != nil {
			return err
		}
		n.args = append(n.args, a.Values())
	}
	if n.call.Subquery {
		return nil
	}
	return n.call.Over.Open(ctx)
}

// checkModifier refuses functions that make nothing of samples outside their window.
func (n *node) checkModifier() error {
	switch {
	case n.windows.Anchored && !n.fn.anchored:
		return fmt.Errorf("anchored modifier can only be used with: changes, delta, increase, rate, resets - not with %s", n.call.Func)
	case n.windows.Smoothed && !n.fn.smoothed:
		return fmt.Errorf("smoothed modifier can only be used with: delta, increase, rate - not with %s", n.call.Func)
	}
	return nil
}

func (n *node) resultTable() (*vector.Table, error) {
	n.held.account = n.env.Account
	switch {
	case n.fn.keepsName && (n.env.DelayedNameRemoval || n.in.Drop == nil):
		return n.in, nil
	case n.fn.keepsName:
		if err := n.held.charge(int64(n.in.N) * 3 * 4); err != nil { // the columns of the labels
			return nil, err
		}
		return n.in.WithoutWhere(n.in.Drop, labels.MetricName, "__type__", "__unit__"), nil
	case n.env.DelayedNameRemoval:
		if err := n.held.charge(int64(n.in.N)); err != nil {
			return nil, err
		}
		return n.in.WithDrop(true), nil
	default:
		if n.in.Column("__type__") != nil || n.in.Column("__unit__") != nil {
			// Series that differ in these only are equal without, an error also where they are there at different times.
			n.env.NoteWhole()
		}
		return n.in.Without(labels.MetricName, "__type__", "__unit__"), nil
	}
}

// Table implements operator.Node.
func (n *node) Table() *vector.Table { return n.table }

// Grid implements operator.Node.
func (n *node) Grid() vector.Grid { return n.call.Over.Windows().Grid }

// Notes implements operator.Annotated.
func (n *node) Notes() *operator.Notes { return &n.notes }

// Cursor implements operator.Node.
func (n *node) Cursor(ids []uint32) operator.Cursor {
	c := &cursor{node: n, in: n.call.Over.Cursor(ids), left: len(ids)}
	if ids == nil {
		c.left = n.table.N
	}
	c.counter, _ = c.in.(operator.WindowCounter)
	c.f.init(n)
	return c
}

// Close implements operator.Node.
func (n *node) Close() {
	n.call.Over.Close()
	for _, a := range n.call.Args {
		a.Close()
	}
	n.held.release()
}
