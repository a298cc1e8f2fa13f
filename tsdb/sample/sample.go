// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package sample holds the types in which samples enter the storage: the columnar Batch that every
// protocol fills, the Result that says what became of each row, and the Appender that takes it.
//
// It is a leaf: it imports only the standard library and Prometheus' model packages, so that the storage,
// the ingest layer and the rule evaluator share the very same types without importing each other.
//
// A row is one sample of one series at one time. Times are Unix milliseconds. Float values keep their bits:
// NaN payloads, stale markers and negative zero come back as they went in.
package sample

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Ref names a series of the store: generation<<32 | id. The zero Ref is unknown. A Ref is never given to
// another series; using one whose series has left the store is answered by StaleRef, and the caller
// resolves its labels again.
type Ref uint64

// ID returns the slot of the series table that r names.
func (r Ref) ID() uint32 { return uint32(r) }

// Generation returns how often the slot had been used when r was given out; it starts at 1.
func (r Ref) Generation() uint32 { return uint32(r >> 32) }

// MakeRef joins the two halves of a Ref.
func MakeRef(generation, id uint32) Ref { return Ref(generation)<<32 | Ref(id) }

// LSN is the sequence number of a record in the log. The first is 1; 0 means none.
type LSN uint64

// Kind is the type of a row's value.
type Kind uint8

// The kinds of value. A row of kind Histogram or FloatHistogram has its value in Batch.H or Batch.FH.
const (
	Float Kind = iota
	Histogram
	FloatHistogram
)

// Flag changes how one row is validated.
type Flag uint8

const (
	// RejectOutOfOrder makes a row older than its series' newest sample an OutOfOrder row, whatever the
	// window for late data: set for stale markers and, by default, for scraped samples.
	RejectOutOfOrder Flag = 1 << iota
	// Scraped marks a row of the scrape path: the window for late scraped data applies, not that of push.
	Scraped
)

// Reason says what became of a row.
type Reason uint8

// The fates of a row. Accepted and Same rows are stored and count as success to the sender.
const (
	Accepted   Reason = iota
	Same              // the same time and the same bits were stored before: nothing to do
	Conflict          // another value is stored at the same time; the first is kept
	OutOfOrder        // older than the newest sample of its series where that is not allowed
	TooOld            // before the window for late data, or before the retention
	TooNew            // further in the future than the store accepts
	Invalid           // a value that cannot be stored, such as a malformed histogram
	StaleRef          // the Ref names no series any more: resolve again
	OverLimit         // the memory budget has no room for it
	reasonCount
)

// String returns the reason in the words that counters and messages use.
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return [reasonCount]string{
		"accepted", "same", "conflict", "out_of_order", "too_old", "too_new", "invalid", "stale_ref", "over_limit",
	}[r]
}

// Stored reports whether the sample is in the store after the commit.
func (r Reason) Stored() bool { return r <= Same }

// Reasons is the number of reasons, for tables indexed by Reason.
const Reasons = int(reasonCount)

// Batch is what one Commit takes: columns of equal length, one row per sample. The caller owns it and may
// reuse it once Commit has returned. The rows of one series must be in the order they are meant to be
// applied in; rows of different series may be mixed.
type Batch struct {
	Ref   []Ref
	T     []int64 // Unix milliseconds
	ST    []int64 // start timestamps, Unix milliseconds, 0 for none; nil: none at all
	V     []float64
	Kind  []Kind // nil: all floats
	Flags []Flag // nil: no flags
	// H and FH are indexed by row where Kind is not nil; entries of rows of another kind are nil.
	H  []*histogram.Histogram
	FH []*histogram.FloatHistogram

	Exemplars []Exemplar
	Meta      []Metadata
}

// Len returns the number of rows.
func (b *Batch) Len() int { return len(b.Ref) }

// KindAt returns the kind of row i.
func (b *Batch) KindAt(i int) Kind {
	if b.Kind == nil {
		return Float
	}
	return b.Kind[i]
}

// STAt returns the start timestamp of row i, 0 for none.
func (b *Batch) STAt(i int) int64 {
	if b.ST == nil {
		return 0
	}
	return b.ST[i]
}

// FlagsAt returns the flags of row i.
func (b *Batch) FlagsAt(i int) Flag {
	if b.Flags == nil {
		return 0
	}
	return b.Flags[i]
}

