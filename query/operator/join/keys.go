// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// keys are match groups: of[side][row] is the group of a row, and rows of both sides in one group match.
type keys struct {
	of [2][]uint32
	n  int
}

// sizes returns how many rows of a side each group has.
func (k *keys) sizes(side int) []uint32 {
	n := make([]uint32, k.n)
	for _, g := range k.of[side] {
		n[g]++
	}
	return n
}

// keyBytes is about what grouping takes per row while it runs.
const keyBytes = 8 + 4 + 4 + 3*8

// matchingNames returns the labels by which rows of two tables match.
func matchingNames(m *parser.VectorMatching, a, b *vector.Table) []string {
	if m.On {
		names := slices.Clone(m.MatchingLabels)
		slices.Sort(names)
		return slices.Compact(names)
	}
	return slices.DeleteFunc(union(a.Names, b.Names), func(n string) bool {
		return n == labels.MetricName || slices.Contains(m.MatchingLabels, n)
	})
}

// union merges sorted names.
func union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

// group numbers the rows of two tables by equality of the labels named, in order of first appearance. The tables
// share one Dict, so that equal texts are equal symbols.
//
// Cost: about a nanosecond per row and label that is not the same everywhere, and one probe of a hash table per row.
//
// When the query stops it ends soon, with groups that are no longer true: whoever reads rows by them is told to stop.
func group(env *operator.Env, a, b *vector.Table, names []string) keys {
	g := grouping{env: env, rows: [2]int{a.N, b.N}}
	for _, name := range names {
		g.add(a.Column(name), b.Column(name))
	}
	size := 16
	for size < 2*(a.N+b.N) {
		size *= 2
	}
	g.slots, g.mask = make([]uint64, size), uint64(size-1)
	g.first = make([]uint32, 0, max(a.N, b.N))
	hash := make([]uint64, max(a.N, b.N))
	return keys{of: [2][]uint32{g.number(0, hash[:a.N]), g.number(1, hash[:b.N])}, n: len(g.first)}
}

type grouping struct {
	env   *operator.Env
	rows  [2]int
	cols  [2][][]uint32 // nil: all empty
	slots []uint64      // half of the hash, and the group plus 1; open addressing
	mask  uint64
	first []uint32 // of each group a row; those of the second table are counted on from the first
}

// add takes a label into account, unless it is the same everywhere.
func (g *grouping) add(a, b []uint32) {
	if value, ok := constant(a, g.rows[0]); ok {
		if other, ok := constant(b, g.rows[1]); ok && (value == other || g.rows[0] == 0 || g.rows[1] == 0) {
			return
		}
	}
	g.cols[0], g.cols[1] = append(g.cols[0], a), append(g.cols[1], b)
}

// constant returns the value that all of n rows have.
func constant(col []uint32, n int) (uint32, bool) {
	if col == nil || n == 0 {
		return 0, true
	}
	for _, s := range col[1:n] {
		if s != col[0] {
			return 0, false
		}
	}
	return col[0], true
}

func (g *grouping) number(side int, hash []uint64) []uint32 {
	clear(hash)
	for _, col := range g.cols[side] {
		mix(hash, col)
	}
	of := make([]uint32, len(hash))
	base := uint32(side * g.rows[0])
	for row, h := range hash {
		of[row] = g.find(base+uint32(row), h)
		if row&4095 == 4095 && g.env.Check() != nil {
			break
		}
	}
	return of
}

// mix takes one more label into the hashes.
func mix(hash []uint64, col []uint32) {
	const odd = 0x9E3779B97F4A7C15
	if col == nil {
		for i, h := range hash {
			hash[i] = (h ^ h>>29) * odd
		}
		return
	}
	for i, h := range hash {
		hash[i] = (h ^ h>>29 ^ uint64(col[i])) * odd
	}
}

func (g *grouping) find(row uint32, h uint64) uint32 {
	h ^= h >> 32
	tag := h &^ (1<<32 - 1)
	for i := h & g.mask; ; i = (i + 1) & g.mask {
		at := g.slots[i]
		if at == 0 {
			g.first = append(g.first, row)
			g.slots[i] = tag | uint64(len(g.first))
			return uint32(len(g.first) - 1)
		}
		if at&^(1<<32-1) == tag && g.equal(row, g.first[uint32(at)-1]) {
			return uint32(at) - 1
		}
	}
}

func (g *grouping) equal(a, b uint32) bool {
	ca, a := g.side(a)
	cb, b := g.side(b)
	for i, col := range ca {
		if symbol(col, a) != symbol(cb[i], b) {
			return false
		}
	}
	return true
}

func (g *grouping) side(row uint32) ([][]uint32, uint32) {
	if n := uint32(g.rows[0]); row >= n {
		return g.cols[1], row - n
	}
	return g.cols[0], row
}

// symbol reads a column that may be nil.
func symbol(col []uint32, row uint32) uint32 {
	if col == nil {
		return 0
	}
	return col[row]
}
