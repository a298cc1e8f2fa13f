// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
)

// builder makes operators of nodes.
type builder struct {
	env   *operator.Env
	notes map[plan.Node][]*operator.Notes
}

func newBuilder(env *operator.Env) *builder {
	return &builder{env: env, notes: map[plan.Node][]*operator.Notes{}}
}

// root builds the operators of a plan.
func (b *builder) root(p *plan.Plan) (root, error) {
	n := p.Root
	r := root{kind: n.Type(), grid: n.Where().When.Grid(), none: n.Where().When.None()}
	if !p.Instant() {
		r.kind = parser.ValueTypeMatrix
	}
	if r.none {
		return r, nil
	}
	switch n := n.(type) {
	case *plan.Text:
		r.text = &n.Value
		return r, nil
	default:
		return r, fmt.Errorf("no operator for %T", n)
	}
}

// noting remembers the annotations of an operator of n, if it raises any.
func (b *builder) noting(n plan.Node, op any) {
	if a, ok := op.(operator.Annotated); ok {
		b.notes[n] = append(b.notes[n], a.Notes())
	}
}
