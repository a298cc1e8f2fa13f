// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"errors"
	"sort"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// extend is what becomes of the samples of an anchored or smoothed range vector that is the answer itself: those in
// the window, and one at each of its ends, taken from the sample before it or, smoothed, from the two around it.
func extend(s operator.Samples, w operator.Windows) (operator.Samples, error) {
	for i := range s.H {
		if s.H[i] == nil {
			continue
		}
		if w.Anchored {
			return s, errors.New("anchored modifier is not supported with histograms")
		}
		return s, errors.New("smoothed modifier is not supported with histograms")
	}
	s.Kind, s.H, s.ST = nil, nil, nil
	if len(s.T) == 0 {
		return s, nil
	}
	from, to := w.At(0)-w.Range, w.At(0)
	last := len(s.T) - 1
	first := max(0, sort.Search(last, func(i int) bool { return s.T[i] > from })-1)
	if w.Smoothed {
		last = sort.Search(last, func(i int) bool { return s.T[i] >= to })
	}
	if s.T[last] <= from {
		s.T, s.V = nil, nil
		return s, nil
	}
	left, right := s.V[first], s.V[last]
	if w.Smoothed && s.T[first] < from {
		left = between(s, first, from)
	}
	if w.Smoothed && last > 0 && s.T[last] > to {
		right = between(s, last-1, to)
	}
	if s.T[first] <= from {
		first++
	}
	if s.T[last] >= to {
		last--
	}
	out := operator.Samples{ID: s.ID}
	out.T, out.V = append(out.T, from), append(out.V, left)
	if first <= last {
		out.T, out.V = append(out.T, s.T[first:last+1]...), append(out.V, s.V[first:last+1]...)
	}
	out.T, out.V = append(out.T, to), append(out.V, right)
	return out, nil
}

// between returns the value at t on the line from sample i to the next.
func between(s operator.Samples, i int, t int64) float64 {
	rise := float64((s.V[i+1] - s.V[i]) * float64(t-s.T[i]))
	return s.V[i] + rise/float64(s.T[i+1]-s.T[i])
}
