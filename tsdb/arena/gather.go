// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import "slices"

// Blocks of one class that live for different times end up few to a span, and each span has memory for all. Sift names
// the spans that the others have room for, and Move takes a block out of one: where all their blocks are moved the arena
// takes little more than its blocks do.

// Sift chooses the spans with the fewest blocks, as many as the others of their class have room for the blocks of, and
// returns how many bytes would be free without them. Blocks in other spans are not Scattered from then on. It costs two walks
// over the spans with free blocks.
func (a *Arena) Sift() (bytes int64) {
	var spans []uint32
	for class := range a.partial {
		if classOrder(uint8(class)) > 0 {
			return bytes // a block has a run for itself
		}
		per := int(blocksPerSpan(uint8(class)))
		spans = spans[:0]
		live := 0
		for at := a.partial[class]; at != 0; at = a.spans[at].next {
			spans = append(spans, at)
			live += int(a.spans[at].live)
		}
		a.fullestFirst(spans, per)
		need := (live + per - 1) / per
		// The list is made again, the fullest span in front: that is where Alloc looks.
		a.partial[class] = 0
		for i, at := range slices.Backward(spans) {
			s := &a.spans[at]
			if s.scattered = i >= need; !s.scattered || s.live > 0 {
				a.push(&a.partial[class], at)
			} else {
				a.giveRun(at)
			}
			if s.scattered {
				bytes += spanSize
			}
		}
	}
	return bytes
}

// fullestFirst sorts spans by their blocks, of which each has per at most.
func (a *Arena) fullestFirst(spans []uint32, per int) {
	ends := make([]int, per+1) // by blocks: of the spans that have as many
	for _, at := range spans {
		ends[a.spans[at].live]++
	}
	sum := 0
	for n, count := range slices.Backward(ends) {
		sum += count
		ends[n] = sum
	}
	in := slices.Clone(spans)
	for _, at := range slices.Backward(in) {
		end := &ends[a.spans[at].live]
		*end--
		spans[*end] = at
	}
}

// Scattered reports whether a block is in a span that Sift has chosen.
func (a *Arena) Scattered(ref Ref) bool { return a.spans[ref/spanUnits].scattered }

// Move takes a block to a span that is not scattered, and returns its new name. Where no such span has room, and with
// a block that is not Scattered, it returns ref. Move takes no memory from the account.
func (a *Arena) Move(ref Ref) Ref {
	s := &a.spans[ref/spanUnits]
	if !s.scattered {
		return ref
	}
	to := a.partial[s.class]
	if to == 0 || a.spans[to].scattered {
		return ref
	}
	next := a.take(to)
	copy(a.Bytes(next), a.Bytes(ref))
	a.Free(ref)
	return next
}
