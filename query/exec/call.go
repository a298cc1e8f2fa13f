// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/bucket"
	"github.com/tidemarkdb/tidemark/query/operator/function"
	"github.com/tidemarkdb/tidemark/query/operator/scalar"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/plan"
)

// call builds a function whose value is a vector.
func (b *builder) call(n *plan.Call) (operator.Node, error) {
	for i, a := range n.Args {
		if a.Type() == parser.ValueTypeMatrix {
			return b.windowCall(n, i)
		}
	}
	if n.Func == "info" {
		return b.info(n)
	}
	in, scalars, texts, err := b.args(n)
	if err != nil {
		return nil, err
	}
	if kind, ok := bucketKind(n.Func); ok {
		c := bucket.Config{Kind: kind, Params: scalars, Input: in}
		if len(texts) > 0 {
			c.Label = texts[0]
		}
		op := bucket.New(b.env, c)
		if b.env.DelayedNameRemoval && n.When.Once() {
			return op, nil // as Prometheus does not look for series that are the same
		}
		return function.NewMerge(b.env, op, function.PerStep), nil
	}
	c := function.Call{
		Func: n.Func, Grid: n.When.Grid(), In: in, Scalars: scalars, Texts: texts, Many: !n.When.Once(),
	}
	if n.Func == "absent" {
		c.Labels = absentLabels(n, 0)
	}
	return function.Build(b.env, c)
}

// bucketKind tells whether a function is over the buckets of histograms, and which it is.
func bucketKind(name string) (bucket.Kind, bool) {
	switch name {
	case "histogram_quantile":
		return bucket.Quantile, true
	case "histogram_quantiles":
		return bucket.Quantiles, true
	case "histogram_fraction":
		return bucket.Fraction, true
	default:
		return 0, false
	}
}

// args builds the arguments of a call without range vectors; in is nil where there is no vector among them.
func (b *builder) args(n *plan.Call) (in operator.Node, scalars []operator.Scalar, texts []string, err error) {
	for _, a := range n.Args {
		switch a.Type() {
		case parser.ValueTypeScalar:
			s, err := b.scalar(a)
			if err != nil {
				return nil, nil, nil, err
			}
			scalars = append(scalars, s)
		case parser.ValueTypeString:
			t, ok := a.(*plan.Text)
			if !ok {
				return nil, nil, nil, fmt.Errorf("%s: an argument is no literal string", n)
			}
			texts = append(texts, t.Value)
		default:
			if in, err = b.vector(a); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	return in, scalars, texts, nil
}

// windowCall builds a function over the range vector that is argument i.
func (b *builder) windowCall(n *plan.Call, i int) (operator.Node, error) {
	over, err := b.ranges(n.Args[i], b.usesStartTimes(n.Func))
	if err != nil {
		return nil, err
	}
	m := b.windowMeter(n)
	c := window.Call{Func: n.Func, Over: m.Ranges(over), Rung: b.opts.Rung}
	_, c.Subquery = n.Args[i].(*plan.Subquery)
	for j, a := range n.Args {
		if j == i {
			continue
		}
		s, err := b.scalar(a)
		if err != nil {
			return nil, err
		}
		c.Args = append(c.Args, s)
	}
	op := m.Results(window.New(b.env, c))
	if n.Func != "absent_over_time" {
		return function.NewMerge(b.env, op, function.Never), nil
	}
	return function.Build(b.env, function.Call{
		Func: "absent", Grid: n.When.Grid(), In: op, Labels: absentLabels(n, i),
	})
}

// windowMeter returns what counts the windows of n.
func (b *builder) windowMeter(n plan.Node) *operator.WindowMeter {
	m := operator.NewWindowMeter(b.env, b.within || b.env.Samples.PerStep())
	b.of(n).windows = func() *operator.WindowMeter { return m }
	return m
}

func (b *builder) usesStartTimes(name string) bool {
	switch name {
	case "rate", "irate", "increase", "resets":
		return b.env.UseStartTimestamps
	default:
		return false
	}
}

// absentLabels returns the labels of what a call of absent() or absent_over_time() yields, whose argument is i.
func absentLabels(call *plan.Call, i int) labels.Labels {
	written := call.Written.Args[i]
	for p, ok := written.(*parser.ParenExpr); ok; p, ok = written.(*parser.ParenExpr) {
		written = p.Expr
	}
	if _, signed := written.(*parser.UnaryExpr); signed {
		return labels.EmptyLabels() // a plus, of which nothing is left in the plan
	}
	n := call.Args[i]
	if r, ok := n.(*plan.Ref); ok {
		n = r.As
	}
	switch n := n.(type) {
	case *plan.Select:
		return function.AbsentLabels(&parser.VectorSelector{LabelMatchers: n.Written})
	case *plan.Window:
		return function.AbsentLabels(&parser.VectorSelector{LabelMatchers: n.Select.Written})
	default:
		return labels.EmptyLabels()
	}
}

// scalarCall builds a function whose value is a scalar.
func (b *builder) scalarCall(n *plan.Call) (operator.Scalar, error) {
	in, scalars, _, err := b.args(n)
	if err != nil {
		return nil, err
	}
	return scalar.Build(b.env, scalar.Call{Func: n.Func, Grid: n.When.Grid(), In: in, Scalars: scalars})
}
