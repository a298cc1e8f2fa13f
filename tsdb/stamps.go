// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var _ column.StampReader = (*DB)(nil)

const (
	// sealAfter is how long ago times must be for answers over them to be kept, and liveFor how old a sample may be
	// when it becomes visible to count as live. The difference is what clocks may be apart.
	sealAfter = 60_000 // ms
	liveFor   = 30_000 // ms

	minute     = 60_000         // ms
	hour       = 60 * minute    // what minutes are added up by
	stampSlot  = 120 * minute   // what older late samples are counted by
	stampFine  = 24 * 60        // minutes back from now that have rows of their own
	stampSlots = 4096           // rows of older slots, about a year
	nameCells  = 256            // metric names share a cell by their hash
	allNames   = nameCells      // the cell that counts for every name
	rowBytes   = 4*allNames + 4 // unsafe.Sizeof(stampRow{})
)

// stampRow counts the late batches of a stretch of time, by metric name and in all.
type stampRow [allNames + 1]uint32

// stamps counts what changes in the past. Counters only grow, and where rows are put together no sum over a range
// becomes less; so two equal sums say that nothing was counted in between. Without late samples it takes no memory;
// at most 1,440 rows by minute, 25 by hour and 4,096 by slot of two hours, 5.7 MB.
//
// A late batch is counted under the sequencer lock, together with getting its place in the order. Whoever reads the
// stamp after it was counted opens a view, which wants that lock, that sees the batch.
type stamps struct {
	mu     sync.Mutex
	epoch  uint64              // guarded by mu; deletions
	newest int64               // guarded by mu; the highest time the clock has shown, ms
	fine   map[int64]*stampRow // guarded by mu; by minute
	hours  map[int64]*stampRow // guarded by mu; by start of an hour, what the minutes in fine come to
	coarse map[int64]*stampRow // guarded by mu; by start of a slot
	folded int64               // guarded by mu; minutes before it are in coarse
	rest   *stampRow           // guarded by mu; of all before restEnd; nil: there are none
	end    int64               // guarded by mu; see rest
}

// begin begins an epoch: every stamp is another one.
func (s *stamps) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
}

// clock returns now, or the time that was shown before the clock was set back.
func (s *stamps) clock(now int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = max(s.newest, now)
	return s.newest
}

// lateCell is where a late row counts, in one number to be sorted by: that of its minute, times nameCells, plus the cell
// of its metric name.
type lateCell int64

func lateCellOf(t int64, cell uint8) lateCell {
	return lateCell(floor(t, minute)/minute*nameCells + int64(cell))
}

func (c lateCell) minute() int64 { return floor(int64(c), nameCells) / nameCells * minute }
func (c lateCell) cell() uint32  { return uint32(c & (nameCells - 1)) }

// count counts late rows, at a time that clock gave.
func (s *stamps) count(cells []lateCell, now int64, account *budget.Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foldLocked(now, account)
	for _, c := range cells {
		row := s.rowLocked(c.minute(), account)
		row[c.cell()]++
		row[allNames]++
		if c.minute() >= s.folded {
			row = getRow(&s.hours, floor(c.minute(), hour), account)
			row[c.cell()]++
			row[allNames]++
		}
	}
}

// rowLocked returns the row that a minute counts in.
func (s *stamps) rowLocked(at int64, account *budget.Account) *stampRow {
	rows := &s.fine
	if at < s.folded {
		at, rows = floor(at, stampSlot), &s.coarse
		if s.rest != nil && at < s.end {
			return s.rest
		}
	}
	return getRow(rows, at, account)
}

// getRow returns a row, a new one where there is none.
func getRow(rows *map[int64]*stampRow, at int64, account *budget.Account) *stampRow {
	row := (*rows)[at]
	if row == nil {
		_ = account.Reserve(rowBytes) // upkeep is not refused
		if *rows == nil {
			*rows = map[int64]*stampRow{}
		}
		row = &stampRow{}
		(*rows)[at] = row
	}
	return row
}

