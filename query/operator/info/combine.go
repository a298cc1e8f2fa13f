// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tidemarkdb/tidemark/query/vector"
)

var errSameLabels = errors.New("vector cannot contain metrics with the same labelset")

// result is one row of the base at the steps of one variant; nil: at all steps, unchanged.
type result struct {
	row     uint32
	variant *variant
}

// at tells whether the result is there at a step at which its row has a cell.
func (r result) at(step int) bool { return r.variant == nil || r.variant.steps[step] != 0 }

// combine says what the results are. Rows of which more than one result is made, or whose results may clash, are
// held; results with equal labels are put together here.
func (e *enrichment) combine(ctx context.Context) error {
	all, err := e.list(ctx)
	if err != nil {
		return err
	}
	bytes := int64(len(all)) * int64(24+4*len(e.base.Table().Cols))
	if err := e.charge(bytes); err != nil {
		return err
	}
	t := e.label(all)
	of, first, err := t.Groups()
	if err != nil {
		return err
	}
	like := make([][]uint32, len(first))
	for i, g := range of {
		like[g] = append(like[g], uint32(i))
	}
	f := failure{step: e.Grid().N}
	e.findClash(&f)
	if err := e.hold(ctx, t, all, like, &f); err != nil {
		return err
	}
	if err := e.merge(t, all, like, &f); err != nil {
		return err
	}
	return f.err
}

// list returns all results, in the order of the base, and reads rows that have none.
func (e *enrichment) list(ctx context.Context) ([]result, error) {
	byTarget := map[target][]*variant{}
	all := make([]result, 0, len(e.targets))
	var unread []uint32
	for row, t := range e.targets {
		if e.known && !e.present(uint32(row)) {
			continue
		}
		if e.isInfo[row] {
			all = append(all, result{uint32(row), nil})
			continue
		}
		of, ok := byTarget[t]
		if !ok {
			var err error
			if of, err = e.variants(t); err != nil {
				return nil, err
			}
			byTarget[t] = of
		}
		for _, v := range of {
			all = append(all, result{uint32(row), v})
		}
		if len(of) == 0 {
			unread = append(unread, uint32(row))
		}
	}
	return all, e.base.Discard(ctx, unread)
}

// label returns the labels of results: what a row has goes before what is added.
func (e *enrichment) label(all []result) *vector.Table {
	base := e.base.Table()
	rows := make([]uint32, len(all))
	added := map[string]struct{}{}
	for i, r := range all {
		rows[i] = r.row
		if r.variant == nil {
			continue
		}
		for _, a := range r.variant.add {
			added[a.name] = struct{}{}
		}
	}
	t := base.Take(rows)
	for _, name := range slices.Sorted(maps.Keys(added)) {
		col := make([]uint32, len(all))
		was := t.Column(name)
		for i, r := range all {
			if col[i] = symbol(was, uint32(i)); col[i] == 0 {
				col[i] = r.variant.value(name)
			}
		}
		t = t.With(name, col)
	}
	return t
}

// hold reads the rows that more than one result needs, or that may be in conflict, and finds the first conflict.
func (e *enrichment) hold(ctx context.Context, t *vector.Table, all []result, like [][]uint32, f *failure) error {
	results := make([]int, e.base.Table().N)
	for _, r := range all {
		results[r.row]++
	}
	var ids []uint32
	for _, same := range like {
		for _, i := range same {
			if r := all[i]; len(same) > 1 || results[r.row] > 1 || e.conflict(r) != "" {
				ids = append(ids, r.row)
			}
		}
	}
	slices.Sort(ids)
	if err := e.base.Hold(ctx, slices.Compact(ids)); err != nil {
		return err
	}
	for _, r := range all {
		name := e.conflict(r)
		if name == "" {
			continue
		}
		for step, k := range e.base.Held(r.row).Kinds() {
			if k != vector.Absent && r.at(step) {
				f.note(failure{step, inLabels, r.row, fmt.Errorf("conflicting label: %s", name)})
				break
			}
		}
	}
	return nil
}

// conflict returns a label for which two info metrics have different values, and the row none.
func (e *enrichment) conflict(r result) string {
	if r.variant == nil {
		return ""
	}
	for _, name := range r.variant.conflicts {
		if symbol(e.base.Table().Column(name), r.row) == 0 {
			return name
		}
	}
	return ""
}

// findClash finds the first step at which two info series clash and the base has a cell.
func (e *enrichment) findClash(f *failure) {
	if e.clashes == nil {
		return
	}
	there := make([]bool, e.Grid().N)
	e.base.Present(there)
	for step, c := range e.clashes {
		if c.there && there[step] {
			f.note(failure{step, inInfo, 0, e.clashError(c)})
			return
		}
	}
}

// failure is what is wrong at a step. Prometheus' engine reports the first: by step, then by phase, then by row.
type failure struct {
	step  int
	phase phase
	row   uint32
	err   error
}

// phase is a part of the work of one step.
type phase int

const (
	inInfo phase = iota
	inLabels
	inResults
)

// note keeps the earlier of two failures.
func (f *failure) note(g failure) {
	if cmp.Or(cmp.Compare(g.step, f.step), cmp.Compare(g.phase, f.phase), cmp.Compare(g.row, f.row)) < 0 {
		*f = g
	}
}
