// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import "github.com/tidemarkdb/tidemark/tsdb/column"

// Why an answer or a part of it is not kept, as an analysis says it.
const (
	unkeptAsked       = "nocache"
	unkeptOff         = "the result cache is off"
	unkeptInstant     = "instant query"
	unkeptSource      = "another storage"
	unkeptDelayed     = "names are removed at the end"
	unkeptPerStep     = "statistics of every step"
	unkeptExpression  = "not cacheable: " // and which part of the query
	unkeptValue       = "not streamed"
	unkeptRecent      = "too recent"
	unkeptChanged     = "late writes"
	unkeptHistograms  = "histograms"
	unkeptAnnotations = "annotations"
	unkeptReserved    = "series with __type__ or __unit__"
	unkeptLarge       = "too large"
	unkeptMemory      = "no memory"
	unkeptCut         = "limit"
)

// unkept says why no answer of the query is kept, "" where one may be.
func (q *Query) unkept() string {
	o := q.plan.Options()
	_, stamped := q.src.(column.StampReader)
	switch {
	case o.Interval <= 0:
		return unkeptInstant
	case q.engine.cache == nil:
		return unkeptOff
	case q.noCache:
		return unkeptAsked
	case !stamped || !q.own:
		return unkeptSource
	case o.DelayedNameRemoval:
		return unkeptDelayed
	case q.perStep:
		return unkeptPerStep
	case q.whole != "":
		return unkeptExpression + q.whole
	case !q.streams:
		return unkeptValue
	}
	return ""
}

// inPartsError says that an answer cannot be put together from parts and has to be computed as a whole: there is no room
// for it, or a part is not the same in the whole. Its text is one of the above.
type inPartsError struct{ why string }

func (e *inPartsError) Error() string {
	return "the answer cannot be put together from parts: " + e.why
}
