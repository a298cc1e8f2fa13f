// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remoteread

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/foreign"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// merged is a view of the store and of remotes. It is a foreign view of what Prometheus' merging makes of both; what the
// store alone answers goes to its own view.
type merged struct {
	column.View // of all
	local       column.View
}

func newMerged(local column.View, asked []remoteServer, mint, maxt int64) (*merged, error) {
	q := &querier{local: local, asked: asked, failed: map[string]bool{}, mint: mint, maxt: maxt}
	all, err := foreign.New(storage.QueryableFunc(func(int64, int64) (storage.Querier, error) { return q, nil })).View(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &merged{all, local}, nil
}

// KeepsResetHints is as that of the foreign view.
func (m *merged) KeepsResetHints() bool { return true }

// setBytes is about what a series of a set takes beside its labels, and what it takes to read it.
const setBytes = 256

// Series implements column.View. Where the account has no room for what the remotes answer, it is that which fails, not
// the remotes.
func (m *merged) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (set *column.SeriesSet, err error) {
	if h.Account == nil {
		return m.View.Series(ctx, ms, h)
	}
	spent := &spending{account: h.Account}
	defer func() {
		if err != nil {
			spent.giveBack()
		}
	}()
	set, err = m.View.Series(spent.within(ctx), ms, h)
	if refused := spent.refused.Load(); refused != nil {
		return nil, fmt.Errorf("remote_read: %w", refused)
	}
	if err != nil {
		return nil, err
	}
	n := int64(set.N) * int64(setBytes+4*len(set.Names))
	for _, text := range set.Text {
		n += int64(len(text)) + 16
	}
	if err := spent.take(n); err != nil {
		return nil, err
	}
	set.Bytes += spent.bytes.Load()
	return set, nil
}

// Close implements column.View.
func (m *merged) Close() error { return errors.Join(m.View.Close(), m.local.Close()) }

// LabelNames implements column.LabelReader.
func (m *merged) LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error) {
	r, ok := m.local.(column.LabelReader)
	if !ok {
		return nil, errLacks
	}
	return r.LabelNames(ctx, ms, limit)
}

// LabelValues implements column.LabelReader.
func (m *merged) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	r, ok := m.local.(column.LabelReader)
	if !ok {
		return nil, errLacks
	}
	return r.LabelValues(ctx, name, ms, limit)
}

// Exemplars implements column.ExemplarReader.
func (m *merged) Exemplars(ctx context.Context, mint, maxt int64, ms ...[]*labels.Matcher) ([]column.ExemplarSeries, error) {
	r, ok := m.local.(column.ExemplarReader)
	if !ok {
		return nil, errLacks
	}
	return r.Exemplars(ctx, mint, maxt, ms...)
}

// Metadata implements column.MetadataReader.
func (m *merged) Metadata(ctx context.Context, metric string) iter.Seq2[string, []metadata.Metadata] {
	r, ok := m.local.(column.MetadataReader)
	if !ok {
		return func(func(string, []metadata.Metadata) bool) {}
	}
	return r.Metadata(ctx, metric)
}

var errLacks = errors.New("the store does not answer that")

// fixed is a source of one view.
type fixed struct{ view column.View }

// View implements column.Source.
func (f fixed) View(int64, int64) (column.View, error) { return lent{f.view}, nil }

// lent is a view that who it was given to does not close.
type lent struct{ column.View }

// Close implements column.View.
func (lent) Close() error { return nil }

// querier selects from the store and from remotes. Prometheus' own merging bears no selection after the first result was
// read, so each one has queriers of its own.
type querier struct {
	local      column.View
	asked      []remoteServer
	mint, maxt int64

	mu     sync.Mutex
	failed map[string]bool // guarded by mu: remotes that are not asked again, by name
}

// Select implements storage.Querier.
func (q *querier) Select(ctx context.Context, _ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	own, err := queryable.New(fixed{q.local}).Querier(q.mint, q.maxt)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	var others []storage.Querier
	for _, r := range q.asked {
		if q.gaveUp(r.name) {
			continue
		}
		other, err := r.Querier(q.mint, q.maxt)
		if err != nil {
			return storage.ErrSeriesSet(err)
		}
		others = append(others, noticing{other, r.name, q})
	}
	return storage.NewMergeQuerier([]storage.Querier{own}, others, storage.ChainedSeriesMerge).Select(ctx, true, h, ms...)
}

func (q *querier) gaveUp(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed[name]
}

// LabelValues implements storage.Querier. Nobody asks a foreign view for them.
func (q *querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errLacks
}

// LabelNames is as LabelValues.
func (q *querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errLacks
}

// Close implements storage.Querier. The view of the store is closed by who has opened it.
func (q *querier) Close() error { return nil }

// noticing is the querier of a remote. It notes that the remote has failed.
type noticing struct {
	storage.Querier
	name string
	of   *querier
}

// Select implements storage.Querier. All of an answer is read at once: what fails halfway must not be half there.
func (n noticing) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	from := n.Querier.Select(ctx, sorted, h, ms...)
	x := &answer{warnings: from.Warnings(), at: -1}
	for from.Next() {
		x.add(n, from.At())
	}
	x.warnings.Merge(from.Warnings())
	if err := from.Err(); err != nil {
		n.of.mu.Lock()
		defer n.of.mu.Unlock()
		n.of.failed[n.name] = true
		x.series, x.err = nil, fmt.Errorf("remote_read %s: %w", n.name, err)
	}
	return x
}

// answer is the series of a remote, or why there are none.
type answer struct {
	series   []*farSeries
	warnings annotations.Annotations
	err      error
	at       int
}

// add adds a series. One that is longer than a frame comes in several, one after the other.
func (x *answer) add(from noticing, s storage.Series) {
	ls := s.Labels()
	if n := len(x.series); n > 0 && labels.Equal(x.series[n-1].labels, ls) {
		x.series[n-1].parts = append(x.series[n-1].parts, s)
		return
	}
	x.series = append(x.series, &farSeries{from: from, labels: ls, parts: []storage.Series{s}})
}

func (x *answer) Next() bool {
	x.at++
	return x.at < len(x.series)
}

func (x *answer) At() storage.Series                { return x.series[x.at] }
func (x *answer) Err() error                        { return x.err }
func (x *answer) Warnings() annotations.Annotations { return x.warnings }

// farSeries is a series of a remote. It is empty once the remote has failed: an answer has all that the remote has for it,
// or nothing.
type farSeries struct {
	from   noticing
	labels labels.Labels
	parts  []storage.Series
}

// Labels implements storage.Series.
func (s *farSeries) Labels() labels.Labels { return s.labels }

// Iterator implements storage.Series.
func (s *farSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	switch {
	case s.from.of.gaveUp(s.from.name):
		return chunkenc.NewNopIterator()
	case len(s.parts) == 1:
		return s.parts[0].Iterator(it)
	}
	return storage.ChainSampleIteratorFromSeries(it, s.parts)
}