// foldLocked moves minutes that are long ago to their slots, and the oldest slots to the rest.
func (s *stamps) foldLocked(now int64, account *budget.Account) {
	edge := floor(now, minute) - stampFine*minute
	if edge <= s.folded && s.folded != 0 {
		return
	}
	s.folded = edge
	for at, row := range s.fine {
		if at < edge {
			delete(s.fine, at)
			s.rowLocked(at, account).add(row)
			s.hours[floor(at, hour)].subtract(row)
			account.Release(rowBytes)
		}
	}
	for at := range s.hours {
		if at+hour <= edge {
			delete(s.hours, at)
			account.Release(rowBytes)
		}
	}
	if len(s.coarse) <= stampSlots {
		return
	}
	starts := make([]int64, 0, len(s.coarse))
	for at := range s.coarse {
		starts = append(starts, at)
	}
	slices.Sort(starts)
	starts = starts[:len(starts)/2]
	if s.rest == nil {
		_ = account.Reserve(rowBytes)
		s.rest = &stampRow{}
	}
	for _, at := range starts {
		s.rest.add(s.coarse[at])
		delete(s.coarse, at)
		account.Release(rowBytes)
		s.end = at + stampSlot
	}
}

func (r *stampRow) add(x *stampRow) {
	for i, n := range x {
		r[i] += n
	}
}

func (r *stampRow) subtract(x *stampRow) {
	for i, n := range x {
		r[i] -= n
	}
}

// sum adds up the cells of the rows that [mint, maxt] touches. It looks at the minutes only of the hours at the ends.
func (s *stamps) sum(cells []uint32, mint, maxt int64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.epoch
	take := func(row *stampRow) {
		for _, c := range cells {
			n += uint64(row[c])
		}
	}
	for at, row := range s.hours {
		switch {
		case at > maxt || at+(hour-1) < mint:
		case at >= mint && at+(hour-1) <= maxt:
			take(row)
		default:
			for m := at; m < at+hour; m += minute {
				if row := s.fine[m]; row != nil && m <= maxt && m+(minute-1) >= mint {
					take(row)
				}
			}
		}
	}
	for at, row := range s.coarse {
		if at <= maxt && at+(stampSlot-1) >= mint {
			take(row)
		}
	}
	if s.rest != nil && mint < s.end {
		take(s.rest)
	}
	return n
}

// floor returns the largest multiple of unit that is not above t, but for the first few that there are.
func floor(t, unit int64) int64 {
	if t < math.MinInt64+unit {
		return math.MinInt64
	}
	return t - ((t%unit)+unit)%unit
}

// Sealed returns the time up to which answers may be kept now; see column.StampReader.
func (db *DB) Sealed() int64 { return db.stamps.clock(db.now().UnixMilli()) - sealAfter }

// Stamp counts what has changed in [mint, maxt]; see column.StampReader.
func (db *DB) Stamp(ms []*labels.Matcher, mint, maxt int64) uint64 {
	return db.stamps.sum(cellsOf(ms), mint, maxt)
}

// cellsOf returns the cells of the metric names that ms may find.
func cellsOf(ms []*labels.Matcher) []uint32 {
	for _, m := range ms {
		if m.Name != labels.MetricName {
			continue
		}
		switch {
		case m.Type == labels.MatchEqual:
			return []uint32{uint32(head.NameCell(m.Value))}
		case m.Type == labels.MatchRegexp && len(m.SetMatches()) > 0:
			var cells []uint32
			for _, name := range m.SetMatches() {
				cells = append(cells, uint32(head.NameCell(name)))
			}
			slices.Sort(cells)
			return slices.Compact(cells)
		}
	}
	return []uint32{allNames}
}

// lateRows is what a batch changes of the past.
type lateRows struct {
	cells []lateCell
	now   int64 // when they were looked for
	live  int64 // the oldest of the other rows
}

// findLate lists where the late rows of a batch count. It is one pass over the times where all are live.
func (db *DB) findLate(b *sample.Batch, x *lateRows) {
	x.now, x.live, x.cells = db.stamps.clock(db.now().UnixMilli()), math.MaxInt64, x.cells[:0]
	edge := x.now - liveFor
	late := 0
	for _, t := range b.T {
		if t >= edge {
			x.live = min(x.live, t)
		} else {
			late++
		}
	}
	if late == 0 {
		return
	}
	db.head.EachNameCell(b.Ref, func(i int, cell uint8) {
		if t := b.T[i]; t < edge {
			c := lateCellOf(t, cell)
			if n := len(x.cells); n == 0 || x.cells[n-1] != c {
				x.cells = append(x.cells, c)
			}
		}
	})
	slices.Sort(x.cells)
	x.cells = slices.Compact(x.cells)
}

// countLate counts what findLate has found, and what has become late since. The caller holds the sequencer lock.
func (db *DB) countLate(b *sample.Batch, x *lateRows) {
	if now := db.stamps.clock(db.now().UnixMilli()); x.live < now-liveFor {
		db.findLate(b, x)
	}
	if len(x.cells) > 0 {
		db.stamps.count(x.cells, x.now, db.upkeep)
	}
}
