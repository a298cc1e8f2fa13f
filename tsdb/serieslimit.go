// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// limitFrom is how many series must match, beyond what a limit costs, for it to be worth not listing them all.
const limitFrom = 4096

// lookupCost is what finding one series of another source by its labels costs, in series listed.
const lookupCost = 64

// cut leaves the first limit series in label order of each part where far more match, and reports whether it did. All
// parts together have the limit's series, but a part may lack some of those that are taken from others: complete looks
// for them.
func (m *seriesMerge) cut(ms []*labels.Matcher, limit int) bool {
	total, most := 0, 0
	for _, p := range m.parts {
		total, most = total+len(p.ids), max(most, len(p.ids))
	}
	if limit <= 0 || most <= limit || total-limitFrom < limit*len(m.parts)*(1+lookupCost*(len(m.parts)-1)) {
		return false
	}
	for i := range m.parts {
		p := &m.parts[i]
		if p.cut = len(p.ids) > limit; p.cut {
			p.ids = m.firstInOrder(m.sources[p.source], ms, p.ids, limit)
		}
	}
	return true
}

// firstInOrder returns the first limit of ids, which match ms, in label order, ascending. Those of a block are in that
// order; of the head those of the first metrics are compared, each with the last of those that are kept.
func (m *seriesMerge) firstInOrder(s source, ms []*labels.Matcher, ids []uint32, limit int) []uint32 {
	h, ok := s.(headSource)
	if !ok {
		return ids[:limit:limit]
	}
	first := firstSeries{head: h, limit: limit}
	before := m.task.Taken()
	defer func() { m.task.Settle(before) }()
	if some := m.ofFirstMetrics(h, ms, ids, limit); len(some) >= limit {
		ids = some
	}
	if !m.task.Reserve(2 * namedSeriesBytes * int64(limit)) {
		return nil
	}
	next := 0
	for from, to := 0, m.task.Run(0, len(ids)); from < to; from, to = to, m.task.Run(to, len(ids)) {
		had := first.bytes
		h.eachPairs(ids[from:to], func(pairs []uint32) {
			first.offer(ids[next], pairs)
			next++
		})
		m.task.Reserve(first.bytes - had)
	}
	first.shrink()
	out := make([]uint32, len(first.kept))
	for i := range first.kept {
		out[i] = first.kept[i].id
	}
	slices.Sort(out)
	return out
}

// ofFirstMetrics returns those of ids that belong to the first metrics, as many metrics as have limit series, ascending;
// fewer than limit where it cannot tell. Where no label name comes before that of metrics, all other series come later.
func (m *seriesMerge) ofFirstMetrics(h headSource, ms []*labels.Matcher, ids []uint32, limit int) []uint32 {
	names, err := h.labelNames(m.task, nil, 1)
	if err != nil || len(names) == 0 || names[0] != labels.MetricName {
		return nil
	}
	metrics, err := h.labelValues(m.task, labels.MetricName, ms, limit)
	if err != nil {
		return nil
	}
	var some []uint32
	for _, metric := range metrics {
		of, err := h.selectIDs(m.task, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric)})
		if err != nil || !m.task.Reserve(numberBytes*int64(len(of))) {
			return nil
		}
		left := ids
		for _, id := range of {
			at, ok := slices.BinarySearch(left, id)
			if left = left[at:]; ok {
				some = append(some, id)
			}
		}
		if len(some) >= limit {
			break
		}
	}
	slices.Sort(some)
	return some
}

// firstSeries keeps the limit series of the head that are first in label order.
type firstSeries struct {
	head  headSource
	limit int
	kept  []namedSeries // at most 2*limit
	free  [][]uint32    // memory of what was dropped
	last  []string      // with limit series kept: the labels of that which the next to come in must be before
	syms  []uint32      // of last
	bytes int64         // of their labels
}

const namedSeriesBytes = 32 // unsafe.Sizeof(namedSeries{})

