// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// resolveUnknown asks the store for the series that are not known. The refs of those that it does not make are 0, because
// of a limit or for lack of memory.
func (r *Request) resolveUnknown() error {
	store, finds := r.in.appender.(finder)
	r.asked = len(r.unknown)
	if finds {
		r.asked = r.rowsFirst()
	}
	r.refs = append(r.refs[:0], make([]sample.Ref, len(r.unknown))...)
	r.refused = r.refused[:0]
	err := r.in.appender.Resolve(r.labels[:r.asked], r.refs[:r.asked])
	if limit, ok := errors.AsType[*sample.RefusedError](err); ok {
		r.refused = append(r.refused, limit.Refused...)
		err = limit.Err
	}
	if _, full := errors.AsType[*budget.ExceededError](err); err != nil && !full {
		return err
	}
	for i := r.asked; i < len(r.unknown); i++ {
		r.refs[i], _ = store.Lookup(r.labels[i])
	}
	return nil
}

// finder is a store that finds a series without making it.
type finder interface {
	Lookup(ls labels.Labels) (sample.Ref, bool)
}

// rowsFirst puts the unknown series without rows behind the others, whose number it returns: an exemplar alone, or what
// the sender did wrong, makes no series.
func (r *Request) rowsFirst() int {
	rowless := func(at int32) bool {
		lo, hi := r.rows(int(at))
		return lo == hi
	}
	if !slices.ContainsFunc(r.unknown, rowless) {
		return len(r.unknown)
	}
	var at []int32
	var sets []labels.Labels
	n := 0
	for i, u := range r.unknown {
		if rowless(u) {
			at, sets = append(at, u), append(sets, r.labels[i])
			continue
		}
		r.unknown[n], r.labels[n] = u, r.labels[i]
		n++
	}
	copy(r.unknown[n:], at)
	copy(r.labels[n:], sets)
	return n
}

// noRoom reports whether there was no memory for one of the series that were asked about last.
func (r *Request) noRoom() bool {
	for i, ref := range r.refs[:r.asked] {
		if ref == 0 && r.refusal(i) == "" {
			return true
		}
	}
	return false
}

// refusal returns why a limit refused a label set; nothing where none did.
func (r *Request) refusal(i int) string {
	at, ok := slices.BinarySearchFunc(r.refused, i, func(x sample.Refusal, i int) int { return cmp.Compare(x.Index, i) })
	if !ok {
		return ""
	}
	return r.refused[at].Why
}

// whyHomeless returns why the store made no series of a label set, and what counts its rows.
func (r *Request) whyHomeless(i int) (string, prometheus.Counter) {
	if why := r.refusal(i); why != "" {
		return why, r.in.metrics.refused
	}
	return reasonText[sample.OverLimit], r.in.metrics.byReason[sample.OverLimit]
}

// addHomeless counts rows of label set i of those that were asked about last, of which the store made no series.
func (r *Request) addHomeless(out *Outcome, i, rows int) {
	why, counter := r.whyHomeless(i)
	known := len(out.Problems)
	out.add(why, rows, func() string { return show(r.labels[i]) })
	counter.Add(float64(rows))
	r.rejectHomeless(i, rows, len(out.Problems) > known)
}
