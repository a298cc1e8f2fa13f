// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// resolveUnknown asks the store for the series that are not known. The refs of those that it does not make are 0.
func (r *Request) resolveUnknown() error {
	n := len(r.unknown)
	r.refs = append(r.refs[:0], make([]sample.Ref, n)...)
	r.refused = r.refused[:0]
	for i := 0; i < n; {
		err := r.in.appender.Resolve(r.labels[i:], r.refs[i:])
		if err == nil {
			return nil
		}
		if limit, ok := errors.AsType[*sample.RefusedError](err); ok {
			for _, x := range limit.Refused {
				r.refused = append(r.refused, sample.Refusal{Index: i + x.Index, Why: x.Why})
			}
			if err = limit.Err; err == nil {
				return nil
			}
		}
		if _, full := errors.AsType[*budget.ExceededError](err); !full {
			return err
		}
		for i < n && (r.refs[i] != 0 || r.refusal(i) != "") {
			i++
		}
		// What was refused behind the one without room will be asked about once more.
		r.refused = slices.DeleteFunc(r.refused, func(x sample.Refusal) bool { return x.Index > i })
		i++ // the next may exist
	}
	return nil
}

// noRoom reports whether there was no memory for one of the series that were asked about last.
func (r *Request) noRoom() bool {
	for i, ref := range r.refs[:len(r.unknown)] {
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
