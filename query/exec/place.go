// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import "github.com/tidemarkdb/tidemark/query/plan"

// place is a node of the query and the one that was evaluated for it: where a value is shared, that stands elsewhere
// in the query.
type place struct {
	stands, done plan.Node
	by           *builder // that built the operators of done
}

// place returns the root of the query.
func (q *Query) place() place { return place{q.plan.Root, q.plan.Root, q.built}.resolve() }

// resolve follows references.
func (p place) resolve() place {
	if r, ok := p.stands.(*plan.Ref); ok {
		p.stands = r.As
	}
	r, ok := p.done.(*plan.Ref)
	if !ok {
		return p
	}
	switch h := p.by.handles[r]; {
	case p.by.single:
		p.done = r.As
	case h != nil && h.private != nil:
		p.done, p.by = h.ref.As, h.private
	default:
		p.done = r.To.Node
	}
	return p.resolve()
}

// inputs returns the places of the inputs, in the order of evaluation.
func (p place) inputs() []place {
	stands, done := p.stands.Inputs(), p.done.Inputs()
	in := make([]place, len(stands))
	for i := range in {
		in[i] = place{stands[i], done[i], p.by}.resolve()
	}
	return in
}
