// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

// symbolMap maps the symbols of one source to another numbering: open addressing over two flat arrays, because a
// large answer asks it ten times per series (about 5 ns a look-up, against 20 of a Go map).
type symbolMap struct {
	keys []uint32 // symbol + 1; 0: free
	vals []uint32
	n    int
	bits int // len(keys) == 1<<bits
}

const symbolMapMinBits = 6

func (m *symbolMap) slot(sym uint32) uint32 {
	const golden = 2654435769 // 2^32 / the golden ratio: spreads neighbouring symbols
	return (sym * golden) >> (32 - m.bits)
}

func (m *symbolMap) get(sym uint32) (uint32, bool) {
	if len(m.keys) == 0 {
		return 0, false
	}
	for i := m.slot(sym); ; i = (i + 1) & uint32(len(m.keys)-1) {
		switch m.keys[i] {
		case sym + 1:
			return m.vals[i], true
		case 0:
			return 0, false
		}
	}
}

// put adds a symbol that is not in the map.
func (m *symbolMap) put(sym, val uint32) {
	if 2*(m.n+1) > len(m.keys) {
		old := *m
		m.bits = max(symbolMapMinBits, old.bits+1)
		m.keys, m.vals, m.n = make([]uint32, 1<<m.bits), make([]uint32, 1<<m.bits), 0
		for i, k := range old.keys {
			if k != 0 {
				m.put(k-1, old.vals[i])
			}
		}
	}
	i := m.slot(sym)
	for m.keys[i] != 0 {
		i = (i + 1) & uint32(len(m.keys)-1)
	}
	m.keys[i], m.vals[i] = sym+1, val
	m.n++
}
