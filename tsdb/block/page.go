// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// pageRead is one page being read.
type pageRead struct {
	wanted
	reader *Reader
	held   *held
	stripe *stripe
	series uint32 // its place in the group
}

// readPage appends the wanted rows of the page.
func (r *Reader) readPage(x *pageRead) error {
	p := &x.held.stripe.pages[x.series]
	var err error
	switch p.kind & kindMask {
	case kindNone:
		return nil
	case kindFloats:
		err = r.readFloats(x, p)
	case kindHistograms:
		err = r.readHistograms(x, p)
	default:
		err = x.readRows(p)
	}
	if err == nil {
		return nil
	}
	off, msg := 0, ""
	if bad, ok := errors.AsType[*encoding.CorruptError](err); ok {
		off, msg = bad.Off, bad.Msg
	} else if bad, ok := errors.AsType[*chunk.CorruptError](err); ok {
		off, msg = bad.Off, bad.Msg
	} else {
		return err
	}
	id := r.block.directory.groups[r.group].first + x.series
	return r.block.corrupt(x.stripe.off+int64(p.off)+int64(off), fmt.Sprintf("series %d: %s", id, msg))
}

// readRows decodes a page that has its own times.
func (x *pageRead) readRows(p *page) error {
	have := len(x.dst.T)
	if err := chunk.DecodePage(x.held.stripe.b[p.off:p.off+p.size], x.mint, x.maxt, x.withST, x.dst); err != nil {
		return err
	}
	if n := len(x.dst.T); n > have && (x.dst.T[have] < x.stripe.minT || x.dst.T[n-1] > x.stripe.maxT) {
		return &chunk.CorruptError{Msg: "times beyond those of the stripe"}
	}
	return nil
}

// readHistograms decodes a page of columns of histograms.
func (r *Reader) readHistograms(x *pageRead, p *page) error {
	if err := r.enterTimes(x, p.time); err != nil {
		return err
	}
	h := x.held
	if h.from >= h.to {
		return nil
	}
	columns, starts, ok := h.stripe.timedPage(p)
	if !ok {
		return &encoding.CorruptError{Msg: "columns of histograms without their size"}
	}
	var err error
	if r.at, err = scratch(r, x.dst, r.at, h.to-h.from); err != nil {
		return err
	}
	r.at = h.column.AppendTo(r.at, h.from, h.to)
	if len(r.at) != h.to-h.from {
		return &encoding.CorruptError{Msg: "column of times of another length"}
	}
	have := len(x.dst.T)
	err = chunk.DecodeColumns(columns, h.column.Len(), h.from, r.at, x.dst)
	if err != nil || starts == nil || !x.withST {
		return err
	}
	return x.readStarts(starts, h.column.Len(), have)
}

// readFloats decodes a page of floats.
func (r *Reader) readFloats(x *pageRead, p *page) error {
	h := x.held
	if err := r.enterTimes(x, p.time); err != nil {
		return err
	}
	n, from, to := h.column.Len(), h.from, h.to
	if from >= to {
		return nil
	}
	if err := x.dst.Reserve(to - from); err != nil {
		return err
	}
	values, starts, ok := h.stripe.timedPage(p)
	if !ok {
		return &encoding.CorruptError{Msg: "column of values without its size"}
	}
	have := len(x.dst.T)
	v, err := x.decode(values, p, n)
	if err != nil {
		return err
	}
	x.dst.V = v
	x.dst.T = h.column.AppendTo(x.dst.T, from, to)
	if len(x.dst.T)-have != to-from || len(x.dst.V) != len(x.dst.T) {
		return &encoding.CorruptError{Msg: "column of another length"}
	}
	x.dst.PadFloats()
	if starts == nil || !x.withST {
		return nil
	}
	return x.readStarts(starts, n, have)
}

// decode appends the wanted values of a page of n rows to those of dst.
func (x *pageRead) decode(values []byte, p *page, n int) ([]float64, error) {
	h := x.held
	ref := onlyRef(nil)
	if p.ref > 0 {
		base, err := h.columns.whole(x, x.series-p.ref, n)
		if err != nil {
			return nil, err
		}
		ref = onlyRef(base)
	}
	have, v := len(x.dst.V), x.dst.V
	need := encoding.ValuesRoom(values, h.from, h.to)
	if need <= cap(v)-have {
		var err error
		if v, err = encoding.DecodeValues(v, values, n, h.from, h.to, ref); err != nil {
			return v, err
		}
	} else {
		r := x.reader
		aside, err := scratch(r, x.dst, r.values, need)
		if err != nil {
			return v, err
		}
		r.values = aside
		if aside, err = encoding.DecodeValues(aside, values, n, h.from, h.to, ref); err != nil {
			return v, err
		}
		v = append(v, aside...)
	}
	if p.referred && len(v) == have+n {
		return v, h.columns.keep(x, x.series, v[have:])
	}
	return v, nil
}

