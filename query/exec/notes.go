// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/plan"
)

// annotations collects what the operators noted. Where two say the same, the later one's position counts, so they come
// in the order in which Prometheus evaluates: inputs before what they go into.
func (q *Query) annotations() annotations.Annotations {
	var ws annotations.Annotations
	q.collect(q.plan.Root, &ws)
	if q.env.View != nil {
		ws.Merge(q.env.View.Warnings())
	}
	return ws
}

func (q *Query) collect(n plan.Node, ws *annotations.Annotations) {
	for _, in := range n.Inputs() {
		q.collect(in, ws)
	}
	for _, notes := range q.notes[n] {
		notes.AddTo(ws, n.Where().Slots)
	}
}

// failed returns the annotations of a query that ended with err.
func (q *Query) failed(error) annotations.Annotations { return nil }
