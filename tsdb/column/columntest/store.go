// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package columntest is a column.Source in memory for the tests of what reads through package column: the
// query engine, the adapters and the HTTP API. It is as plain as can be, so that it serves as a model: sorted
// slices, every sample kept as it was given.
//
// A Store is safe for concurrent use. A View sees what was appended before it was opened and nothing later.
package columntest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Sample is one sample. At most one of H and FH is not nil; V counts where both are nil.
type Sample struct {
	ST, T int64
	V     float64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

// Store is the source. The zero value is empty and ready for use.
type Store struct {
	// ScanErr, where not nil, is what every Scan answers.
	ScanErr error
	// Warning, where not nil, is a warning that views give once something was scanned.
	Warning error

	sets atomic.Uint64 // made so far: no two are of one generation

	mu     sync.Mutex
	series map[string]*series
	meta   map[string][]metadata.Metadata
	opened int
	closed int
}

type series struct {
	ls        labels.Labels
	samples   []Sample
	exemplars []exemplar.Exemplar
}

// Append stores one sample of the series ls. A sample at a time that is taken replaces the older one.
func (s *Store) Append(ls labels.Labels, x Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.get(ls)
	i, found := slices.BinarySearchFunc(se.samples, x.T, func(a Sample, t int64) int { return int(a.T - t) })
	switch {
	case i == len(se.samples):
		se.samples = append(se.samples, x)
	case found:
		se.samples = slices.Clone(se.samples)
		se.samples[i] = x
	default:
		se.samples = slices.Insert(slices.Clone(se.samples), i, x)
	}
}

// AppendExemplar stores one exemplar; those of a series come in time order.
func (s *Store) AppendExemplar(ls labels.Labels, e exemplar.Exemplar) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.get(ls)
	se.exemplars = append(se.exemplars, e)
}

// AppendMetadata notes a description of a metric family, the newest first.
func (s *Store) AppendMetadata(metric string, m metadata.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta == nil {
		s.meta = map[string][]metadata.Metadata{}
	}
	s.meta[metric] = append([]metadata.Metadata{m}, s.meta[metric]...)
}

// OpenViews returns how many views were opened and not closed.
func (s *Store) OpenViews() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened - s.closed
}

func (s *Store) get(ls labels.Labels) *series {
	if s.series == nil {
		s.series = map[string]*series{}
	}
	key := ls.String()
	se, ok := s.series[key]
	if !ok {
		se = &series{ls: ls.Copy()}
		s.series[key] = se
	}
	return se
}

// View implements column.Source.
func (s *Store) View(mint, maxt int64) (column.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{store: s, mint: mint, maxt: maxt, meta: maps.Clone(s.meta)}
	for _, se := range s.series {
		v.series = append(v.series, series{ls: se.ls, samples: se.samples, exemplars: se.exemplars})
	}
	slices.SortFunc(v.series, func(a, b series) int { return labels.Compare(a.ls, b.ls) })
	s.opened++
	return v, nil
}

type view struct {
	store      *Store
	mint, maxt int64
	series     []series
	meta       map[string][]metadata.Metadata

	mu       sync.Mutex
	warnings annotations.Annotations
	closed   bool
}

// Series implements column.View.
func (v *view) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	mint, maxt := v.narrow(h.MinT, h.MaxT)
	var rows []int
	for i := range v.series {
		if h.Limit > 0 && len(rows) == h.Limit {
			break
		}
		if matches(v.series[i].ls, ms) && len(v.series[i].within(mint, maxt)) > 0 {
			rows = append(rows, i)
		}
	}
	return v.seriesSet(rows), nil
}

// narrow returns the range asked for, cut to that of the view.
func (v *view) narrow(mint, maxt int64) (from, to int64) {
	if mint == 0 && maxt == 0 {
		return v.mint, v.maxt
	}
	return max(mint, v.mint), min(maxt, v.maxt)
}

