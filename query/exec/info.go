// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/info"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// info builds the function that adds labels of info metrics.
func (b *builder) info(n *plan.Call) (operator.Node, error) {
	base, err := b.vector(n.Args[0])
	if err != nil {
		return nil, err
	}
	c := info.Call{Base: base}
	if len(n.Args) > 1 {
		if s, ok := n.Args[1].(*plan.Select); ok {
			c.Matchers = s.Written
		}
	}
	at, offset := info.Reference(n.Written.Args[0])
	start, end := n.When.Start, n.When.End
	if at != nil {
		start, end = *at, *at
	}
	hint := column.Hint{MinT: start - b.env.LookbackDelta + 1 - offset, MaxT: end - offset}
	hint.Use.Func, hint.Use.Step = "info", n.When.Step
	c.Select = func(ms []*labels.Matcher) operator.Node {
		return scan.NewSampleTimes(b.env, scan.Selector{Matchers: ms, Offset: offset, At: at, Hint: hint}, n.When.Grid())
	}
	op := info.New(b.env, c)
	b.of(n).infos = op.Infos
	return op, nil
}