// AppendFloat adds one float row; st and flags 0 for none.
func (b *Batch) AppendFloat(ref Ref, st, t int64, v float64, flags Flag) {
	b.appendCommon(ref, st, t, flags)
	b.V = append(b.V, v)
	if b.Kind != nil {
		b.Kind = append(b.Kind, Float)
		b.H = append(b.H, nil)
		b.FH = append(b.FH, nil)
	}
}

// AppendHistogram adds one native histogram row; exactly one of h and fh is not nil. The histogram is not
// copied: it must not change before Commit has returned.
func (b *Batch) AppendHistogram(ref Ref, st, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram, flags Flag) {
	if b.Kind == nil {
		n := len(b.V)
		b.Kind = make([]Kind, n, n+1)
		b.H = make([]*histogram.Histogram, n, n+1)
		b.FH = make([]*histogram.FloatHistogram, n, n+1)
	}
	b.appendCommon(ref, st, t, flags)
	b.V = append(b.V, 0)
	b.H = append(b.H, h)
	b.FH = append(b.FH, fh)
	if fh != nil {
		b.Kind = append(b.Kind, FloatHistogram)
		return
	}
	b.Kind = append(b.Kind, Histogram)
}

func (b *Batch) appendCommon(ref Ref, st, t int64, flags Flag) {
	n := len(b.Ref)
	b.Ref = append(b.Ref, ref)
	b.T = append(b.T, t)
	if st != 0 && b.ST == nil {
		b.ST = make([]int64, n, n+1)
	}
	if b.ST != nil {
		b.ST = append(b.ST, st)
	}
	if flags != 0 && b.Flags == nil {
		b.Flags = make([]Flag, n, n+1)
	}
	if b.Flags != nil {
		b.Flags = append(b.Flags, flags)
	}
}

// Reset empties the batch and keeps its memory, but for the optional columns, which become nil again.
func (b *Batch) Reset() {
	b.Ref, b.T, b.V = b.Ref[:0], b.T[:0], b.V[:0]
	b.ST, b.Kind, b.Flags, b.H, b.FH = nil, nil, nil, nil, nil
	clear(b.Exemplars)
	b.Exemplars = b.Exemplars[:0]
	clear(b.Meta)
	b.Meta = b.Meta[:0]
}

// Exemplar is an example observation attached to a series.
type Exemplar struct {
	Ref    Ref
	Labels labels.Labels
	V      float64
	T      int64 // Unix milliseconds; that of the sample where the sender gave none
	HasT   bool  // whether the sender gave a time
}

// Metadata describes the metric family of a series.
type Metadata struct {
	Ref  Ref
	Type string // counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown
	Unit string
	Help string
}

// Result says what became of a batch. The caller owns it; Commit overwrites it.
type Result struct {
	// Reason has one entry per row, in batch order; nil when every row was Accepted.
	Reason []Reason
	// Floats, Histograms and Exemplars count what is stored: Accepted and Same rows, and new exemplars.
	Floats, Histograms, Exemplars int
}

// At returns the reason of row i.
func (r *Result) At(i int) Reason {
	if r.Reason == nil {
		return Accepted
	}
	return r.Reason[i]
}

// Appender is the one way in for samples.
type Appender interface {
	// Resolve fills refs with the series of ls, creating those the store does not know. Both slices have
	// the same length. Label sets must be sorted, without duplicates and without empty values. On error
	// refs is filled up to the first label set that could not be resolved, and zero from there; but where
	// that is for lack of memory, a *budget.ExceededError, the series behind it that exist have their refs
	// too, so that nobody asks again for the rest. A *RefusedError says which ones were passed over because
	// there may be no more series.
	Resolve(ls []labels.Labels, refs []Ref) error
	// Commit applies b as one atomic, visible step and fills r. It returns once the batch is visible to
	// queries; the batch survives a crash only when Durable of the returned LSN has returned nil. A
	// cancelled ctx ends the wait, never the commit: the error is then the context's, and the batch may
	// become visible later.
	Commit(ctx context.Context, b *Batch, r *Result) (LSN, error)
	// Durable waits until everything up to lsn survives a crash. Acknowledgements and notifications wait
	// for it.
	Durable(ctx context.Context, lsn LSN) error
}
