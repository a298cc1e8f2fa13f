// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"
	"sort"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// ranked is a value and the series it is of.
type ranked struct {
	v  float64
	id uint32
}

// heap is a binary heap with the value on top that goes first: the least, or the greatest if reverse; NaN before any.
// Elements that are equal come and go as with the standard library's heap and Prometheus' order, in which a NaN is
// less even than another NaN, so that of equal values the same series are chosen.
type heap struct {
	of      []ranked
	reverse bool
}

func (h heap) Len() int      { return len(h.of) }
func (h heap) Swap(i, j int) { h.of[i], h.of[j] = h.of[j], h.of[i] }

func (h heap) Less(i, j int) bool {
	a, b := h.of[i].v, h.of[j].v
	if math.IsNaN(a) {
		return true
	}
	if h.reverse {
		return a > b
	}
	return a < b
}

// replaceLeast puts e in the place of the first element of a heap whose values, that of e included, are no NaN, and
// returns the value that is first then. It does what sink does, without looking for NaN.
func replaceLeast(of []ranked, e ranked) float64 {
	i := 0
	for child := 1; child < len(of); child = 2*i + 1 {
		if r := child + 1; r < len(of) && of[r].v < of[child].v {
			child = r
		}
		if !(of[child].v < e.v) {
			break
		}
		of[i] = of[child]
		i = child
	}
	of[i] = e
	return of[0].v
}

// replaceGreatest is replaceLeast for a heap with the greatest first.
func replaceGreatest(of []ranked, e ranked) float64 {
	i := 0
	for child := 1; child < len(of); child = 2*i + 1 {
		if r := child + 1; r < len(of) && of[r].v > of[child].v {
			child = r
		}
		if !(of[child].v > e.v) {
			break
		}
		of[i] = of[child]
		i = child
	}
	of[i] = e
	return of[0].v
}

// raise moves the last element to its place.
func (h heap) raise() {
	for j := len(h.of) - 1; j > 0; {
		parent := (j - 1) / 2
		if !h.Less(j, parent) {
			return
		}
		h.Swap(parent, j)
		j = parent
	}
}

// sink moves the first element to its place.
func (h heap) sink() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h.of) {
			return
		}
		if r := child + 1; r < len(h.of) && h.Less(r, child) {
			child = r
		}
		if !h.Less(child, i) {
			return
		}
		h.Swap(i, child)
		i = child
	}
}

// belongs tells whether a value displaces the top of a full heap.
func (h heap) belongs(v float64) bool {
	top := h.of[0].v
	if math.IsNaN(top) {
		return !math.IsNaN(v)
	}
	if h.reverse {
		return top > v
	}
	return top < v
}

// sortReversed puts the elements in the order opposite to that of the heap. Few elements are sorted as the standard library
// sorts few, which matters for equal ones, but without its interface.
// When the query stops it ends soon, with the elements in any order.
func (h heap) sortReversed(env *operator.Env) {
	const few = 12
	if len(h.of) > few {
		sort.Sort(&reversed{heap: h, env: env})
		return
	}
	for i := 1; i < len(h.of); i++ {
		for j := i; j > 0 && h.Less(j-1, j); j-- {
			h.Swap(j, j-1)
		}
	}
}

// reversed is a heap for sorting much: in the opposite order while the query runs, and with all elements equal once it
// has stopped, so that the sort ends soon.
type reversed struct {
	heap
	env     *operator.Env
	asked   int
	stopped bool
}

// Less is that of sort.Interface.
func (r *reversed) Less(i, j int) bool {
	if r.asked++; r.asked&4095 == 0 && !r.stopped {
		r.stopped = r.env.Check() != nil
	}
	return !r.stopped && r.heap.Less(j, i)
}