// scratch returns s empty, with room for n numbers of eight bytes, which dst is charged for.
func scratch[T int64 | float64](r *Reader, dst *column.Block, s []T, n int) ([]T, error) {
	if grow := int64(n) - int64(cap(s)); grow > 0 {
		if err := dst.Charge(8 * grow); err != nil {
			return s, err
		}
		r.columns += 8 * grow
		s = make([]T, 0, n)
	}
	return s[:0], nil
}

// onlyRef answers base for the one column that a page may refer to; nil: none.
func onlyRef(base []float64) func(int) ([]float64, error) {
	return func(k int) ([]float64, error) {
		if k != 0 || base == nil {
			return nil, &encoding.CorruptError{Msg: "reference to a column that the stripe does not name"}
		}
		return base, nil
	}
}

// enterTimes makes column number the one that the pages of the stripe have, and finds the wanted rows in it, unless that
// is so already.
func (r *Reader) enterTimes(x *pageRead, number uint32) error {
	if h := x.held; h.column != nil && h.number == number && h.mint == x.mint && h.maxt == x.maxt {
		return nil
	}
	t, err := r.times(x, number)
	if err != nil {
		return err
	}
	h := x.held
	h.column = nil
	from, to := 0, t.Len()
	if x.mint > t.First() {
		from = t.Search(x.mint)
	}
	if x.maxt < t.Last() {
		to = t.Search(x.maxt + 1)
	}
	h.number, h.column, h.from, h.to, h.mint, h.maxt = number, t, from, to, x.mint, x.maxt
	return nil
}

// readStarts fills in the start timestamps of the rows from have on.
func (x *pageRead) readStarts(starts []byte, n, have int) error {
	if err := x.dst.UseST(); err != nil {
		return err
	}
	r, h := x.reader, x.held
	aside, err := scratch(r, x.dst, r.at, encoding.IntsRoom(starts, h.from, h.to))
	if err != nil {
		return err
	}
	r.at = aside
	if aside, err = encoding.DecodeInts(aside, starts, n, h.from, h.to); err != nil {
		return err
	}
	if len(aside) != len(x.dst.T)-have {
		return &encoding.CorruptError{Msg: "start timestamps of another number of rows"}
	}
	copy(x.dst.ST[have:], aside)
	return nil
}

// columns are decoded columns that later pages of a stripe refer to.
type columns struct {
	ring [maxChain + 2]wholeColumn
	next int
}

type wholeColumn struct {
	series uint32    // its place in the group
	values []float64 // empty: none
}

// emptied returns the same memory without what is in it.
func (c *columns) emptied() columns {
	for i := range c.ring {
		c.ring[i].values = c.ring[i].values[:0]
	}
	return *c
}

// find returns the whole column of a series, nil where it is not kept.
func (c *columns) find(series uint32) []float64 {
	for i := range c.ring {
		if e := &c.ring[i]; e.series == series && len(e.values) > 0 {
			return e.values
		}
	}
	return nil
}

// room returns the place of the oldest column, with room for n values; not that of avoid, which is being read.
func (c *columns) room(x *pageRead, n int, avoid []float64) (*wholeColumn, error) {
	e := &c.ring[c.next%len(c.ring)]
	c.next++
	if len(avoid) > 0 && len(e.values) > 0 && &avoid[0] == &e.values[0] {
		e = &c.ring[c.next%len(c.ring)]
		c.next++
	}
	if grow := n - cap(e.values); grow > 0 {
		if err := x.dst.Charge(8 * int64(grow)); err != nil {
			return nil, err
		}
		x.reader.columns += 8 * int64(grow)
		e.values = make([]float64, 0, n)
	}
	e.values = e.values[:0]
	return e, nil
}

// keep adds the whole column of a series.
func (c *columns) keep(x *pageRead, series uint32, v []float64) error {
	e, err := c.room(x, len(v), nil)
	if err != nil {
		return err
	}
	e.series, e.values = series, append(e.values, v...)
	return nil
}

// whole returns the column of a series of the stripe that has the same n times as the page being read. It is good
// until as many others were asked for as a chain is long.
func (c *columns) whole(x *pageRead, series uint32, n int) ([]float64, error) {
	if v := c.find(series); v != nil {
		return v, nil
	}
	p := &x.held.stripe.pages[series]
	values, _, ok := x.held.stripe.timedPage(p)
	if !ok {
		return nil, &encoding.CorruptError{Msg: "column of values without its size"}
	}
	var base []float64
	var err error
	if p.ref > 0 {
		if base, err = c.whole(x, series-p.ref, n); err != nil {
			return nil, err
		}
	}
	e, err := c.room(x, encoding.ValuesRoom(values, 0, n), base)
	if err != nil {
		return nil, err
	}
	v, err := encoding.DecodeValues(e.values, values, n, 0, n, onlyRef(base))
	if err == nil && len(v) != n {
		err = &encoding.CorruptError{Msg: "column of another length"}
	}
	if err != nil {
		return nil, err
	}
	e.series, e.values = series, v
	return v, nil
}
