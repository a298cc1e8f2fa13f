// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

const pairBytes = 32 // unsafe.Sizeof(pair{})

// pair is a label name with one of its values, and the series that have it.
type pair struct {
	name, value uint32 // symbols
	born        uint32 // how many pairs had been opened before it, modulo 1<<32
	postings
}

// pairTable numbers the pairs. All methods want the owner's lock.
type pairTable struct {
	table table
	pages []*[pageEntries]pair
	n     uint32 // numbers given out so far
	// opened counts the pairs that were ever opened, modulo 1<<32.
	opened uint32
	free   []uint32
	meter  *meter
}

func (t *pairTable) at(num uint32) *pair { return &t.pages[num/pageEntries][num%pageEntries] }

func pairHash(name, value uint32) uint64 { return mix(uint64(name)<<32 | uint64(value)) }

func (t *pairTable) find(name, value uint32) (uint32, bool) {
	return t.table.find(pairHash(name, value), func(num uint32) bool {
		p := t.at(num)
		return p.name == name && p.value == value
	})
}

// open numbers a new pair.
func (t *pairTable) open(name, value uint32) (uint32, error) {
	hash := pairHash(name, value)
	if err := t.meter.ensure(t.table.growth(hash) + pageEntries*pairBytes); err != nil {
		return 0, err
	}
	var num uint32
	if k := len(t.free); k > 0 {
		num = t.free[k-1]
		t.free = t.free[:k-1]
	} else {
		if t.n%pageEntries == 0 {
			t.pages = append(t.pages, new([pageEntries]pair))
			t.meter.add(pageEntries * pairBytes)
		}
		num = t.n
		t.n++
	}
	*t.at(num) = pair{name: name, value: value, born: t.opened}
	t.opened++
	t.meter.add(t.table.insert(hash, num))
	return num, nil
}

// close frees the number of a pair without series.
func (t *pairTable) close(num uint32) {
	p := t.at(num)
	t.meter.add(t.table.remove(pairHash(p.name, p.value), num))
	*p = pair{}
	t.free = append(t.free, num)
}
