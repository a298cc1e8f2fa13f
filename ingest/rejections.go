// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	keptExamples = 10 // of each reason
	mostReasons  = 50 // that are told apart; there are some twenty
	// mostExampleBytes bounds the labels that an example keeps, and so all examples together to 1 MB.
	mostExampleBytes = 2 << 10
)

// Rejection is a reason for which samples were not stored.
type Rejection struct {
	Reason   string    `json:"reason"`
	Samples  uint64    `json:"samples"` // since the start
	Examples []Example `json:"examples"`
}

// Example is a sample that was not stored, or a series none of which was.
type Example struct {
	// Labels are those of the series; empty where they are invalid or long, Detail says them then.
	Labels labels.Labels `json:"labels"`
	// Time is the sample's; nil where no sample in particular is meant.
	Time   *time.Time `json:"time,omitempty"`
	Detail string     `json:"detail,omitempty"`
	// Protocol and Sender say how it came, and from which address or target.
	Protocol string    `json:"protocol,omitempty"`
	Sender   string    `json:"sender,omitempty"`
	Received time.Time `json:"received"`
}

// Rejections counts what was not stored, and remembers the last examples of each reason. A request adds one example of each
// of its reasons. The zero value is empty; it takes memory only once something is rejected.
type Rejections struct {
	mu struct {
		sync.Mutex
		reasons map[string]*rejection
	}
}

type rejection struct {
	samples  uint64
	examples [keptExamples]Example // a ring
	added    int
}

// count counts samples of which there is an example already, or none to be had.
func (r *Rejections) count(reason string, samples int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.reasonLocked(reason); x != nil {
		x.samples += uint64(samples)
	}
}

// add counts samples and keeps an example of them.
func (r *Rejections) add(reason string, samples int, e Example) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.reasonLocked(reason); x != nil {
		x.samples += uint64(samples)
		x.examples[x.added%keptExamples] = e
		x.added++
	}
}

// reasonLocked returns what is kept of a reason, nil where there are too many.
func (r *Rejections) reasonLocked(reason string) *rejection {
	x := r.mu.reasons[reason]
	if x == nil && len(r.mu.reasons) < mostReasons {
		if r.mu.reasons == nil {
			r.mu.reasons = map[string]*rejection{}
		}
		x = &rejection{}
		r.mu.reasons[reason] = x
	}
	return x
}

// List returns the reasons, the one with most samples first, and the examples of each, the last first.
func (r *Rejections) List() []Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Rejection, 0, len(r.mu.reasons))
	for _, reason := range slices.Sorted(maps.Keys(r.mu.reasons)) {
		x := r.mu.reasons[reason]
		one := Rejection{Reason: reason, Samples: x.samples, Examples: []Example{}}
		for i := range min(x.added, keptExamples) {
			one.Examples = append(one.Examples, x.examples[(x.added-1-i)%keptExamples])
		}
		out = append(out, one)
	}
	slices.SortStableFunc(out, func(a, b Rejection) int { return cmp.Compare(b.Samples, a.Samples) })
	return out
}

// Rejected returns what requests of this Intake brought that was not stored.
func (in *Intake) Rejected() *Rejections { return &in.rejected }

// From says how the request came and from whom, for the examples of what is not stored of it.
func (r *Request) From(protocol, sender string) { r.protocol, r.sender = protocol, sender }

// reject counts samples that are not stored, with an example of them.
func (r *Request) reject(reason string, samples int, e Example) {
	if e.Labels.ByteSize() > mostExampleBytes {
		e.Detail, e.Labels = strings.TrimSpace(e.Detail+" "+show(e.Labels)), labels.EmptyLabels()
	}
	if len(e.Detail) > mostExampleBytes {
		e.Detail = strings.ToValidUTF8(e.Detail[:mostExampleBytes], "") + "…"
	}
	e.Protocol, e.Sender, e.Received = r.protocol, r.sender, time.Now().UTC()
	r.in.rejected.add(reason, samples, e)
}

// rejectRows counts the rows that the store refused for a reason; row is one of them.
func (r *Request) rejectRows(reason sample.Reason, rows, row int, labelsOf LabelsOf) Example {
	at := time.UnixMilli(r.batch.T[row]).UTC()
	e := Example{Time: &at}
	ls, err := labelsOf(r.seriesOfRow(row))
	if e.Labels = ls; err != nil {
		e.Detail = err.Error()
	}
	r.reject(reason.String(), rows, e)
	return e
}

// rejectHomeless counts the rows of a series that the store did not make, with an example where one is wanted.
func (r *Request) rejectHomeless(i, rows int, example bool) {
	reason, e := sample.OverLimit.String(), Example{Labels: r.labels[i]}
	if why := r.refusal(i); why != "" {
		reason, e.Detail = "series_limit", why
	}
	if example {
		r.reject(reason, rows, e)
	} else {
		r.in.rejected.count(reason, rows)
	}
}

// fates returns how many rows met each fate, and the first of each.
func (r *Request) fates() (rows, first [sample.Reasons]int) {
	if r.result.Reason == nil {
		rows[sample.Accepted] = r.batch.Len()
	}
	for row, reason := range r.result.Reason {
		if rows[reason] == 0 {
			first[reason] = row
		}
		rows[reason]++
	}
	return rows, first
}
