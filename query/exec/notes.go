// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
)

// annotations collects what the operators noted. Where two say the same, the later one's position counts, so they come
// in the order in which Prometheus evaluates: inputs before what they go into.
func (q *Query) annotations() annotations.Annotations {
	w := noteWalk{built: q.built, notes: q.built.notes}
	w.collect(q.plan.Root, q.plan.Root)
	if q.env.View != nil {
		w.to.Merge(q.env.View.Warnings())
	}
	return w.to
}

// noteWalk goes over a query twice at once: over what stands there, for the positions, and over what was evaluated for
// it, which is another place of the query where a value is shared.
type noteWalk struct {
	built *builder
	notes map[plan.Node][]operator.Annotated
	// single: shared values were evaluated where they stand.
	single bool
	to     annotations.Annotations
}

func (w *noteWalk) collect(n, by plan.Node) {
	if r, ok := n.(*plan.Ref); ok {
		n = r.As
	}
	if r, ok := by.(*plan.Ref); ok {
		if w.single {
			by = r.As
		} else if h := w.built.handles[r]; h != nil && h.private != nil {
			own := noteWalk{built: w.built, notes: h.private.notes, single: true, to: w.to}
			own.collect(n, h.ref.As)
			w.to = own.to
			return
		} else {
			by = r.To.Node
		}
	}
	inputs := by.Inputs()
	for i, in := range n.Inputs() {
		w.collect(in, inputs[i])
	}
	for _, op := range w.notes[by] {
		op.Notes().AddTo(&w.to, n.Where().Slots)
	}
}

// failed returns the annotations of a query that ended with err.
func (q *Query) failed(error) annotations.Annotations { return nil }
