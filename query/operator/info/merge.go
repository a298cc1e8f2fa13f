// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"math"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// merge makes one row of results with equal labels. like lists them by labels.
func (e *enrichment) merge(t *vector.Table, all []result, like [][]uint32, f *failure) error {
	if len(like) == len(all) {
		e.table, e.results = t, all
		return nil
	}
	merged := 0
	first := make([]uint32, len(like))
	for i, same := range like {
		first[i] = same[0]
		if len(same) > 1 {
			merged++
		}
	}
	e.table = t.Take(first)
	e.done.Reset(e.Grid().N)
	if err := e.done.Reserve(merged); err != nil {
		return err
	}
	e.slot = make([]uint32, len(like))
	for i, same := range like {
		e.results = append(e.results, all[same[0]])
		if len(same) == 1 {
			continue
		}
		at, err := e.done.Add(uint32(i))
		if err != nil {
			return err
		}
		e.slot[i] = uint32(at + 1)
		from := start{step: never}
		for _, r := range same {
			if err := e.lay(at, all[r], f); err != nil {
				return err
			}
			if s := e.start(all[r]); s < from.step {
				from = start{s, t.Dropped(r)}
			}
		}
		e.done.Measure(at)
		if e.table.Drop != nil {
			e.table.Drop[i] = from.drop
		}
	}
	return nil
}

// start is the first step of a result, and what becomes of its name: the first of several decides.
type start struct {
	step int
	drop bool
}

// never is the first step of a result that has no cell.
const never = math.MaxInt

// start returns the first step at which a result has a cell.
func (e *enrichment) start(r result) int {
	for step, k := range e.base.Held(r.row).Kinds() {
		if k != vector.Absent && r.at(step) {
			return step
		}
	}
	return never
}

// lay puts the cells of a result in a row of done.
func (e *enrichment) lay(to int, r result, f *failure) error {
	from := e.base.Held(r.row)
	if from.HasHistograms() {
		if err := e.done.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := e.done.Row(to)
	fv, fk, fh := from.Row(from.At)
	for step, kind := range fk {
		if kind == vector.Absent || !r.at(step) {
			continue
		}
		if k[step] != vector.Absent {
			f.note(failure{step, inResults, r.row, errSameLabels})
			return nil
		}
		v[step], k[step] = fv[step], kind
		if kind == vector.Histogram {
			h[step] = fh[step]
		}
	}
	return nil
}
