// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
)

// limitFrom is how many series must match, beyond what a limit costs, for it to be worth not listing them all.
const limitFrom = 4096

// lookupCost is what finding one series of another source by its labels costs, in series listed.
const lookupCost = 64

// cut leaves the first limit series of each part where far more match, and reports whether it did. In a block these are
// the first in label order, in the head the oldest. All parts together have the limit's series, but a part may lack
// some of those that are taken from others: complete looks for them.
func (m *seriesMerge) cut(limit int) bool {
	total, most := 0, 0
	for _, p := range m.parts {
		total, most = total+len(p.ids), max(most, len(p.ids))
	}
	if limit <= 0 || most <= limit || total-limitFrom < limit*len(m.parts)*(1+lookupCost*(len(m.parts)-1)) {
		return false
	}
	for i := range m.parts {
		p := &m.parts[i]
		p.cut = len(p.ids) > limit
		n := min(limit, len(p.ids))
		p.ids = p.ids[:n:n]
	}
	return true
}

// complete finds the rows that perm names in the parts that were cut.
func (m *seriesMerge) complete(perm []uint32) error {
	if len(m.parts) == 1 {
		return nil
	}
	for i := range m.parts {
		p := &m.parts[i]
		if !p.cut {
			continue
		}
		if !m.task.Reserve(2*numberBytes*int64(len(p.ids)+len(perm)) + int64(m.n)/8 + 8) {
			return m.task.Err()
		}
		have := newRowSet(m.n)
		if p.rows == nil { // it is the first: its rows are 0, 1, 2, …
			p.rows = make([]uint32, len(p.ids))
			for k := range p.rows {
				p.rows[k] = uint32(k)
			}
		}
		for _, row := range p.rows {
			have.add(row)
		}
		for _, row := range perm {
			if !have.add(row) {
				continue
			}
			id, ok, err := m.lookup(m.sources[p.source], row)
			if err != nil {
				return err
			}
			if ok {
				p.ids, p.rows = append(p.ids, id), append(p.rows, row)
			}
		}
	}
	return nil
}

// lookup returns the id that a source has for the series of a row.
func (m *seriesMerge) lookup(s source, row uint32) (id uint32, ok bool, err error) {
	var ms []*labels.Matcher
	for c, name := range m.labels.names {
		if value := m.labels.texts[m.labels.cols[c][row]]; value != "" {
			x, err := labels.NewMatcher(labels.MatchEqual, name, value)
			if err != nil {
				return 0, false, fmt.Errorf("look up a series: %w", err)
			}
			ms = append(ms, x)
		}
	}
	before := m.task.Taken()
	defer func() { m.task.Settle(before) }()
	ids, err := s.selectIDs(m.task, ms)
	if err != nil {
		return 0, false, err
	}
	next := 0
	s.eachPairs(ids, func(pairs []uint32) {
		if len(pairs) == 2*len(ms) { // the others have more labels
			id, ok = ids[next], true
		}
		next++
	})
	return id, ok, nil
}
