// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package column holds the types in which samples leave the storage: a View pins one consistent state, Series
// lists the series that match in label order, Scan decodes their samples into reused columns.
//
// It is a leaf beside package sample: the query engine, rules and the HTTP API read through these types and
// never import the storage itself. All times are Unix milliseconds; ranges are closed at both ends.
package column

import (
	"context"
	"iter"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Source opens views. It is implemented by the storage.
type Source interface {
	// View pins the state of the store as of now for samples in [mint, maxt]. It sees every batch whose
	// Commit returned before the call, and each batch wholly or not at all. The caller must Close it. What the
	// source cannot answer yet is a *sample.UnavailableError; see Waiter.
	View(mint, maxt int64) (View, error)
}

// Waiter is what a Source offers that may have to be waited for: a store that is being restored.
type Waiter interface {
	// Await waits until a View of [mint, maxt] is answered, or ctx is done; then the error says why it is not.
	Await(ctx context.Context, mint, maxt int64) error
}

// Await waits for a View of src over [mint, maxt], where it has to be waited for.
func Await(ctx context.Context, src Source, mint, maxt int64) error {
	if w, ok := src.(Waiter); ok {
		return w.Await(ctx, mint, maxt)
	}
	return nil
}

// StampReader is what a Source offers to who keeps answers. A stamp counts what has changed of the past: late samples
// where they came, and deletions. Live samples, which only add to the present, change no stamp.
//
// An answer over [mint, maxt] with maxt at most Sealed may be kept with the stamp that was read before its View was
// opened. It is what a new View would give for as long as the stamp is the same.
type StampReader interface {
	// Sealed returns the time up to which answers may be kept now: a minute ago.
	Sealed() int64
	// Stamp returns the count for the samples in [mint, maxt] of the series that match ms. It never falls, and may
	// rise though nothing has changed.
	Stamp(ms []*labels.Matcher, mint, maxt int64) uint64
}

// View is one consistent state of the store. It is safe for concurrent use until Close.
type View interface {
	// Series returns the series that match all of ms and may have samples in the hint's range, in label order.
	Series(ctx context.Context, ms []*labels.Matcher, h Hint) (*SeriesSet, error)
	// Scan decodes the samples of the next series of ids (rows of s) into dst, which it resets first, and
	// returns of how many: at least one while len(ids) > 0, fewer than len(ids) when dst has reached a
	// comfortable size. The caller goes on with the rest.
	Scan(ctx context.Context, s *SeriesSet, ids []uint32, n Need, dst *Block) (int, error)
	// Warnings returns what could not be read so far; it grows during Series and Scan.
	Warnings() annotations.Annotations
	// Close releases the pin. Block contents already scanned stay valid.
	Close() error
}

// LatestReader is what a View offers to evaluate an instant without decoding chunks.
type LatestReader interface {
	// Latest finds, for each of ids (rows of s), the newest sample of the view at or before at, where the store
	// knows it without decoding: a float in the head that is the newest of its series. It sets entry i of every
	// column of dst for ids[i]; the others have to be scanned. Safe for concurrent use with other calls.
	Latest(ctx context.Context, s *SeriesSet, ids []uint32, at int64, dst *Latest) error
}

// Latest is the answer of LatestReader. The caller owns it, and gives each column len(ids) entries beforehand.
type Latest struct {
	// Known tells whether T and V are the answer. Where it is false they mean nothing: Scan tells.
	Known []bool
	// T is the time of the sample, and math.MinInt64 where the view holds none at or before the time asked for.
	T []int64
	// V is its value, a stale marker included.
	V []float64
}

// LabelReader is what a View offers for the label endpoints. limit 0 means no limit; with one, at most limit
// names or values are returned, in order, and work stops there where it can.
type LabelReader interface {
	LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error)
	LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error)
}

// ExemplarSeries is the exemplars of one series, in time order.
type ExemplarSeries struct {
	Labels    labels.Labels
	Exemplars []exemplar.Exemplar
}

