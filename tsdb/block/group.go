// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// stripesWriter writes the section of the stripes: it cuts the rows of series into cells, collects the pages of a
// group, and writes its stripes and those of the times.
type stripesWriter struct {
	out        io.Writer
	off        int64
	encoder    encoding.Encoder
	histograms histogramEncoder
	grid       grid
	cells      map[cellKey]uint32 // numbers of the cells
	alone      bool               // no page refers to another
	times      timeWriter
	directory  directoryWriter
	buf        []byte

	// The group being filled.
	series  int
	stripes map[cellKey]*stripeWriter
	spare   []*stripeWriter
	full    bool
	same    []Page // that hold the rows of the series being added and could not be copied
	placed  []placed
	column  []int64
	memory  int64 // of its stripes, the spare ones included
	size    int   // of its pages
}

func (w *stripesWriter) init(out io.Writer, off, slot int64, cold bool) {
	w.out, w.off, w.grid, w.encoder = out, off, grid{slot: slot}, encoding.Encoder{Cold: cold}
	w.histograms.encoder = &w.encoder
	w.cells, w.stripes = map[cellKey]uint32{}, map[cellKey]*stripeWriter{}
	w.times.init(&w.encoder, timesKnown)
	w.times.emit = w.emitTimes
}

// bytes returns the memory that the writer holds.
func (w *stripesWriter) bytes() int64 {
	fixed := cellBytes*int64(len(w.cells)) + stripeBytes*int64(len(w.stripes)+len(w.spare))
	return w.memory + w.times.bytes() + w.histograms.columns.Bytes() + int64(cap(w.buf)+cap(w.directory.b)) + 8*int64(cap(w.column)) + fixed
}

const (
	// cellBytes is what the writer knows of a cell, in two tables, and its stripe of times without what is in it.
	cellBytes = 128 + int64(unsafe.Sizeof(timeStripeWriter{}))
	// stripeBytes is what the stripe of a cell takes without what is in it.
	stripeBytes = int64(unsafe.Sizeof(stripeWriter{}))
)

// add makes the rows [from, to) of src the next series.
func (w *stripesWriter) add(src *column.Block, from, to int) error {
	if from < to {
		// A group has one grid. A series that needs a finer one begins a new group; in the other direction the
		// pages merely become small.
		if depth := w.grid.depthFor(src.T[from:to]); w.series == 0 || depth > w.grid.depth {
			if err := w.flush(); err != nil {
				return err
			}
			w.grid.depth = depth
		}
	}
	for from < to {
		key, n := w.grid.run(src.T[from:to])
		if err := w.page(key, src, from, from+n); err != nil {
			return err
		}
		from += n
	}
	return w.endSeries()
}

// endSeries begins the next series.
func (w *stripesWriter) endSeries() error {
	w.series++
	if w.full || w.series == groupSeries || w.size >= groupTarget {
		return w.flush()
	}
	return nil
}

// page adds the rows [from, to) of src, all of one cell, to the stripe of the cell.
func (w *stripesWriter) page(key cellKey, src *column.Block, from, to int) error {
	s, ok := w.stripes[key]
	if !ok {
		s = w.stripe(key)
	}
	had, size := s.bytes(), len(s.data)
	floats, histograms := kindsOf(src, from, to)
	columns := floats != histograms && (floats || to-from >= columnRows)
	number, err := uint32(0), error(nil)
	if columns {
		if number, err = w.times.number(s.cell, src.T[from:to]); err != nil {
			return err
		}
	}
	switch {
	case columns && floats:
		s.appendFloats(&w.encoder, w.series, src, from, to, number)
	case columns && s.appendHistograms(&w.histograms, w.series, src, from, to, number):
	default:
		s.begin(w.series, src.T[from], src.T[to-1])
		s.data = chunk.EncodePage(s.data, src, from, to)
		s.end(kindRows, size)
	}
	if len(w.same) > 0 {
		w.noteSame(s, src.T[from:to])
	}
	w.memory += s.bytes() - had
	w.size += len(s.data) - size
	w.full = w.full || len(s.data) >= stripeTarget
	return nil
}

// stripe begins the stripe of a cell.
func (w *stripesWriter) stripe(key cellKey) *stripeWriter {
	cell, ok := w.cells[key]
	if !ok {
		cell = uint32(len(w.cells))
		w.cells[key] = cell
	}
	s := &stripeWriter{}
	if n := len(w.spare); n > 0 {
		s, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	s.reset(key, cell)
	s.alone = w.alone
	w.stripes[key] = s
	return s
}

// columnRows is how many histograms are worth columns: fewer take less in a stream, where what does not change costs a bit.
const columnRows = 8

// kindsOf tells whether there are floats among rows, and whether there are native histograms.
func kindsOf(src *column.Block, from, to int) (floats, histograms bool) {
	if len(src.Kind) == 0 {
		return true, false
	}
	for _, k := range src.Kind[from:to] {
		floats, histograms = floats || k == sample.Float, histograms || k != sample.Float
	}
	return floats, histograms
}

// flush writes the stripes of the group, in the order of time, and begins the next group.
func (w *stripesWriter) flush() error {
	if w.series == 0 {
		return nil
	}
	if len(w.stripes) == 0 {
		w.directory.emptyGroup(w.series)
	}
	first := len(w.spare)
	for _, s := range w.stripes {
		w.spare = append(w.spare, s)
	}
	// The spare ones are taken from the end: the latest cell gets the memory of the first, which is as good.
	group := w.spare[first:]
	slices.SortFunc(group, func(a, b *stripeWriter) int {
		return cmp.Or(cmp.Compare(a.key.slot, b.key.slot), cmp.Compare(a.key.part, b.key.part))
	})
	for i, s := range group {
		had := s.bytes()
		w.buf = s.appendTo(w.buf[:0], &w.encoder, w.series)
		w.memory += s.bytes() - had
		info := stripe{cell: s.cell, minT: s.minT, maxT: s.maxT}
		if err := w.write(&info.size, &info.crc); err != nil {
			return err
		}
		w.directory.stripe(&info, w.series, i == 0)
	}
	clear(w.stripes)
	w.series, w.size, w.full = 0, 0, false
	return nil
}

// write writes buf as a stripe.
func (w *stripesWriter) write(size, crc *uint32) error {
	if len(w.buf) > maxStripe {
		return fmt.Errorf("stripe of %d bytes is larger than 1 GiB: write fewer samples per block", len(w.buf))
	}
	*size, *crc = uint32(len(w.buf)), checksum(w.buf)
	n, err := w.out.Write(w.buf)
	w.off += int64(n)
	return err
}

// emitTimes writes a stripe of times: the sizes of its columns, their rows, what they are parts of, then the columns.
func (w *stripesWriter) emitTimes(cell uint32, s *timeStripeWriter) error {
	info := timeStripe{cell: cell, cols: uint32(len(s.sizes))}
	w.buf = w.buf[:0]
	for _, x := range [][]int64{s.sizes, s.rows, s.bases} {
		w.buf = appendColumn(w.buf, &w.encoder, x)
	}
	w.buf = append(w.buf, s.data...)
	if err := w.write(&info.size, &info.crc); err != nil {
		return err
	}
	w.directory.times(&info)
	return nil
}

// finish writes what is not yet written.
func (w *stripesWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	for cell := range w.times.cells {
		if err := w.times.flush(uint32(cell)); err != nil {
			return err
		}
	}
	return nil
}
