// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"fmt"
	"slices"
)

// Bulk adds many series whose labels are known to be made of the same pairs: each pair is looked up once, and the series
// then name it by number. It belongs to one goroutine; the index may be read meanwhile. It costs 16 bytes a pair.
type Bulk struct {
	mem   *Mem
	known []bulkPair
}

// bulkPair is a pair that series may have.
type bulkPair struct {
	num  uint32
	name *labelName // which stays while the name has a pair
}

// Bulk returns one without pairs.
func (m *Mem) Bulk() *Bulk { return &Bulk{mem: m} }

// Pair gives a label the next number, from 0 on, and returns its symbols. They are good as long as a series has it, and
// until End.
func (b *Bulk) Pair(name, value string) (nameSym, valueSym uint32, err error) {
	m := b.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	pair := [2]uint32{}
	for i, text := range [2]string{name, value} {
		if pair[i], err = m.mu.symbols.intern(text); err != nil {
			m.releaseLocked(pair[:i])
			return 0, 0, fmt.Errorf("make a label known: %w", err)
		}
	}
	num, ok := m.mu.pairs.find(pair[0], pair[1])
	if !ok {
		num, err = m.openPairLocked(pair[0], pair[1])
	}
	m.releaseLocked(pair[:]) // the pair has a use of each
	if err != nil {
		return 0, 0, fmt.Errorf("make a label known: %w", err)
	}
	b.known = append(b.known, bulkPair{num, m.mu.names[pair[0]]})
	return pair[0], pair[1], nil
}

// Add puts series into the postings of their pairs: pairs has the numbers that Pair gave them, those of ids[i] up to
// ends[i]. On an error, ErrID, ErrInUse or a *budget.ExceededError, those before are in.
func (b *Bulk) Add(ids, ends, pairs []uint32) error {
	m := b.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	from := uint32(0)
	for i, id := range ids {
		has := pairs[from:ends[i]]
		from = ends[i]
		if id > maxID {
			return ErrID
		}
		if err := m.mu.meter.ensure(int64(len(has)+1) * addRoom); err != nil {
			return fmt.Errorf("add series to index: %w", err)
		}
		if !m.mu.lists.add(&m.mu.all, id) {
			return ErrInUse
		}
		for _, n := range has {
			x := &b.known[n]
			if m.mu.lists.add(&m.mu.pairs.at(x.num).postings, id) {
				x.name.series++
			}
		}
	}
	return nil
}

// End closes the pairs that no series has.
func (b *Bulk) End() {
	var unused []uint32
	b.mem.mu.RLock()
	for _, x := range b.known {
		if b.mem.mu.pairs.at(x.num).n == 0 {
			unused = append(unused, x.num)
		}
	}
	b.mem.mu.RUnlock()
	b.known = nil
	slices.Sort(unused)
	if unused = slices.Compact(unused); len(unused) == 0 {
		return
	}
	b.mem.removeMu.Lock()
	defer b.mem.removeMu.Unlock()
	b.mem.free(unused)
}
