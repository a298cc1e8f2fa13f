// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// LabelNames returns the names of the labels of matching series, sorted.
func (v *view) LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error) {
	return v.mergeStrings(ctx, limit, func(t *budget.Task, s source) ([]string, error) { return s.labelNames(t, ms, limit) })
}

// LabelValues returns the values of one label of matching series, sorted.
func (v *view) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	return v.mergeStrings(ctx, limit, func(t *budget.Task, s source) ([]string, error) {
		return s.labelValues(t, name, ms, limit)
	})
}

// mergeStrings joins the sorted answers of the sources into one. Memory is charged to the store while it works.
func (v *view) mergeStrings(ctx context.Context, limit int, of func(*budget.Task, source) ([]string, error)) ([]string, error) {
	t := budget.NewTask(ctx, v.db.opts.Budget)
	defer t.Settle(0)
	var parts [][]string
	for _, s := range v.sources {
		part, err := of(t, s)
		if err != nil {
			return nil, fmt.Errorf("read labels: %w", err)
		}
		if len(part) > 0 {
			parts = append(parts, part)
		}
	}
	// Neighbours are joined, and then what came of them: each name is looked at as often as the count of sources has bits.
	for len(parts) > 1 {
		joined := parts[:0]
		for i := 0; i < len(parts); i += 2 {
			part := parts[i]
			if i+1 < len(parts) {
				part = mergeSorted(t, part, parts[i+1], limit)
			}
			joined = append(joined, part)
		}
		parts = joined
	}
	if err := t.Err(); err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	if len(parts) == 0 {
		return nil, nil
	}
	return parts[0], nil
}

// mergeSorted joins two lists that are sorted and name nothing twice into one of at most limit; 0: of all.
func mergeSorted(t *budget.Task, a, b []string, limit int) []string {
	n := len(a) + len(b)
	if limit > 0 {
		n = min(n, limit)
	}
	if !t.Reserve(stringBytes * int64(n)) {
		return a
	}
	out := make([]string, 0, n)
	for len(a) > 0 && len(b) > 0 && len(out) < n && t.Go(1) {
		c := strings.Compare(a[0], b[0])
		if c <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out = append(out, b[0])
		}
		if c >= 0 {
			b = b[1:]
		}
	}
	out = append(out, a[:min(len(a), n-len(out))]...)
	return append(out, b[:min(len(b), n-len(out))]...)
}

// Exemplars returns the exemplars of the series that match any of the matcher sets, series in label order.
func (v *view) Exemplars(ctx context.Context, mint, maxt int64, sets ...[]*labels.Matcher) ([]column.ExemplarSeries, error) {
	if v.pin == nil { // the head may hold exemplars that are older than its samples
		return nil, v.db.restoring.unavailable()
	}
	mint, maxt = v.span(mint, maxt)
	found := map[string]*column.ExemplarSeries{}
	var b labels.ScratchBuilder
	for _, ms := range sets {
		set, err := v.Series(ctx, ms, column.Hint{MinT: mint, MaxT: maxt})
		if err != nil {
			return nil, err
		}
		h, err := v.handleOf(set)
		if err != nil {
			return nil, err
		}
		for row := range uint32(set.N) {
			ls := set.Labels(row, &b)
			key := string(ls.Bytes(nil))
			if found[key] != nil {
				continue
			}
			var es []exemplar.Exemplar
			for _, loc := range h.of(row) {
				part, err := h.sources[loc.source].exemplars(ctx, loc.id, mint, maxt)
				if damaged(err) {
					v.unreadable(err)
					continue
				}
				if err != nil {
					return nil, fmt.Errorf("read exemplars: %w", err)
				}
				es = append(es, part...)
			}
			if len(es) > 0 {
				found[key] = &column.ExemplarSeries{Labels: ls, Exemplars: sortExemplars(es)}
			}
		}
	}
	out := make([]column.ExemplarSeries, 0, len(found))
	for _, s := range found {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b column.ExemplarSeries) int { return labels.Compare(a.Labels, b.Labels) })
	return out, nil
}

// sortExemplars brings exemplars into time order and drops those that are there twice: in a block and in the head.
func sortExemplars(es []exemplar.Exemplar) []exemplar.Exemplar {
	slices.SortStableFunc(es, exemplar.Compare)
	return slices.CompactFunc(es, func(a, b exemplar.Exemplar) bool { return a.Equals(b) })
}

// Metadata returns what is known of each metric family, by name; of metric alone where it is not empty.
func (v *view) Metadata(_ context.Context, metric string) iter.Seq2[string, []metadata.Metadata] {
	all := map[string][]metadata.Metadata{}
	for _, s := range slices.Backward(v.sources) { // the head first: the newest description comes first
		for name, ms := range s.metadata(metric) {
			for _, m := range ms {
				if !slices.Contains(all[name], m) {
					all[name] = append(all[name], m)
				}
			}
		}
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return func(yield func(string, []metadata.Metadata) bool) {
		for _, name := range names {
			if !yield(name, all[name]) {
				return
			}
		}
	}
}
