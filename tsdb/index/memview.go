// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Select returns the ids of the series that match all of ms, ascending: one consistent answer. Series added or
// removed while it runs may be in it or not. Without matchers it returns all of them. The task keeps what the ids take.
func (m *Mem) Select(t *budget.Task, ms []*labels.Matcher) (ids []uint32, err error) {
	err = m.read(t, func(src source) error {
		ids, err = selectIDs(t, src, ms)
		return err
	})
	return ids, err
}

// LabelNames returns the label names of the series that match ms, sorted; limit 0 returns all of them.
func (m *Mem) LabelNames(t *budget.Task, ms []*labels.Matcher, limit int) (names []string, err error) {
	err = m.read(t, func(src source) error {
		names, err = labelNames(t, src, ms, limit)
		return err
	})
	return names, err
}

// LabelValues returns the values of a label in the series that match ms, sorted; limit 0 returns all of them. The task
// keeps what they take.
func (m *Mem) LabelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) (values []string, err error) {
	err = m.read(t, func(src source) error {
		values, err = labelValues(t, src, name, ms, limit)
		return err
	})
	return values, err
}

// memView is one evaluation's sight of a Mem. It takes the lock for each step alone, so that no expression is
// matched under it, and notices when numbers it has learnt may mean something else by now.
type memView struct {
	m        *Mem
	removals uint64
	opened   uint32 // pairs opened when it began
	held     bool   // the caller holds the lock for reading throughout
	moved    bool   // what was learnt is void
}

// optimistic is how many evaluations may be spoilt by removals before one runs under the lock.
const optimistic = 3

