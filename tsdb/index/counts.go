// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import "strings"

// SeriesWith returns how many series have a label with this value.
func (m *Mem) SeriesWith(name, value string) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	num, ok := m.findPairLocked(name, value)
	if !ok {
		return 0
	}
	return int(m.mu.pairs.at(num).n)
}

func (m *Mem) findPairLocked(name, value string) (num uint32, ok bool) {
	nameSym, ok := m.mu.symbols.find(name)
	if !ok {
		return 0, false
	}
	valueSym, ok := m.mu.symbols.find(value)
	if !ok {
		return 0, false
	}
	return m.mu.pairs.find(nameSym, valueSym)
}

// TopValues returns the values of a label that the most series have, at most limit, in the order of Stats. It looks at
// every value of the label, some under each hold of the lock.
func (m *Mem) TopValues(name string, limit int) []Stat {
	best := newTop(limit)
	for from, more := 0, true; more; from += portionValues {
		more = m.offerValues(name, from, from+portionValues, best)
	}
	return best.sorted()
}

// offerValues looks at the values from..to-1 of a label as they came, and reports whether there are more. Where values
// go away meanwhile one may be missed, or be offered twice, which is not told.
func (m *Mem) offerValues(name string, from, to int, best *top) (more bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	sym, ok := m.mu.symbols.find(name)
	if !ok {
		return false
	}
	info := m.mu.names[sym]
	if info == nil || from >= len(info.values) {
		return false
	}
	for _, num := range info.values[from:min(to, len(info.values))] {
		if p := m.mu.pairs.at(num); p.n > 0 {
			best.offer(uint64(p.n), func() string { return strings.Clone(m.mu.symbols.text(p.value)) })
		}
	}
	return to < len(info.values)
}
