// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// sorted is the samples of a window in order, NaN first, moved from one window to the next.
//
// Values are kept as integers in the same order, so that a value that leaves the window is found by its bits.
type sorted struct {
	f    *frame
	keys []uint64
	l, h int // the window
}

func (s *sorted) len() int { return len(s.keys) }

// at returns the i-th smallest value.
func (s *sorted) at(i int) float64 { return valueOf(s.keys[i]) }

// firstAbove returns how many values are at most x, which is no NaN.
func (s *sorted) firstAbove(x float64) int {
	return sort.Search(len(s.keys), func(i int) bool { return s.at(i) > x })
}

// move brings the window to the samples [l, h), neither of which may be less than before.
func (s *sorted) move(l, h int) error {
	if cap(s.keys) < h-l {
		keys, err := room(&s.f.scratch.memory, s.f.scratch.keys, h-l, 8)
		if err != nil {
			return err
		}
		s.f.scratch.keys = keys
		s.keys = append(keys[:0], s.keys...)
	}
	changed := min(l, s.h) - s.l + h - max(l, s.h)
	if l >= s.h || changed > 16+(h-l)/16 {
		s.keys = s.keys[:h-l]
		for i, x := range s.f.v[l:h] {
			s.keys[i] = keyOf(x)
		}
		if err := s.f.order(s.keys); err != nil {
			return err
		}
		s.l, s.h = l, h
		return s.f.spend(h - l)
	}
	for ; s.l < l; s.l++ {
		i, _ := slices.BinarySearch(s.keys, keyOf(s.f.v[s.l]))
		s.keys = slices.Delete(s.keys, i, i+1)
	}
	for ; s.h < h; s.h++ {
		k := keyOf(s.f.v[s.h])
		i, _ := slices.BinarySearch(s.keys, k)
		s.keys = slices.Insert(s.keys, i, k)
	}
	return s.f.spend(changed)
}

// sortAtOnce is how many keys are sorted without asking whether to stop: some milliseconds.
const sortAtOnce = 1 << 16

// order sorts keys, or fails once the query has ended.
func (f *frame) order(keys []uint64) error {
	if len(keys) <= sortAtOnce {
		slices.Sort(keys)
		return nil
	}
	slices.SortFunc(keys, operator.Until(f.env, cmp.Compare[uint64]))
	return f.env.Check()
}

// keyOf returns an integer that orders as the float does, NaN before all.
func keyOf(x float64) uint64 {
	if math.IsNaN(x) {
		return 0
	}
	b := math.Float64bits(x)
	if b>>63 == 1 {
		return ^b
	}
	return b | 1<<63
}

func valueOf(k uint64) float64 {
	switch {
	case k == 0:
		return math.NaN()
	case k>>63 == 1:
		return math.Float64frombits(k &^ (1 << 63))
	default:
		return math.Float64frombits(^k)
	}
}
