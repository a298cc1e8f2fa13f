// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// scanRows is how many rows a Scan decodes before it returns: 16 B each, so 256 KiB, which stays in the second
// level cache while a kernel reads it.
const scanRows = 1 << 14

// scanHistograms is the same where rows are native histograms, of some 250 B each, and scanHistogramBytes where they take
// more.
const (
	scanHistograms     = 1 << 12
	scanHistogramBytes = 1 << 20
)

// room returns how many rows dst is to have.
func room(dst *column.Block) int {
	if len(dst.Kind) == 0 {
		return scanRows
	}
	rows := int64(len(dst.T))
	return int(min(scanHistograms, rows*scanHistogramBytes/max(1, dst.FloatBytes())+1))
}

// scanRun is how many series are read at a time, at most: the bytes of the head are copied for all of them before the
// first is decoded. The first run of a scan is short, so that little is copied in vain where series are long.
const (
	scanRun      = 256
	scanFirstRun = 16
)

// runOf returns how many series to read next, of those that are left, when done have come to so many rows of room.
func runOf(left, done, rows, room int) int {
	if done == 0 {
		return min(left, scanFirstRun)
	}
	return min(left, scanRun, (room-rows)/max(1, rows/done)+1)
}

// Scan decodes the next series of ids; see column.View. Scans of one view on several goroutines share nothing that is
// written to.
func (v *view) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	h, err := v.handleOf(s)
	if err != nil {
		return 0, fmt.Errorf("scan: %w", err)
	}
	n.MinT, n.MaxT = v.span(n.MinT, n.MaxT)
	dst.Reset()
	dst.Want(n)
	if len(ids) == 0 {
		return 0, nil
	}
	x := v.db.scanner(h, ids[0], n, dst)
	done, err := x.scan(ctx, ids, dst)
	if err == nil && dst.Spoilt() {
		v.db.rest(x, nil)
		dst.Reset()
		dst.Want(n)
		dst.WantWhole()
		x = v.db.scanner(h, ids[0], n, dst)
		done, err = x.scan(ctx, ids, dst)
	}
	if err != nil {
		v.db.rest(x, nil)
		return done, err
	}
	v.db.rest(x, ids[done:])
	return done, nil
}

// scan decodes series until dst has what a Scan gives.
func (x *scanner) scan(ctx context.Context, ids []uint32, dst *column.Block) (done int, err error) {
	for done < len(ids) && len(dst.T) < room(dst)/2 {
		run := ids[done : done+runOf(len(ids)-done, done, len(dst.T), room(dst))]
		x.load(run)
		for _, id := range run {
			if err := ctx.Err(); err != nil {
				return done, err
			}
			if err := x.row(ctx, id, dst); err != nil {
				return done, err
			}
			dst.EndSeries()
			if done++; len(dst.T) >= room(dst) {
				return done, nil
			}
		}
	}
	return done, nil
}

// scanner reads the rows of a set. It is lent from scan to scan.
type scanner struct {
	handle  *handle
	first   uint32 // while it is idle: the row with which the Scan begins that it waits for
	need    column.Need
	readers []rowReader // by source; nil before the first series of it
	ids     [][]uint32  // by source: those of the run
	merge   rowMerge
}

// scanner returns the scanner of the Scan that ended before row first of the set, or else a new one.
func (db *DB) scanner(h *handle, first uint32, n column.Need, dst *column.Block) *scanner {
	if x := h.takeIdle(first); x != nil {
		x.need = n
		for i, r := range x.readers {
			if r != nil && !r.resume(n, dst) {
				x.readers[i] = nil // there may be no room for what it holds; perhaps there is for what will be read
			}
		}
		return x
	}
	x, ok := db.scans.Get().(*scanner)
	if !ok {
		x = &scanner{}
	}
	x.handle, x.need = h, n
	for len(x.readers) < len(h.sources) {
		x.readers, x.ids = append(x.readers, nil), append(x.ids, nil)
	}
	return x
}