// ExemplarReader is what a View offers for exemplar queries: series that match any of the matcher sets.
type ExemplarReader interface {
	Exemplars(ctx context.Context, mint, maxt int64, ms ...[]*labels.Matcher) ([]ExemplarSeries, error)
}

// MetadataReader is what a View offers for metric family descriptions.
type MetadataReader interface {
	// Metadata returns the descriptions known per metric family, of metric alone where it is not empty.
	// Families are in name order, each family's distinct descriptions newest first.
	Metadata(ctx context.Context, metric string) iter.Seq2[string, []metadata.Metadata]
}

// Hint narrows a Series call. The zero value asks for everything in the view.
type Hint struct {
	MinT, MaxT int64 // both zero: the range of the view
	Limit      int   // at most so many series; 0: no limit
	Use        Use
	// Account is charged for what making the set takes, while it is made, and then for the set: SeriesSet.Bytes. Where
	// it has no room Series fails with a *budget.ExceededError. nil: nothing is charged.
	Account *budget.Account
}

// Use says what a reader will do with the samples. A view may read less because of it, or ignore it.
type Use struct {
	Step     int64    // between evaluations, milliseconds; 0: there is one
	Range    int64    // of the windows that are evaluated, milliseconds; 0: single samples are
	Func     string   // the function or aggregation applied, empty if none
	Grouping []string // the labels of the aggregation
	By       bool     // Grouping names the labels that stay; false: those that go
}

// Need says which part of the samples a Scan wants.
type Need struct {
	MinT, MaxT int64 // both zero: the range of the view
	ST         bool  // fill Block.ST
	// Float asks for all native histograms as float histograms, in Block.H.Float; Block.Kind still says what they are
	// stored as. They belong to the Block: they are good until its next Scan, Reset or Free, and the reader must not
	// change them but for the hint. Histograms of one layout that follow one another share their spans.
	Float bool
	// HistStats asks of native histograms for nothing but count, sum, schema and hint. It includes Float. The hints
	// are those that promql.HistogramStatsIterator gives who reads all rows of the series one after the other:
	// where Prometheus' storage knows of no reset, the buckets were looked at.
	HistStats bool
	// Ends says that of native histograms that go on counting the reader looks at nothing but the first and the last of a
	// series. It includes Float. Those between may have the numbers of others; they have their own times, kinds and
	// layouts, and the hint that they are no resets. A histogram that is a reset, and the one before it, are whole.
	Ends bool
}

// SeriesSet is the answer of Series: N series, rows 0..N-1 in label order, each with its labels as symbols.
// It is immutable and stays readable after its View is closed; scanning it needs the View that made it.
type SeriesSet struct {
	Gen uint64 // equal Gen of one source: the same set, whichever view gave it
	// Cached says that the source knew the set from before, for whoever asks where time went.
	Cached bool
	N      int
	// Names are the label names that occur, sorted. Syms[i][row] is the index into Text of the value that
	// Names[i] has in that row; 0, the empty text, where the row lacks the label. Text is sorted and names each
	// text once, so that symbols compare as what they stand for.
	Names []string
	Syms  [][]uint32
	Text  []string
	// Bytes is what Hint.Account is charged for the set, until its user gives them back: when it drops the set, or
	// earlier where it has charged the same memory itself. A set that the store keeps for others, too, is charged to
	// each of its users.
	Bytes int64
	// Handle belongs to the View that made the set.
	Handle any
}

// Labels returns the labels of one row. The strings are the set's: they live as long as the caller keeps them.
func (s *SeriesSet) Labels(row uint32, b *labels.ScratchBuilder) labels.Labels {
	b.Reset()
	for i, name := range s.Names {
		if sym := s.Syms[i][row]; sym != 0 {
			b.Add(name, s.Text[sym])
		}
	}
	return b.Labels()
}
