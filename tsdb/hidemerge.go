// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// hideMerge carries what deletes that can be undone hide of blocks over into the block that they are merged into.
//
// A delete hides all samples of its series and times that there were, the hidden ones too. So of two samples of one
// series and time the one that more deletes hide is the older; it was replaced, and goes. Where as many hide both, the one
// that was committed first counts, as everywhere.
type hideMerge struct {
	purge map[*block.Block]tombstones // what is left out
	carry map[*block.Block]tombstones // what is carried over
	ids   []sample.LSN                // of the deletes that are carried, ascending
	masks []map[uint32][]interval     // of each of ids, of the new block

	any   bool // whether something of the series at hand is hidden and carried
	same  []*mergeInput
	words int      // of a set of deletes
	sets  []uint64 // of each row: the deletes that hide it
}

func newHideMerge(blocks []storedBlock, final func(sample.LSN) bool) hideMerge {
	h := hideMerge{purge: map[*block.Block]tombstones{}, carry: map[*block.Block]tombstones{}}
	for _, b := range blocks {
		h.purge[b.Block] = b.dead.only(final)
		h.carry[b.Block] = b.dead.without(final)
		for i := range h.carry[b.Block] {
			h.ids = append(h.ids, h.carry[b.Block][i].id)
		}
	}
	slices.Sort(h.ids)
	h.ids = slices.Compact(h.ids)
	h.masks = make([]map[uint32][]interval, len(h.ids))
	h.words = (len(h.ids) + 63) / 64
	return h
}

// final returns what of a block is left out.
func (h *hideMerge) final(in *mergeInput) tombstones { return h.purge[in.b.Block] }

// begin begins a series.
func (h *hideMerge) begin(same []*mergeInput) {
	h.same, h.any = same, false
	if len(h.ids) == 0 {
		return
	}
	for _, in := range same {
		h.any = h.any || len(h.carry[in.b.Block].hidden(in.id)) > 0
	}
}

// touches reports whether something of the series that an input is at is left out or hidden.
func (h *hideMerge) touches(in *mergeInput) bool {
	return len(h.purge[in.b.Block].hidden(in.id)) > 0 || len(h.carry[in.b.Block].hidden(in.id)) > 0
}

// merge brings the rows of a series into one order, one for each time, and notes what hides them. The runs are of the
// inputs that their priorities number.
func (h *hideMerge) merge(b *column.Block, runs []run, series uint32) {
	n := len(b.T)
	h.sets = slices.Grow(h.sets[:0], n*h.words)[:n*h.words]
	clear(h.sets)
	place := make([]sample.LSN, n)
	order := make([]int, n)
	for _, r := range runs {
		in := h.same[r.priority]
		for i := r.from; i < r.to; i++ {
			order[i], place[i] = i, r.priority
		}
		for _, m := range h.carry[in.b.Block] {
			h.note(&m, in.id, b.T, r)
		}
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(b.T[x], b.T[y]), cmp.Compare(h.count(x), h.count(y)), cmp.Compare(place[x], place[y]))
	})
	order = slices.CompactFunc(order, func(x, y int) bool { return b.T[x] == b.T[y] })
	h.carryOver(order, b.T, series)
	reorderRows(b, order, 0)
}

// note puts a delete into the sets of the rows of a run that it hides.
func (h *hideMerge) note(m *mask, id uint32, times []int64, r run) {
	ivs := m.of(id)
	if len(ivs) == 0 {
		return
	}
	k, _ := slices.BinarySearch(h.ids, m.id)
	for i := r.from; i < r.to; i++ {
		if deleted(ivs, times[i]) {
			h.sets[i*h.words+k/64] |= 1 << (k % 64)
		}
	}
}

// count returns how many deletes hide a row.
func (h *hideMerge) count(row int) (n int) {
	for _, w := range h.sets[row*h.words : (row+1)*h.words] {
		n += bits.OnesCount64(w)
	}
	return n
}

// carryOver notes the rows that each delete hides as intervals from the first to the last of neighbours.
func (h *hideMerge) carryOver(order []int, times []int64, series uint32) {
	for k := range h.ids {
		var ivs []interval
		open := false
		for _, row := range order {
			hidden := h.sets[row*h.words+k/64]&(1<<(k%64)) != 0
			switch {
			case hidden && open:
				ivs[len(ivs)-1].maxt = times[row]
			case hidden:
				ivs = append(ivs, interval{times[row], times[row]})
			}
			open = hidden
		}
		if len(ivs) == 0 {
			continue
		}
		if h.masks[k] == nil {
			h.masks[k] = map[uint32][]interval{}
		}
		h.masks[k][series] = ivs
	}
}

// tombstones returns what is hidden of the new block.
func (h *hideMerge) tombstones() tombstones {
	var out tombstones
	for k, id := range h.ids {
		if len(h.masks[k]) > 0 {
			out = append(out, mask{id: id, series: h.masks[k]})
		}
	}
	return out
}
