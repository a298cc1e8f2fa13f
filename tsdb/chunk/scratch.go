// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import "github.com/tidemarkdb/tidemark/tsdb/column"

// scratch is the memory in which histograms are decoded. It stays with the block of columns that is filled, which is
// used for scan after scan: what a page takes is there from the page before.
type scratch struct {
	columns columnDecoder
	words   [2][]uint64 // of a stream: the counts and buckets in force, and those of the layout before
}

// scratchOf returns that of a block.
func scratchOf(dst *column.Block) *scratch {
	s, ok := dst.Scratch.(*scratch)
	if !ok {
		s = &scratch{}
		dst.Scratch = s
	}
	return s
}

// swapWords returns n words, all 0, beside those that it returned last.
func (s *scratch) swapWords(dst *column.Block, n int) ([]uint64, error) {
	s.words[0], s.words[1] = s.words[1], s.words[0]
	if cap(s.words[0]) < n {
		size := max(n, 2*cap(s.words[0]))
		if err := dst.Keep(8 * int64(size-cap(s.words[0]))); err != nil {
			return nil, err
		}
		s.words[0] = make([]uint64, size)
	}
	words := s.words[0][:n]
	clear(words)
	return words, nil
}