// namedSeries is a series with the symbols of its labels.
type namedSeries struct {
	id    uint32
	pairs []uint32
}

// offer takes a series; its pairs are copied.
func (f *firstSeries) offer(id uint32, pairs []uint32) {
	if f.last != nil && !f.beforeLast(pairs) {
		return
	}
	var room []uint32
	if n := len(f.free); n > 0 {
		f.free, room = f.free[:n-1], f.free[n-1]
	}
	had := cap(room)
	s := namedSeries{id, append(room[:0], pairs...)}
	f.bytes += numberBytes * int64(cap(s.pairs)-had)
	if f.kept = append(f.kept, s); len(f.kept) >= 2*f.limit {
		f.shrink()
	}
}

// beforeLast reports whether a series comes before the last one.
func (f *firstSeries) beforeLast(pairs []uint32) bool {
	n := min(len(pairs), len(f.syms))
	for i := range n {
		if pairs[i] != f.syms[i] {
			return f.head.index.Symbol(pairs[i]) < f.last[i]
		}
	}
	return len(pairs) < len(f.syms)
}

// shrink drops what is behind the limit.
func (f *firstSeries) shrink() {
	slices.SortFunc(f.kept, func(a, b namedSeries) int { return f.compare(a.pairs, b.pairs) })
	if len(f.kept) < f.limit {
		return
	}
	for _, s := range f.kept[f.limit:] {
		f.free = append(f.free, s.pairs)
	}
	f.kept = f.kept[:f.limit]
	f.syms = append(f.syms[:0], f.kept[f.limit-1].pairs...)
	f.last = f.head.texts(f.syms, f.last[:0])
}

// compare compares as labels.Compare does.
func (f *firstSeries) compare(a, b []uint32) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return strings.Compare(f.head.index.Symbol(a[i]), f.head.index.Symbol(b[i]))
		}
	}
	return len(a) - len(b)
}

// complete finds the rows that perm names in the parts that were cut.
func (m *seriesMerge) complete(perm []uint32) error {
	if len(m.parts) == 1 {
		return nil
	}
	for i := range m.parts {
		p := &m.parts[i]
		if !p.cut {
			continue
		}
		if !m.task.Reserve(2*numberBytes*int64(len(p.ids)+len(perm)) + int64(m.n)/8 + 8) {
			return m.task.Err()
		}
		have := newRowSet(m.n)
		if p.rows == nil { // it is the first: its rows are 0, 1, 2, …
			p.rows = make([]uint32, len(p.ids))
			for k := range p.rows {
				p.rows[k] = uint32(k)
			}
		}
		for _, row := range p.rows {
			have.add(row)
		}
		for _, row := range perm {
			if !have.add(row) {
				continue
			}
			id, ok, err := m.lookup(m.sources[p.source], row)
			if err != nil {
				return err
			}
			if ok {
				p.ids, p.rows = append(p.ids, id), append(p.rows, row)
			}
		}
	}
	return nil
}

// lookup returns the id that a source has for the series of a row.
func (m *seriesMerge) lookup(s source, row uint32) (id uint32, ok bool, err error) {
	var ms []*labels.Matcher
	for c, name := range m.labels.names {
		if value := m.labels.texts[m.labels.cols[c][row]]; value != "" {
			x, err := labels.NewMatcher(labels.MatchEqual, name, value)
			if err != nil {
				return 0, false, fmt.Errorf("look up a series: %w", err)
			}
			ms = append(ms, x)
		}
	}
	before := m.task.Taken()
	defer func() { m.task.Settle(before) }()
	ids, err := s.selectIDs(m.task, ms)
	if err != nil {
		return 0, false, err
	}
	next := 0
	s.eachPairs(ids, func(pairs []uint32) {
		if len(pairs) == 2*len(ms) { // the others have more labels
			id, ok = ids[next], true
		}
		next++
	})
	return id, ok, nil
}