func (v *view) seriesSet(rows []int) *column.SeriesSet {
	set := &column.SeriesSet{Gen: v.store.sets.Add(1), N: len(rows), Handle: rows}
	names, values := map[string]struct{}{}, map[string]struct{}{"": {}}
	for _, r := range rows {
		v.series[r].ls.Range(func(l labels.Label) { names[l.Name], values[l.Value] = struct{}{}, struct{}{} })
	}
	set.Names, set.Text = slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(values))
	for _, name := range set.Names {
		col := make([]uint32, len(rows))
		for i, r := range rows {
			sym, _ := slices.BinarySearch(set.Text, v.series[r].ls.Get(name))
			col[i] = uint32(sym)
		}
		set.Syms = append(set.Syms, col)
	}
	return set
}

// Scan implements column.View. It decodes at most three series at a time, so that callers must go on.
func (v *view) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	dst.Reset()
	dst.Want(n)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := v.beginScan(); err != nil {
		return 0, err
	}
	mint, maxt := v.narrow(n.MinT, n.MaxT)
	rows := s.Handle.([]int)
	k := min(3, len(ids))
	for _, id := range ids[:k] {
		for _, x := range v.series[rows[id]].within(mint, maxt) {
			st := x.ST
			if !n.ST {
				st = 0
			}
			switch {
			case x.H != nil:
				dst.AppendHistogram(x.T, st, x.H.Copy(), nil)
			case x.FH != nil:
				dst.AppendHistogram(x.T, st, nil, x.FH.Copy())
			default:
				dst.AppendFloat(x.T, st, x.V)
			}
		}
		dst.EndSeries()
	}
	return k, nil
}

func (v *view) beginScan() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return errors.New("columntest: scan of a closed view")
	}
	if v.store.Warning != nil {
		v.warnings.Add(v.store.Warning)
	}
	return v.store.ScanErr
}

// Warnings implements column.View.
func (v *view) Warnings() annotations.Annotations {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.warnings)
}

// Close implements column.View.
func (v *view) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return errors.New("columntest: view closed twice")
	}
	v.closed = true
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	v.store.closed++
	return nil
}

// LabelNames implements column.LabelReader.
func (v *view) LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error) {
	set, err := v.Series(ctx, ms, column.Hint{})
	if err != nil {
		return nil, err
	}
	return cut(set.Names, limit), nil
}

// LabelValues implements column.LabelReader.
func (v *view) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values := map[string]struct{}{}
	for i := range v.series {
		value := v.series[i].ls.Get(name)
		if value != "" && matches(v.series[i].ls, ms) && len(v.series[i].within(v.mint, v.maxt)) > 0 {
			values[value] = struct{}{}
		}
	}
	return cut(slices.Sorted(maps.Keys(values)), limit), nil
}

// Exemplars implements column.ExemplarReader.
func (v *view) Exemplars(ctx context.Context, mint, maxt int64, ms ...[]*labels.Matcher) ([]column.ExemplarSeries, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []column.ExemplarSeries
	for _, se := range v.series {
		if !slices.ContainsFunc(ms, func(m []*labels.Matcher) bool { return matches(se.ls, m) }) {
			continue
		}
		var es []exemplar.Exemplar
		for _, e := range se.exemplars {
			if e.Ts >= mint && e.Ts <= maxt {
				es = append(es, e)
			}
		}
		if len(es) > 0 {
			out = append(out, column.ExemplarSeries{Labels: se.ls, Exemplars: es})
		}
	}
	return out, nil
}

// Metadata implements column.MetadataReader.
func (v *view) Metadata(_ context.Context, metric string) iter.Seq2[string, []metadata.Metadata] {
	return func(yield func(string, []metadata.Metadata) bool) {
		for _, name := range slices.Sorted(maps.Keys(v.meta)) {
			if metric != "" && metric != name {
				continue
			}
			if !yield(name, v.meta[name]) {
				return
			}
		}
	}
}

func (s *series) within(mint, maxt int64) []Sample {
	from, _ := slices.BinarySearchFunc(s.samples, mint, func(a Sample, t int64) int {
		if a.T < t {
			return -1
		}
		return 1
	})
	to := from
	for to < len(s.samples) && s.samples[to].T <= maxt {
		to++
	}
	return s.samples[from:to]
}

func matches(ls labels.Labels, ms []*labels.Matcher) bool {
	for _, m := range ms {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

func cut(s []string, limit int) []string {
	if limit > 0 && len(s) > limit {
		return s[:limit]
	}
	return s
}
