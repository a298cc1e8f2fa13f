// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"math"
	"sort"
)

const (
	// pageRows is how many rows of a slot a page has at most, where they are spread evenly: a look at a minute need
	// not decode an hour.
	pageRows = 2048
	// maxPageRows bounds a page however its rows are spread, and what a reader allocates for one.
	maxPageRows = 1 << 17
	// maxSlot bounds the length of a slot, four years: halved maxDepth times it has fewer milliseconds than a page may
	// have rows.
	maxSlot  = maxPageRows << maxDepth
	maxDepth = 20
)

// grid cuts time into cells: the slots of the store, each halved depth times.
type grid struct {
	slot  int64 // milliseconds
	depth uint8
}

// cellKey names a cell: the part-th of 2^depth of the slot that begins slot slots after time 0.
type cellKey struct {
	slot  int64
	part  uint32
	depth uint8
}

// cell returns the cell that time t is in, and the last time that is.
func (g grid) cell(t int64) (k cellKey, last int64) {
	n, at := t/g.slot, t%g.slot
	if at < 0 {
		n, at = n-1, at+g.slot
	}
	part := at << g.depth / g.slot
	end := ((part+1)*g.slot + 1<<g.depth - 1) >> g.depth // where the next part begins, from the start of the slot
	last = t + (end - at) - 1
	if last < t {
		last = math.MaxInt64
	}
	return cellKey{n, uint32(part), g.depth}, last
}

// run returns the cell of the first of some ascending times, and how many are in it.
func (g grid) run(times []int64) (cellKey, int) {
	k, last := g.cell(times[0])
	if times[len(times)-1] <= last {
		return k, len(times)
	}
	return k, sort.Search(len(times), func(i int) bool { return times[i] > last })
}

// depthFor returns how often slots must be halved for a series with these times.
func (g grid) depthFor(times []int64) uint8 {
	slots, most := grid{slot: g.slot}, 0
	for rest := times; len(rest) > 0; {
		_, n := slots.run(rest)
		most, rest = max(most, n), rest[n:]
	}
	depth := uint8(0)
	for most > pageRows<<depth && depth < maxDepth {
		depth++
	}
	for most > maxPageRows && depth < maxDepth && !(grid{g.slot, depth}).fits(times) {
		depth++
	}
	return depth
}

// fits tells whether no cell has more rows than a page may have.
func (g grid) fits(times []int64) bool {
	for len(times) > 0 {
		_, n := g.run(times)
		if n > maxPageRows {
			return false
		}
		times = times[n:]
	}
	return true
}