// rest ends a Scan. The readers stay with the set where there are rows left, since the next Scan begins in the stripes
// where this one ended.
func (db *DB) rest(x *scanner, left []uint32) {
	if len(left) > 0 {
		x.handle.addIdle(x, left[0])
		return
	}
	for i, r := range x.readers {
		if r != nil {
			r.close()
			x.readers[i] = nil
		}
	}
	x.handle = nil
	db.scans.Put(x)
}

// idleScanners is how many scanners a set keeps: more than scan it at a time.
const idleScanners = 64

// takeIdle returns the scanner that waits for row first; nil: there is none.
func (h *handle) takeIdle(first uint32) *scanner {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.idle, func(x *scanner) bool { return x.first == first })
	if i < 0 {
		return nil
	}
	x := h.idle[i]
	h.idle = slices.Delete(h.idle, i, i+1)
	return x
}

// addIdle keeps a scanner for the Scan that begins with row first.
func (h *handle) addIdle(x *scanner, first uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.first = first; len(h.idle) == idleScanners {
		h.idle = slices.Delete(h.idle, 0, 1)
	}
	h.idle = append(h.idle, x)
}

// load tells the sources of a run of rows which series will be read.
func (x *scanner) load(rows []uint32) {
	for i := range x.ids {
		x.ids[i] = x.ids[i][:0]
	}
	for _, row := range rows {
		for _, loc := range x.handle.of(row) {
			x.ids[loc.source] = append(x.ids[loc.source], loc.id)
		}
	}
	for i, ids := range x.ids {
		if len(ids) == 0 {
			continue
		}
		if x.readers[i] == nil {
			x.readers[i] = x.handle.sources[i].reader(x.need)
		}
		x.readers[i].load(ids)
	}
}

// row appends the rows of one series, the next of the run. Sources come oldest first, so that in the common case each
// appends after the other; only where times meet or cross are they merged.
func (x *scanner) row(ctx context.Context, row uint32, dst *column.Block) error {
	start := len(dst.T)
	m := &x.merge
	m.runs, m.crossed = m.runs[:0], false
	for _, loc := range x.handle.of(row) {
		from := len(dst.T)
		if err := x.readers[loc.source].next(ctx, dst); err != nil {
			if !damaged(err) {
				return fmt.Errorf("read samples: %w", err)
			}
			x.handle.view.unreadable(err)
		}
		if len(dst.T) == from {
			continue
		}
		m.runs = append(m.runs, run{from: from, to: len(dst.T), priority: x.handle.sources[loc.source].priority()})
		if from > start && dst.T[from] <= dst.T[from-1] {
			m.crossed = true
		}
	}
	if m.crossed {
		m.merge(dst, start)
	}
	return nil
}

// run is the rows that one source gave for a series, ascending in time.
type run struct {
	from, to int
	priority sample.LSN
}

// rowMerge brings the runs of one series into one order. At equal times the run of the lower priority number, the
// earlier commit, wins.
type rowMerge struct {
	runs    []run
	crossed bool
}

func (m *rowMerge) merge(b *column.Block, start int) {
	n := len(b.T) - start
	order := make([]int, n)
	prio := make([]sample.LSN, n)
	for _, r := range m.runs {
		for i := r.from; i < r.to; i++ {
			order[i-start], prio[i-start] = i, r.priority
		}
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(b.T[x], b.T[y]), cmp.Compare(prio[x-start], prio[y-start]))
	})
	order = slices.CompactFunc(order, func(x, y int) bool { return b.T[x] == b.T[y] })
	reorderRows(b, order, start)
}

// reorderRows replaces the rows of b from start on by those that order names.
func reorderRows(b *column.Block, order []int, start int) {
	b.Moved(start)
	permute(&b.T, order, start)
	permute(&b.V, order, start)
	if len(b.ST) > 0 {
		permute(&b.ST, order, start)
	}
	if len(b.Kind) > 0 {
		permute(&b.Kind, order, start)
		permute(&b.H.Int, order, start)
		permute(&b.H.Float, order, start)
	}
}

// permute replaces the entries of s from start on by those that order names.
func permute[T any](s *[]T, order []int, start int) {
	moved := make([]T, len(order))
	for i, from := range order {
		moved[i] = (*s)[from]
	}
	*s = append((*s)[:start], moved...)
}
