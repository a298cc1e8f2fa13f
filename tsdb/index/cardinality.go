// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Countable is an index that statistics can be taken of: a Mem, a Reader, or a Tally of some of its series.
type Countable interface {
	// extent returns the number of series and the memory in use.
	extent() (series int, bytes int64)
	// namesInOrder returns the label names.
	namesInOrder() []string
	// countValues returns a cursor before the first value of a label; nil where no series has it.
	countValues(t *budget.Task, name string) valueCursor
}

// valueCursor goes through the values of a label in order.
type valueCursor interface {
	// next goes to the next value, and reports whether there is one.
	next() bool
	// value returns the value, which is valid until the next call of next, and how many series have it.
	value() (text string, series int)
}

// StatsOf returns the figures of several indexes as of one, with at most limit lines per list. Of a series that is in
// several nobody knows that it is one, so that where a figure counts series it is that of the index that has the
// most: there are so many at least. Values are counted once. Each value of each index is looked at once; memory is
// that of the lists alone.
func StatsOf(t *budget.Task, limit int, of ...Countable) (Stats, error) {
	s := Stats{}
	names := map[string]bool{}
	for _, x := range of {
		series, bytes := x.extent()
		s.Series, s.MemUsed = max(s.Series, series), s.MemUsed+bytes
		for _, name := range x.namesInOrder() {
			names[name] = true
		}
	}
	c := counter{
		task: t, byMetric: newTop(limit), byPair: newTop(limit), byValues: newTop(limit), byBytes: newTop(limit), of: of,
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		values, bytes := c.label(name)
		if err := t.Err(); err != nil {
			return Stats{}, fmt.Errorf("count labels: %w", err)
		}
		s.LabelPairs += values
		s.SymbolBytes += bytes + int64(len(name))
	}
	s.SeriesByMetric, s.SeriesByLabelPair = c.byMetric.sorted(), c.byPair.sorted()
	s.ValuesByLabel, s.BytesByLabel = c.byValues.sorted(), c.byBytes.sorted()
	return s, nil
}

// counter makes the lists of StatsOf.
type counter struct {
	task                                *budget.Task
	of                                  []Countable
	byMetric, byPair, byValues, byBytes *top
	cursors                             []valueCursor
	last, text                          []byte
}

// label counts one label, and returns how many values it has and of how many bytes.
func (c *counter) label(name string) (values int, bytes int64) {
	c.cursors = c.cursors[:0]
	for _, x := range c.of {
		if v := x.countValues(c.task, name); v != nil && v.next() {
			c.cursors = append(c.cursors, v)
		}
	}
	for len(c.cursors) > 0 && c.task.Go(len(c.cursors)) {
		first, series := c.cursors[0].value()
		for _, v := range c.cursors[1:] {
			switch text, n := v.value(); strings.Compare(text, first) {
			case -1:
				first, series = text, n
			case 0:
				series = max(series, n)
			}
		}
		if series > 0 {
			values++
			bytes += int64(len(first))
			c.offer(name, first, series)
		}
		c.last = append(c.last[:0], first...)
		c.pass(unsafeString(c.last))
	}
	if values > 0 {
		c.byValues.offer(uint64(values), func() string { return name })
		c.byBytes.offer(uint64(bytes), func() string { return name })
	}
	return values, bytes
}

func (c *counter) offer(name, value string, series int) {
	if name == labels.MetricName {
		c.byMetric.offerText(uint64(series), value)
	}
	if uint64(series) >= c.byPair.last.Value {
		c.text = append(append(append(c.text[:0], name...), '='), value...)
		c.byPair.offerText(uint64(series), unsafeString(c.text))
	}
}

// pass takes the cursors that stand at a value to the next one, and drops those at their end.
func (c *counter) pass(value string) {
	keep := c.cursors[:0]
	for _, v := range c.cursors {
		if text, _ := v.value(); text != value || v.next() {
			keep = append(keep, v)
		}
	}
	c.cursors = keep
}

func (r *Reader) extent() (series int, bytes int64) { return r.n, r.Bytes() }

func (r *Reader) namesInOrder() []string { return readerView{r}.names() }

func (r *Reader) countValues(_ *budget.Task, name string) valueCursor {
	d := (readerView{r}).dict(name)
	if d == nil {
		return nil
	}
	return &readerCursor{r: r, d: d, group: make([]byte, 0, 128)}
}

// readerCursor decodes one value after the other.
type readerCursor struct {
	r     *Reader
	d     *readerDict
	rank  uint32 // of the next value
	off   uint32
	group []byte // the value
}

func (c *readerCursor) next() bool {
	if c.rank == c.d.values {
		return false
	}
	var shared, n uint32
	if c.rank%groupSize == 0 {
		c.off = c.r.groups[c.d.firstGroup+c.rank/groupSize]
	} else {
		shared, c.off = uvarintAt(c.r.b, c.off)
	}
	n, c.off = uvarintAt(c.r.b, c.off)
	c.group = append(c.group[:shared], c.r.b[c.off:c.off+n]...)
	c.off += n
	c.rank++
	return true
}

func (c *readerCursor) value() (text string, series int) {
	return unsafeString(c.group), readerView{c.r}.size(c.d.first + c.rank - 1)
}

func (m *Mem) extent() (series int, bytes int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int(m.mu.all.n), m.mu.meter.used
}

func (m *Mem) namesInOrder() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return (&memView{m: m, held: true}).names()
}

func (m *Mem) countValues(t *budget.Task, name string) valueCursor {
	table, removals := m.tabulate(t, name)
	return &memCursor{m: m, name: name, table: table, removals: removals, at: -1}
}

// memCursor goes through a table, and counts some hundred values at a time.
type memCursor struct {
	m        *Mem
	name     string
	table    *valueTable
	removals uint64 // that the table is as of
	at       int
	counts   []int // of the values from the first on
	first    int
}

// countRun is how many values are counted under one hold of the lock.
const countRun = 512

func (c *memCursor) next() bool {
	if c.at++; c.at >= c.table.len() {
		return false
	}
	if c.at == c.first+len(c.counts) {
		c.count()
	}
	return true
}

func (c *memCursor) value() (text string, series int) {
	return c.table.at(c.at), c.counts[c.at-c.first]
}

// count counts the next values. After a Remove the numbers of the table may be those of other pairs.
func (c *memCursor) count() {
	c.m.mu.RLock()
	defer c.m.mu.RUnlock()
	c.first, c.counts = c.at, c.counts[:0]
	sym, known := c.m.mu.symbols.find(c.name)
	for i := c.at; i < min(c.at+countRun, c.table.len()); i++ {
		num := c.table.entries[i].list
		ok := known
		if ok && c.removals != c.m.mu.removals {
			var value uint32
			if value, ok = c.m.mu.symbols.find(c.table.at(i)); ok {
				num, ok = c.m.mu.pairs.find(sym, value)
			}
		}
		n := 0
		if ok {
			n = int(c.m.mu.pairs.at(num).n)
		}
		c.counts = append(c.counts, n)
	}
}
