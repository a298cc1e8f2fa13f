// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import "slices"

// removeBatch is how many postings one hold of the lock takes out: about a millisecond.
const removeBatch = 8192

// Remove takes series that have left the head out of the index: ids ascend, and pairsOf appends the pairs of
// one of them to dst. Symbols and pairs that no series uses any more are freed. Queries that run meanwhile see
// a series with all of its labels or not at all.
//
// An id must not be added again before Remove has returned.
func (m *Mem) Remove(ids []uint32, pairsOf func(id uint32, dst []uint32) []uint32) {
	if len(ids) == 0 {
		return
	}
	m.removeMu.Lock()
	defer m.removeMu.Unlock()
	// First from the set of all series: while removing is set, what is not in it is no answer.
	m.mu.Lock()
	m.mu.removing = true
	m.mu.lists.subtract(&m.mu.all, ids)
	m.mu.Unlock()

	touched := m.collect(ids, pairsOf)
	slices.Sort(touched)
	m.free(m.subtractAll(touched))
}

// collect returns pair<<32|id for every pair of the series.
func (m *Mem) collect(ids []uint32, pairsOf func(id uint32, dst []uint32) []uint32) (touched []uint64) {
	var pairs []uint32
	for _, id := range ids {
		pairs = pairsOf(id, pairs[:0])
		m.mu.RLock()
		for i := 0; i+1 < len(pairs); i += 2 {
			if num, ok := m.mu.pairs.find(pairs[i], pairs[i+1]); ok {
				touched = append(touched, uint64(num)<<32|uint64(id))
			}
		}
		m.mu.RUnlock()
	}
	return touched
}

// subtractAll shrinks the postings and returns the pairs that were left without series. touched is sorted.
func (m *Mem) subtractAll(touched []uint64) (dead []uint32) {
	var ids []uint32
	for len(touched) > 0 {
		m.mu.Lock()
		for done := 0; done < removeBatch && len(touched) > 0; done += len(ids) {
			num := uint32(touched[0] >> 32)
			ids = ids[:0]
			for len(touched) > 0 && uint32(touched[0]>>32) == num {
				ids = append(ids, uint32(touched[0]))
				touched = touched[1:]
			}
			p := m.mu.pairs.at(num)
			before := p.n
			m.mu.lists.subtract(&p.postings, ids)
			m.mu.names[p.name].series -= int(before - p.n)
			if p.n == 0 {
				dead = append(dead, num)
			}
		}
		m.mu.Unlock()
	}
	return dead
}

// free closes the pairs that still have no series.
func (m *Mem) free(dead []uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[uint32]bool{}
	for _, num := range dead {
		if p := m.mu.pairs.at(num); p.n == 0 {
			names[p.name] = true
			m.mu.names[p.name].bytes -= int64(len(m.mu.symbols.text(p.value)))
		}
	}
	for name := range names {
		m.dropValuesLocked(name)
	}
	for _, num := range dead {
		if m.mu.pairs.at(num).n == 0 {
			m.closePairLocked(num)
		}
	}
	m.mu.removals++
	m.mu.removing = false
}

// dropValuesLocked takes the pairs without series out of the values of a label.
func (m *Mem) dropValuesLocked(name uint32) {
	info := m.mu.names[name]
	values, tabled := info.values, info.tabled
	dead := func(num uint32) bool { return m.mu.pairs.at(num).n == 0 }
	keep := values[:0]
	for i, num := range values {
		if dead(num) {
			if i < tabled {
				info.tabled--
			}
			continue
		}
		keep = append(keep, num)
	}
	info.values = keep
	if info.tabled < tabled {
		table := info.table.without(dead)
		m.mu.meter.add(table.bytes() - info.table.bytes())
		info.table = table
	}
	m.shrinkRunsLocked(info, dead)
	if 2*len(keep) < cap(keep) {
		m.mu.meter.add(int64(len(keep)-cap(keep)) * 4)
		info.values = slices.Clip(slices.Clone(keep))
		m.mu.meter.add(int64(cap(info.values)-len(keep)) * 4)
	}
	m.dropNameIfEmptyLocked(name, info)
}

func (m *Mem) dropNameIfEmptyLocked(name uint32, info *labelName) {
	if len(info.values) == 0 {
		m.mu.meter.add(-int64(cap(info.values))*4 - info.table.bytes())
		m.dropRunsLocked(info)
		delete(m.mu.names, name)
	}
}
