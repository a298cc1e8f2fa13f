// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package ingesttest holds a storage for tests of the ingest layer.
//
// A Recorder is a sample.Appender in memory that keeps every accepted Row in the order of commits, and answers what
// a test tells it to: a reason per row, a full store, an error of each call. It lives as long as its test and has
// nothing to close. Its methods are safe for concurrent use; its hooks are set before the first call.
package ingesttest

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Row is one stored sample.
type Row struct {
	Series string // labels in PromQL notation
	ST, T  int64
	V      float64
	H      *histogram.Histogram
	FH     *histogram.FloatHistogram
}

// Recorder is a storage in memory. The hooks may be set before it is used.
type Recorder struct {
	// Fate decides about a row; nil: every row is accepted.
	Fate func(Row) sample.Reason
	// Refuse says why a new series may not be made; nil, and nothing: it may.
	Refuse func(labels.Labels) string
	// MaxSeries is how many series there is room for; 0: any number.
	MaxSeries int
	// ResolveErr, CommitErr and DurableErr, where set, are what the calls answer.
	ResolveErr, CommitErr, DurableErr error

	mu struct {
		sync.Mutex
		refs      map[string]sample.Ref
		series    map[sample.Ref]string
		next      uint32
		rows      []Row
		exemplars []string
		meta      map[string]sample.Metadata
		described int
		resolved  int
		lsn       sample.LSN
		durable   sample.LSN
	}
}

// Resolve gives every label set a ref.
func (r *Recorder) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(refs)
	if r.ResolveErr != nil {
		return r.ResolveErr
	}
	if r.mu.refs == nil {
		r.mu.refs, r.mu.series, r.mu.meta = map[string]sample.Ref{}, map[sample.Ref]string{}, map[string]sample.Metadata{}
	}
	refused := &sample.RefusedError{}
	for i, l := range ls {
		name := l.String()
		ref, ok := r.mu.refs[name]
		if !ok {
			if r.Refuse != nil && refused.Err == nil {
				if why := r.Refuse(l); why != "" {
					refused.Refused = append(refused.Refused, sample.Refusal{Index: i, Why: why})
					continue
				}
			}
			if r.MaxSeries > 0 && len(r.mu.refs) >= r.MaxSeries {
				refused.Err = &budget.ExceededError{Account: "head", Limit: 1, Used: 1, Want: 1}
				continue
			}
			r.mu.next++
			ref = sample.MakeRef(1, r.mu.next)
			r.mu.refs[name], r.mu.series[ref] = ref, name
		}
		refs[i] = ref
		r.mu.resolved++
	}
	if len(refused.Refused) == 0 {
		return refused.Err
	}
	return refused
}

// Commit keeps the rows that are accepted.
func (r *Recorder) Commit(_ context.Context, b *sample.Batch, res *sample.Result) (sample.LSN, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*res = sample.Result{Reason: res.Reason[:0]}
	if r.CommitErr != nil {
		return 0, r.CommitErr
	}
	for i := range b.Len() {
		reason := r.commitRow(b, i)
		res.Reason = append(res.Reason, reason)
		if reason.Stored() {
			if b.KindAt(i) == sample.Float {
				res.Floats++
			} else {
				res.Histograms++
			}
		}
	}
	for _, e := range b.Exemplars {
		if name, ok := r.mu.series[e.Ref]; ok {
			r.mu.exemplars = append(r.mu.exemplars, name+" # "+e.Labels.String())
			res.Exemplars++
		}
	}
	for _, m := range b.Meta {
		if name, ok := r.mu.series[m.Ref]; ok {
			m.Ref = 0
			r.mu.meta[name] = m
			r.mu.described++
		}
	}
	r.mu.lsn++
	return r.mu.lsn, nil
}

func (r *Recorder) commitRow(b *sample.Batch, i int) sample.Reason {
	reason := r.judge(b, i)
	if reason == sample.Accepted {
		r.mu.rows = append(r.mu.rows, r.row(b, i))
	}
	return reason
}

func (r *Recorder) judge(b *sample.Batch, i int) sample.Reason {
	if _, ok := r.mu.series[b.Ref[i]]; !ok {
		return sample.StaleRef
	}
	if r.Fate == nil {
		return sample.Accepted
	}
	return r.Fate(r.row(b, i))
}

func (r *Recorder) row(b *sample.Batch, i int) Row {
	row := Row{Series: r.mu.series[b.Ref[i]], ST: b.STAt(i), T: b.T[i], V: b.V[i]}
	if b.KindAt(i) != sample.Float {
		row.H, row.FH = b.H[i], b.FH[i]
	}
	return row
}

// Foresee returns what would become of a row, as a store does that has no order of samples.
func (r *Recorder) Foresee(b *sample.Batch, row int) sample.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judge(b, row)
}

// ForeseeExemplar takes every exemplar.
func (r *Recorder) ForeseeExemplar(sample.Exemplar) sample.Reason { return sample.Accepted }

// Durable notes the LSN.
func (r *Recorder) Durable(_ context.Context, lsn sample.LSN) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.DurableErr == nil {
		r.mu.durable = max(r.mu.durable, lsn)
	}
	return r.DurableErr
}

// Forget lets all series leave the store: their refs are stale.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.mu.refs)
	clear(r.mu.series)
}

// Rows returns what was stored, in order.
func (r *Recorder) Rows() []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mu.rows)
}

// Exemplars returns the stored exemplars as text, in order.
func (r *Recorder) Exemplars() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mu.exemplars)
}

// Metadata returns the metadata of a series that was stored last.
func (r *Recorder) Metadata(series string) sample.Metadata {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.meta[series]
}

// Described returns how often metadata was stored.
func (r *Recorder) Described() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.described
}

// Resolved returns how many label sets Resolve was given.
func (r *Recorder) Resolved() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.resolved
}

// AllDurable reports whether everything that was committed was waited for.
func (r *Recorder) AllDurable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.durable == r.mu.lsn
}
