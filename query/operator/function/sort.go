// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// newSort returns one of the functions that sort. With many it does not, as the result is no single vector; it warns.
func newSort(env *operator.Env, c *Call) operator.Node {
	byValue := c.Func == "sort" || c.Func == "sort_desc"
	desc := c.Func == "sort_desc" || c.Func == "sort_by_label_desc"
	if !c.Many {
		return &sorted{env: env, in: c.In, byValue: byValue, desc: desc, by: c.Texts}
	}
	n := &rowwise{env: env, in: c.In, bind: fixed(func(_ *work, b *vector.Batch) error {
		if byValue {
			dropHistograms(b)
		}
		return nil
	})}
	n.settle = func(notes *operator.Notes) {
		notes.Add(0, "sort", "", annotations.NewSortInRangeQueryWarning)
	}
	return n
}

// sorted holds the rows of an instant vector in the order of their values or labels.
type sorted struct {
	env     *operator.Env
	in      operator.Node
	byValue bool
	desc    bool
	by      []string // labels

	rows  store
	table *vector.Table
	held  held
}

// Open implements operator.Node.
func (s *sorted) Open(ctx context.Context) error {
	s.held.account, s.rows.batch.Budget = s.env.Account, s.env.Account
	if err := s.in.Open(ctx); err != nil {
		return err
	}
	if err := s.read(ctx); err != nil {
		return err
	}
	t := s.in.Table()
	n := s.rows.batch.Rows()
	// The order, what is sorted beside it, and the table.
	if err := s.held.charge(int64(n) * int64(32+4*len(t.Cols))); err != nil {
		return err
	}
	var places []uint32
	if s.byValue {
		places = s.valueOrder()
	} else {
		places = s.labelOrder(t)
	}
	if err := s.env.Check(); err != nil {
		return err // else what was sorted may be out of order
	}
	ids := make([]uint32, n)
	for i, p := range places {
		ids[i] = s.rows.batch.IDs[p]
	}
	s.table = t.Take(ids)
	s.table.Distinct = t.Distinct
	return s.arrange(places)
}

// read keeps the rows that have a value. Values do not order histograms, so those are left out.
func (s *sorted) read(ctx context.Context) error {
	return s.env.Drain(ctx, s.in, nil, func(b *vector.Batch) error {
		for i, k := range b.K {
			if k == vector.Absent || k == vector.Histogram && s.byValue {
				continue
			}
			if err := s.rows.add(b, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// arrange brings the rows into the order of places; row i then has id i.
func (s *sorted) arrange(places []uint32) error {
	old := s.rows.batch
	defer old.Free()
	s.rows.batch = vector.Batch{Budget: s.env.Account}
	s.rows.batch.Reset(1)
	if err := s.rows.batch.Reserve(len(places)); err != nil {
		return err
	}
	for i, p := range places {
		if i%4096 == 0 {
			if err := s.env.Check(); err != nil {
				return err
			}
		}
		if _, err := s.rows.batch.Add(uint32(i)); err != nil {
			return err
		}
		if err := copyRow(&s.rows.batch, i, &old, int(p)); err != nil {
			return err
		}
	}
	return nil
}

// placed is a value and the place of its row.
type placed struct {
	v     float64
	place uint32
}

// valueOrder sorts with NaN last.
func (s *sorted) valueOrder() []uint32 {
	rows := make([]placed, len(s.rows.batch.V))
	for i, v := range s.rows.batch.V {
		rows[i] = placed{v: v, place: uint32(i)}
	}
	sortValues(s.env, rows, s.desc)
	places := make([]uint32, len(rows))
	for i, r := range rows {
		places[i] = r.place
	}
	return places
}

// sortValues brings equal values into the order in which Prometheus has them: it asks the same questions of the same
// algorithm, which is that of package sort, and a NaN comes behind even another NaN.
func sortValues(env *operator.Env, rows []placed, desc bool) {
	before := func(a, b placed) int {
		if math.IsNaN(b.v) || b.v > a.v {
			return -1
		}
		return 0
	}
	if desc {
		before = func(a, b placed) int {
			if math.IsNaN(b.v) || b.v < a.v {
				return -1
			}
			return 0
		}
	}
	slices.SortFunc(rows, operator.Until(env, before))
}

func ascending(n int) []uint32 {
	rows := make([]uint32, n)
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}

// labelOrder sorts by the values of labels in natural order, then by all labels.
func (s *sorted) labelOrder(t *vector.Table) []uint32 {
	cols := make([][]uint32, 0, len(s.by))
	for _, name := range s.by {
		if col := t.Column(name); col != nil {
			cols = append(cols, col)
		}
	}
	ids := s.rows.batch.IDs
	sign := 1
	if s.desc {
		sign = -1
	}
	places := ascending(len(ids))
	slices.SortFunc(places, operator.Until(s.env, func(x, y uint32) int {
		a, b := ids[x], ids[y]
		for _, col := range cols {
			if col[a] == col[b] {
				continue
			}
			if naturalLess(t.Dict.Text(col[a]), t.Dict.Text(col[b])) {
				return -sign
			}
			return sign
		}
		return sign * t.Compare(a, b)
	}))
	return places
}

// Table implements operator.Node.
func (s *sorted) Table() *vector.Table { return s.table }

// Grid implements operator.Node.
func (s *sorted) Grid() vector.Grid { return s.in.Grid() }

// Cursor implements operator.Node.
func (s *sorted) Cursor(ids []uint32) operator.Cursor { return s.rows.cursor(ids) }

// Close implements operator.Node.
func (s *sorted) Close() {
	s.in.Close()
	s.rows.close()
	s.held.release()
}
