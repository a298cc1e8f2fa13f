// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// runValues is how many new values of a label are sorted at a time when they come: half a millisecond. The first
// values of a label can then be told from the first of each run, however many have come since it was last asked for.
const runValues = 1024

// sortRunLocked sorts the values that came last where they are enough for a run. Without memory for one there is none.
func (m *Mem) sortRunLocked(info *labelName) {
	from := info.tabled + info.inRuns
	if len(info.values)-from < runValues || m.mu.meter.ensure(4*runValues) != nil {
		return
	}
	run := slices.Clone(info.values[from : from+runValues])
	slices.SortFunc(run, func(a, b uint32) int { return strings.Compare(m.pairTextLocked(a), m.pairTextLocked(b)) })
	m.mu.meter.add(4 * runValues)
	info.runs = append(info.runs, run)
	info.inRuns += runValues
}

// shrinkRunsLocked takes values out of the runs of a label.
func (m *Mem) shrinkRunsLocked(info *labelName, dead func(num uint32) bool) {
	keep := info.runs[:0]
	info.inRuns = 0
	for _, run := range info.runs {
		if run = slices.DeleteFunc(run, dead); len(run) > 0 {
			keep = append(keep, run)
			info.inRuns += len(run)
		}
	}
	m.mu.meter.add(-4 * runValues * int64(len(info.runs)-len(keep)))
	clear(info.runs[len(keep):])
	info.runs = keep
}

// dropRunsLocked forgets the runs of a label.
func (m *Mem) dropRunsLocked(info *labelName) {
	m.mu.meter.add(-4 * runValues * int64(len(info.runs)))
	info.runs, info.inRuns = nil, 0
}

// tabulate brings the values of a label that came since the last call into its table, and returns it with the number
// of Removes that it is as of. The sorting runs outside of the lock. Where the task ends, the table stays as it is.
func (m *Mem) tabulate(t *budget.Task, name string) (table *valueTable, removals uint64) {
	if table, removals, ok := m.tabulated(name); ok || !m.sorting.enter(t) {
		return table, removals
	}
	defer m.sorting.leave()
	kept := t.Taken()
	defer func() { t.Settle(kept) }()
	table, fresh, removals := m.untabled(t, name)
	if len(fresh) == 0 || t.Err() != nil {
		return table, removals
	}
	sortByText(t, fresh)
	if t.Err() != nil {
		return table, removals
	}
	next := table.with(t, fresh)
	if next == nil {
		return table, removals
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.removals == removals && !m.setTableLocked(m.nameLocked(name), next, len(fresh)) {
		kept += next.bytes() // it is for this task alone
	}
	return next, removals
}

// tabulated returns the table of a label, and whether it has all values.
func (m *Mem) tabulated(name string) (table *valueTable, removals uint64, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	info := m.nameLocked(name)
	if info == nil {
		return nil, m.mu.removals, true
	}
	return info.table, m.mu.removals, info.tabled == len(info.values)
}

// untabled returns the table of a label and the values that it lacks, none where the task ended.
func (m *Mem) untabled(t *budget.Task, name string) (table *valueTable, fresh []valueList, removals uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	removals = m.mu.removals
	info := m.nameLocked(name)
	if info == nil {
		return nil, nil, removals
	}
	values := info.values[info.tabled:]
	if !t.Reserve(valueListBytes * int64(len(values))) {
		return info.table, nil, removals
	}
	fresh = make([]valueList, 0, len(values))
	for from, to := 0, t.Run(0, len(values)); from < to; from, to = to, t.Run(to, len(values)) {
		for _, num := range values[from:to] {
			fresh = append(fresh, valueList{text: m.pairTextLocked(num), list: num})
		}
	}
	return info.table, fresh, removals
}

// setTableLocked makes a table with the next n values that of a label, if there is memory for it.
func (m *Mem) setTableLocked(info *labelName, table *valueTable, n int) bool {
	grown := table.bytes() - info.table.bytes()
	if m.mu.meter.ensure(grown) != nil {
		return false
	}
	m.mu.meter.add(grown)
	info.table = table
	info.tabled += n
	m.dropRunsLocked(info)
	return true
}

// firstValues returns the first limit values of a label: of the table, of each run, and of those that are in neither.
func (m *Mem) firstValues(t *budget.Task, name string, limit int) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	info := m.nameLocked(name)
	if info == nil {
		return nil
	}
	var few fewest
	few.limit = limit
	live := func(num uint32) bool { return m.mu.pairs.at(num).n > 0 }
	for i := 0; i < info.table.len() && t.Go(1); i++ {
		if live(info.table.entries[i].list) && !few.offer(info.table.at(i)) {
			break
		}
	}
	for _, run := range info.runs {
		for _, num := range run {
			if !t.Go(1) || live(num) && !few.offer(m.pairTextLocked(num)) {
				break
			}
		}
	}
	for _, num := range info.values[info.tabled+info.inRuns:] {
		if t.Go(1) && live(num) {
			few.offer(m.pairTextLocked(num))
		}
	}
	return few.sorted()
}

// fewest keeps the limit texts that come first.
type fewest struct {
	limit int
	texts []string // up to twice as many
	last  string   // with limit texts kept: those after it are not wanted
	full  bool
}

// offer takes a text, and reports whether one after it may be wanted.
func (f *fewest) offer(text string) bool {
	if f.full && text > f.last {
		return false
	}
	f.texts = append(f.texts, text)
	if len(f.texts) >= 2*f.limit {
		f.texts = f.sorted()
		f.last, f.full = f.texts[f.limit-1], true
	}
	return true
}

func (f *fewest) sorted() []string {
	slices.Sort(f.texts)
	return f.texts[:min(len(f.texts), f.limit)]
}

func sortByText(t *budget.Task, values []valueList) {
	slices.SortFunc(values, budget.Until(t, func(a, b valueList) int { return strings.Compare(a.text, b.text) }))
}

func (m *Mem) pairTextLocked(num uint32) string { return m.mu.symbols.text(m.mu.pairs.at(num).value) }

// turn lets one task after the other do something; one that waits ends when it is to.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (x turn) enter(t *budget.Task) bool {
	select {
	case x <- struct{}{}:
		return true
	case <-t.Done():
		return t.Poll() // which says that it ended
	}
}

func (x turn) leave() { <-x }
