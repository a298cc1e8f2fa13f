// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Stat is one line of a statistic: a name and its figure.
type Stat struct {
	Name  string
	Value uint64
}

// Stats says which labels and metrics make an index large. Each list is in descending order of its figures,
// equal ones in order of their names.
type Stats struct {
	Series, LabelPairs   int
	SeriesByMetric       []Stat // series per metric name
	ValuesByLabel        []Stat // distinct values per label name
	BytesByLabel         []Stat // length of all values per label name
	SeriesByLabelPair    []Stat // series per name=value
	SymbolBytes, MemUsed int64
}

// Stats returns the figures of the index, with at most limit lines per list.
func (m *Mem) Stats(limit int) Stats {
	m.mu.RLock()
	s := Stats{
		Series:  int(m.mu.all.n),
		MemUsed: m.mu.meter.used,
	}
	for _, slab := range m.mu.symbols.slabs {
		s.SymbolBytes += int64(cap(slab.buf))
	}
	byValues, byBytes := newTop(limit), newTop(limit)
	for sym, info := range m.mu.names {
		s.LabelPairs += len(info.values)
		name := m.mu.symbols.text(sym)
		byValues.offer(uint64(len(info.values)), func() string { return name })
		byBytes.offer(uint64(info.bytes), func() string { return name })
	}
	pairs := m.mu.pairs.n
	m.mu.RUnlock()

	byMetric, byPair := newTop(limit), newTop(limit)
	for from := uint32(0); from < pairs; from += portionValues {
		m.offerPairs(from, min(from+portionValues, pairs), byMetric, byPair)
	}
	s.ValuesByLabel, s.BytesByLabel = byValues.sorted(), byBytes.sorted()
	s.SeriesByMetric, s.SeriesByLabelPair = byMetric.sorted(), byPair.sorted()
	return s
}

// offerPairs looks at the pairs with the numbers from..to-1.
func (m *Mem) offerPairs(from, to uint32, byMetric, byPair *top) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	metric, _ := m.mu.symbols.find(labels.MetricName)
	for num := from; num < to; num++ {
		p := m.mu.pairs.at(num)
		if p.n == 0 {
			continue
		}
		value := func() string { return m.mu.symbols.text(p.value) }
		if p.name == metric {
			byMetric.offer(uint64(p.n), value)
		}
		byPair.offer(uint64(p.n), func() string { return m.mu.symbols.text(p.name) + "=" + value() })
	}
}

// top keeps the limit largest figures, of equal ones those whose names come first.
type top struct {
	limit int
	stats []Stat
	last  Stat // with limit figures kept: the one that the next to come in must be before
}

func newTop(limit int) *top { return &top{limit: max(limit, 0)} }

// offer takes a figure; name is called only where the figure is large enough.
func (t *top) offer(value uint64, name func() string) {
	if t.limit == 0 || value < t.last.Value {
		return
	}
	s := Stat{Name: name(), Value: value}
	if t.last.Name != "" && compareStats(s, t.last) > 0 {
		return
	}
	t.stats = append(t.stats, s)
	if len(t.stats) >= 2*t.limit {
		t.stats = t.sorted()
		t.last = t.stats[t.limit-1]
	}
}

// offerText is offer for a text that is good during the call.
func (t *top) offerText(value uint64, text string) {
	if t.last.Name == "" || compareStats(Stat{text, value}, t.last) < 0 {
		t.offer(value, func() string { return strings.Clone(text) })
	}
}

func (t *top) sorted() []Stat {
	slices.SortFunc(t.stats, compareStats)
	return slices.Clone(t.stats[:min(len(t.stats), t.limit)])
}

func compareStats(a, b Stat) int {
	return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Name, b.Name))
}
