// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"cmp"
	"maps"
	"slices"
)

// Pairwise returns settings of n switches such that for every two of them each of the four combinations occurs, after
// all on, all off and each one alone off. For 10 switches those are 12 settings and a few more.
func Pairwise(n int) [][]bool {
	on, off := make([]bool, n), make([]bool, n)
	for i := range on {
		on[i] = true
	}
	all := [][]bool{on, off}
	for i := range n {
		one := append([]bool(nil), on...)
		one[i] = false
		all = append(all, one)
	}
	missing := map[pairing]bool{}
	for i := range n {
		for j := range i {
			for k := range 4 {
				missing[pairing{i, j, k&1 == 0, k&2 == 0}] = true
			}
		}
	}
	for _, s := range all {
		cover(missing, s)
	}
	for len(missing) > 0 {
		s := make([]bool, n)
		for i := range s { // each switch as it covers more together with those before it
			s[i] = gain(missing, s, i, true) >= gain(missing, s, i, false)
		}
		if cover(missing, s) == 0 { // the first choices left nothing new: force one that is missing
			p := slices.MinFunc(slices.Collect(maps.Keys(missing)), pairing.compare)
			s[p.i], s[p.j] = p.a, p.b
			cover(missing, s)
		}
		all = append(all, s)
	}
	return all
}

// pairing is switch i at a together with switch j at b; j is the smaller.
type pairing struct {
	i, j int
	a, b bool
}

func (p pairing) compare(q pairing) int {
	rank := func(v bool) int {
		if v {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(p.i, q.i), cmp.Compare(p.j, q.j), cmp.Compare(rank(p.a), rank(q.a)), cmp.Compare(rank(p.b), rank(q.b)))
}

func gain(missing map[pairing]bool, s []bool, i int, v bool) (n int) {
	for j := range i {
		if missing[pairing{i, j, v, s[j]}] {
			n++
		}
	}
	return n
}

func cover(missing map[pairing]bool, s []bool) (n int) {
	for i := range s {
		for j := range i {
			p := pairing{i, j, s[i], s[j]}
			if missing[p] {
				n++
				delete(missing, p)
			}
		}
	}
	return n
}