// read runs f until no removal came in between.
func (m *Mem) read(t *budget.Task, f func(src source) error) error {
	before := t.Taken()
	for range optimistic {
		m.mu.RLock()
		v := &memView{m: m, removals: m.mu.removals, opened: m.mu.pairs.opened}
		m.mu.RUnlock()
		if err := f(v); !v.moved || err != nil {
			return err
		}
		t.Settle(before)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return f(&memView{m: m, opened: m.mu.pairs.opened, held: true})
}

func (v *memView) fix() bool {
	if v.held {
		return true
	}
	v.m.mu.RLock()
	if v.moved = v.moved || v.m.mu.removals != v.removals; v.moved {
		v.m.mu.RUnlock()
	}
	return !v.moved
}

func (v *memView) unfix() {
	if !v.held {
		v.m.mu.RUnlock()
	}
}

func (v *memView) find(name, value string) (uint32, bool) {
	if !v.fix() {
		return 0, false
	}
	defer v.unfix()
	n, ok := v.m.mu.symbols.find(name)
	if !ok {
		return 0, false
	}
	x, ok := v.m.mu.symbols.find(value)
	if !ok {
		return 0, false
	}
	return v.m.mu.pairs.find(n, x)
}

// nameLocked returns what is known of a label name, nil for nothing.
func (m *Mem) nameLocked(name string) *labelName {
	sym, ok := m.mu.symbols.find(name)
	if !ok {
		return nil
	}
	return m.mu.names[sym]
}

func (v *memView) having(name string) int {
	if info := v.m.nameLocked(name); info != nil {
		return info.series
	}
	return 0
}

func (v *memView) names() []string {
	if !v.fix() {
		return nil
	}
	defer v.unfix()
	names := make([]string, 0, len(v.m.mu.names))
	for sym, info := range v.m.mu.names {
		if info.series > 0 {
			names = append(names, v.m.mu.symbols.text(sym))
		}
	}
	slices.Sort(names)
	return names
}

// total is beyond every count while a Remove runs: postings then hold series that are not in all any more, so
// that nothing follows from how many there are.
func (v *memView) total() int {
	if v.m.mu.removing {
		return math.MaxInt
	}
	return int(v.m.mu.all.n)
}

func (v *memView) all(t *budget.Task) []uint32 {
	ids := newList(t, int(v.m.mu.all.n))
	if ids == nil {
		return nil
	}
	return v.m.mu.lists.appendTo(ids, &v.m.mu.all)
}

func (v *memView) size(list uint32) int { return int(v.m.mu.pairs.at(list).n) }

// live drops series that a running Remove has taken out of some postings: one that is still wanted but no
// longer in those that exclude it would be a wrong answer.
func (v *memView) live(t *budget.Task, ids []uint32) []uint32 {
	if !v.m.mu.removing {
		return ids
	}
	hit := chargedBitset(t, len(ids))
	if hit == nil {
		return nil
	}
	v.m.mu.lists.mark(&v.m.mu.all, ids, hit)
	keep := ids[:0]
	for i, id := range ids {
		if hit.has(i) {
			keep = append(keep, id)
		}
	}
	return keep
}

// addNew looks at the values that came since the evaluation began: a series that has one of them, and one that
// is wanted, would else be in the answer though it is excluded.
func (v *memView) addNew(t *budget.Task, lists []uint32, x *labels.Matcher) []uint32 {
	info := v.m.nameLocked(x.Name)
	if info == nil || !after(info.opened, v.opened) {
		return lists
	}
	for from, to := 0, t.Run(0, len(info.values)); from < to; from, to = to, t.Run(to, len(info.values)) {
		for _, num := range info.values[from:to] {
			if !after(v.m.mu.pairs.at(num).born+1, v.opened) {
				continue
			}
			if !t.Poll() {
				return lists
			}
			if !x.Matches(v.m.pairTextLocked(num)) {
				lists = appendCharged(t, lists, num)
			}
		}
	}
	return lists
}

// after compares two counts modulo 1<<32 that are not far apart.
func after(a, b uint32) bool { return int32(a-b) > 0 }

func (v *memView) listsOf(t *budget.Task, name string) []uint32 {
	info := v.m.nameLocked(name)
	if info == nil {
		return nil
	}
	lists := newList(t, len(info.values))
	if lists == nil {
		return nil
	}
	return append(lists, info.values...)
}

func (v *memView) appendTo(dst []uint32, list uint32) []uint32 {
	return v.m.mu.lists.appendTo(dst, &v.m.mu.pairs.at(list).postings)
}

func (v *memView) mark(list uint32, ids []uint32, hit bitset) {
	v.m.mu.lists.mark(&v.m.mu.pairs.at(list).postings, ids, hit)
}

func (v *memView) overlaps(t *budget.Task, list uint32, ids []uint32) bool {
	p := &v.m.mu.pairs.at(list).postings
	for from, to := 0, t.Run(0, len(ids)); from < to; from, to = to, t.Run(to, len(ids)) {
		if v.m.mu.lists.overlaps(p, ids[from:to]) {
			return true
		}
	}
	return false
}

// valueList is a value of a label, the number of its pair, and whether any series has it. One without may get
// one at any time, so it counts for what matchers find.
type valueList struct {
	text string
	list uint32
	used bool
}

const valueListBytes = 24 // unsafe.Sizeof(valueList{})

// scan calls f without the lock.
func (v *memView) scan(t *budget.Task, name, prefix string, f func(string, uint32, bool) bool) {
	if v.held {
		v.scanHeld(t, name, prefix, f)
		return
	}
	table, removing := v.table(t, name)
	for i := table.from(prefix); i < table.len(); i++ {
		text, list := table.at(i), table.entries[i].list
		if !strings.HasPrefix(text, prefix) || !f(text, list, !removing || v.used(list)) {
			return
		}
	}
}

// table returns the values of a label, nil for none, and whether some of them may have no series any more: then a
// Remove is running. Those that come while the evaluation goes on may be in it or not.
func (v *memView) table(t *budget.Task, name string) (table *valueTable, removing bool) {
	table, removals := v.m.tabulate(t, name)
	if !v.fix() {
		return nil, false
	}
	defer v.unfix()
	if v.moved = removals != v.removals; v.moved {
		return nil, false
	}
	return table, v.m.mu.removing
}

// used reports whether a series has a value.
func (v *memView) used(list uint32) bool {
	if !v.fix() {
		return false
	}
	defer v.unfix()
	return v.size(list) > 0
}

// scanHeld is scan under the lock, where values cannot be brought into order in place.
func (v *memView) scanHeld(t *budget.Task, name, prefix string, f func(string, uint32, bool) bool) {
	info := v.m.nameLocked(name)
	if info == nil {
		return
	}
	if !t.Reserve(valueListBytes * int64(len(info.values))) {
		return
	}
	found := make([]valueList, 0, len(info.values))
	for from, to := 0, t.Run(0, len(info.values)); from < to; from, to = to, t.Run(to, len(info.values)) {
		for _, num := range info.values[from:to] {
			if text := v.m.pairTextLocked(num); strings.HasPrefix(text, prefix) {
				found = append(found, valueList{text, num, v.m.mu.pairs.at(num).n > 0})
			}
		}
	}
	sortByText(t, found)
	for _, x := range found {
		if !t.Go(1) || !f(x.text, x.list, x.used) {
			return
		}
	}
}

// list returns values that stay valid: they are texts of the table, or of the symbols.
func (v *memView) list(t *budget.Task, name string, limit int) []string {
	if v.held {
		return v.listHeld(t, name, limit)
	}
	if limit > 0 && limit <= fewValues {
		if _, _, whole := v.m.tabulated(name); !whole {
			return v.first(t, name, limit)
		}
	}
	table, removing := v.table(t, name)
	n := table.len()
	if limit > 0 && !removing {
		n = min(n, limit)
	}
	if !t.Reserve(stringBytes * int64(n)) {
		return nil
	}
	values := make([]string, 0, n)
	for from, to := 0, t.Run(0, n); from < to; from, to = to, t.Run(to, n) {
		bytes := 0
		for i := from; i < to; i++ {
			if removing && !v.used(table.entries[i].list) {
				continue
			}
			values = append(values, table.at(i))
			bytes += int(table.entries[i].n)
		}
		if !t.Reserve(int64(bytes)) {
			return nil
		}
	}
	if limit > 0 && len(values) > limit {
		values = values[:limit]
	}
	return values
}

// listHeld is list under the lock.
func (v *memView) listHeld(t *budget.Task, name string, limit int) (values []string) {
	v.scanHeld(t, name, "", func(value string, _ uint32, used bool) bool {
		if !used {
			return t.Go(1)
		}
		if !t.Reserve(2*stringBytes + int64(len(value))) { // twice: the list grows by being copied
			return false
		}
		values = append(values, value)
		return t.Go(1) && len(values) != limit
	})
	return values
}

// fewValues is up to how many values are looked for without making a table of all.
const fewValues = 4096

// first returns the first values of a label.
func (v *memView) first(t *budget.Task, name string, limit int) []string {
	if !t.Reserve(2 * stringBytes * int64(limit)) {
		return nil
	}
	values := v.m.firstValues(t, name, limit)
	t.Reserve(stringsBytes(values))
	return values
}
