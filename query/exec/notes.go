// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"strings"

	"github.com/prometheus/prometheus/util/annotations"
)

// annotations collects what the operators noted. Where two say the same, the later one's position counts, so they come
// in the order in which Prometheus evaluates: inputs before what they go into.
func (q *Query) annotations() annotations.Annotations {
	var ws annotations.Annotations
	q.place().annotate(&ws)
	if q.env.View != nil {
		ws.Merge(q.env.View.Warnings())
	}
	return ws
}

func (p place) annotate(to *annotations.Annotations) {
	for _, in := range p.inputs() {
		in.annotate(to)
	}
	for _, op := range p.by.of(p.done).notes {
		op.Notes().AddTo(to, p.stands.Where().Slots)
	}
}

// failed returns the annotations of a query that ended with err: none, unless only its end failed, but for what a
// storage said that could not list its series.
func (q *Query) failed(err error) annotations.Annotations {
	if q.root.evaluated() {
		return q.annotations()
	}
	if q.env.View == nil || !strings.HasPrefix(err.Error(), "expanding series: ") {
		return nil
	}
	return q.env.View.Warnings()
}
