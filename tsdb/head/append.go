// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// touchRun is how many series are asked for ahead of being appended to. A modern core has 10 to 16 cache misses in
// flight; the headers of a run are 32 independent ones.
const touchRun = 32

// appending is the state of applying one batch to one shard.
//
// Nearly all of the time of an append would be waiting for two cache lines: the header's, and now and then that of the
// end of a stream's body. So headers are asked for two runs of rows before they are needed; and a row that needs more than
// its header is put off for a run, while what it needs is on its way.
type appending struct {
	shard *shard
	work  *Work
	b     *sample.Batch
	rows  []uint32 // of the shard
	// headers are those of the run at hand and the two next ones, a ring by place in rows; nil for none.
	headers [4 * touchRun]*header
	// waiting is which rows of the run before were put off.
	waiting places

	maxT          int64
	rejected      int32
	floats, hists int32

	aim    aim
	newest int64 // of the rows that floatRows has appended and that are not counted in yet
	oldest int64
	noted  int64 // time of the last of them, noSample before the first
	count  int
}

// places is a set of places in a run: bit k is its row k.
type places uint32

// rowsLocked applies the rows of a batch.
func (s *shard) rowsLocked(w *Work) {
	rows := w.rows.of(s.number)
	if len(rows) == 0 {
		return
	}
	a := appending{shard: s, work: w, b: w.batch, rows: rows, maxT: noSample}
	plain := a.b.Kind == nil && a.b.ST == nil
	a.headersAhead(0)
	a.headersAhead(touchRun)
	a.aimAgain()
	for at := 0; at < len(rows); at += touchRun {
		a.headersAhead(at + 2*touchRun)
		if plain {
			a.floatRows(at)
			continue
		}
		for _, i := range a.run(at) {
			a.row(int(i))
		}
	}
	a.appendRows((len(rows)-1)&^(touchRun-1), a.waiting)
	a.finish()
}

// run returns the run of rows at an index.
func (a *appending) run(at int) []uint32 {
	if at >= len(a.rows) {
		return nil
	}
	return a.rows[at:min(at+touchRun, len(a.rows))]
}

// headersOf returns the headers of the run at an index, which headersAhead has found.
func (a *appending) headersOf(at int) *[touchRun]*header {
	return (*[touchRun]*header)(a.headers[uint(at)%uint(len(a.headers)):])
}

// headersAhead finds the headers of a run and asks for them.
func (a *appending) headersAhead(at int) {
	s, found, run, refs := a.shard, a.headersOf(at), a.run(at), a.b.Ref
	there := s.headers.len()
	for k, i := range run {
		hd := (*header)(nil)
		if local := s.head.local(refs[i].ID()); local < there {
			hd = s.headers.at(local)
		}
		found[k&(touchRun-1)] = hd
	}
	arena.Prefetch((*[touchRun]unsafe.Pointer)(unsafe.Pointer(found))[:len(run)])
}

// wanted is cache lines to ask for.
type wanted struct {
	lines [touchRun]unsafe.Pointer
	n     int
}

const cacheLine = 64

func (w *wanted) add(line unsafe.Pointer) {
	if w.n == len(w.lines) {
		w.ask()
	}
	w.lines[w.n] = line
	w.n++
}

func (w *wanted) ask() {
	arena.Prefetch(w.lines[:w.n])
	w.n = 0
}

// aim is what the times of rows that floatRows appends are within: the slot that the last row went to, and the limits.
type aim struct {
	slot       *slotCount // nil: no row can be one
	start      int64      // of the slot
	mint, maxt int64
}

// aimAgain finds where the next rows go, after another way of appending may have moved on.
func (a *appending) aimAgain() {
	slot, lim := a.shard.current, &a.work.limits
	if slot == nil || a.work.lsn <= slot.flushed || len(slot.covered) > 0 {
		a.aim = aim{maxt: noSample}
		return
	}
	a.aim = aim{slot: slot, start: slot.start, mint: max(slot.start, lim.MinT), maxt: min(slot.end, lim.MaxT)}
	a.oldest, a.newest, a.noted = math.MaxInt64, noSample, noSample
}

// settle counts in what floatRows has appended.
func (a *appending) settle() {
	if a.count == 0 {
		return
	}
	a.aim.slot.note(a.oldest, a.work)
	a.aim.slot.inOrder += a.count
	a.aim.slot.note(a.newest, a.work)
	a.shard.counts.Samples[sample.Float] += uint64(a.count)
	a.floats += int32(a.count)
	a.maxT = max(a.maxT, a.newest)
	a.count = 0
}

// floatRows does row for the run at an index, of floats without start timestamps. What nearly all of them are it does
// itself, in a few instructions: rows of a series that has a chunk of floats open in the slot that the last row went to.
//
// A row that needs more than its header it puts off to the end of the next run. No other row of that series may come first.
func (a *appending) floatRows(at int) {
	b, lsn, guard, found := a.b, a.work.lsn, a.work.guard, a.headersOf(at)
	waiting := places(0)
	for k, i := range a.run(at) {
		t, v, hd, ref := b.T[i], math.Float64bits(b.V[i]), found[k&(touchRun-1)], b.Ref[i]
		if hd == nil || hd.gen != ref.Generation() || hd.gen == 0 || !hd.takesFloat(t) ||
			hd.lastT < a.aim.start || t < a.aim.mint || t > a.aim.maxt {
			a.appendRows(at-touchRun, a.waiting)
			a.appendRows(at, waiting)
			a.waiting, waiting = 0, 0
			a.rowAside(i)
			continue
		}
		if !hd.needsFooter(guard) && (v == hd.last && hd.end.Repeat(t-hd.lastT) || hd.end.Append(hd.lastT, t, hd.last, v)) {
			a.note(hd, t, v, lsn)
			continue
		}
		hd.flags |= isWaiting
		waiting |= 1 << (k & (touchRun - 1))
	}
	a.bodiesAhead(at, waiting)
	a.appendRows(at-touchRun, a.waiting)
	a.waiting = waiting
}

// note counts in a float that was appended to the stream of a series.
func (a *appending) note(hd *header, t int64, v uint64, lsn sample.LSN) {
	hd.n++
	hd.lastT, hd.last, hd.changed = t, v, lsn
	hd.flags &^= wasIdle | newestGone | newestKept
	if t != a.noted { // those of a scrape have one time
		a.oldest, a.newest, a.noted = min(a.oldest, t), max(a.newest, t), t
	}
	a.count++
}

// rowAside does row among rows that floatRows appends.
func (a *appending) rowAside(i uint32) {
	a.settle()
	a.row(int(i))
	a.aimAgain()
}

// needsFooter reports whether a row of the series does something with its footer: that says what a pin wants kept, and
// has the marks.
func (hd *header) needsFooter(guard sample.LSN) bool {
	return hd.changed <= guard || hd.n%markEvery == firstMark
}

// bodiesAhead asks for the memory that rows of a run need beside their headers: footers, the ends of bodies, and bodies that
// will move to a larger block.
func (a *appending) bodiesAhead(at int, rows places) {
	s, found := a.shard, a.headersOf(at)
	var want wanted
	for ; rows != 0; rows &= rows - 1 {
		k := bits.TrailingZeros32(uint32(rows))
		hd := found[k]
		if hd.needsFooter(a.work.guard) {
			want.add(unsafe.Pointer(s.footers.at(s.head.local(a.b.Ref[a.rows[at+k]].ID()))))
		}
		if hd.size == 0 {
			continue
		}
		body := s.bytes.At(hd.open)
		want.add(unsafe.Add(body, hd.size))
		if hd.room >= chunk.EndBytes {
			continue
		}
		for off := uint16(0); off < hd.size; off += cacheLine {
			want.add(unsafe.Add(body, off))
		}
	}
	want.ask()
}

// appendRows appends rows of the run at an index that were put off.
func (a *appending) appendRows(at int, rows places) {
	s, b, found := a.shard, a.b, a.headersOf(at)
	for ; rows != 0; rows &= rows - 1 {
		k := bits.TrailingZeros32(uint32(rows))
		hd, i := found[k], a.rows[at+k]
		t, v, local := b.T[i], math.Float64bits(b.V[i]), s.head.local(b.Ref[i].ID())
		hd.flags &^= isWaiting
		done := false
		if hd.needsFooter(a.work.guard) {
			done = s.appendPlainLocked(local, hd, t, v)
		} else { // the end was asked, and has no room
			done = s.shedLocked(hd, t, v)
		}
		if !done {
			a.rowAside(i)
			continue
		}
		if hd.changed <= a.work.guard { // the header says as yet what was before
			s.saveLocked(s.stateLocked(local, hd), a.work.lsn)
		}
		a.note(hd, t, v, a.work.lsn)
	}
}

// takesFloat reports whether a float at t needs nothing but to be appended to the open chunk: no new chunk, no start
// timestamp.
func (hd *header) takesFloat(t int64) bool {
	return hd.kind == sample.Float && hd.n >= 2 && hd.n < maxSamples && hd.size <= maxBody &&
		hd.flags&(hasST|isWaiting) == 0 && t > hd.lastT && uint64(t-hd.lastT) <= math.MaxUint32
}

// maxBody is the most bytes of the body of a stream that surely takes another sample.
const maxBody = maxStream - chunk.EndBytes - chunk.MaxFloatBytes

// appendPlainLocked appends to the open stream of floats of a series. It reports false, and what readers see
// is as it was, where memory has run out or the sample is a rare one.
func (s *shard) appendPlainLocked(local uint32, hd *header, t int64, v uint64) bool {
	if hd.n%markEvery == firstMark {
		s.markLocked(local, hd)
	}
	return hd.end.Append(hd.lastT, t, hd.last, v) || s.shedLocked(hd, t, v)
}

// shedLocked is appendPlainLocked where the end has no room for the sample: its bytes move to the body first.
func (s *shard) shedLocked(hd *header, t int64, v uint64) bool {
	if hd.room < chunk.EndBytes && !s.growLocked(hd, 2*chunk.EndBytes) {
		return false
	}
	moved := uint16(hd.end.Shed(s.roomLocked(hd)))
	hd.size, hd.room = hd.size+moved, hd.room-moved
	return hd.end.Append(hd.lastT, t, hd.last, v)
}

func (a *appending) finish() {
	a.settle()
	a.work.rejected.Add(a.rejected)
	a.work.floats.Add(a.floats)
	a.work.hists.Add(a.hists)
	if a.maxT != noSample {
		a.shard.head.noteMaxTime(a.maxT)
	}
}

// row judges and applies row i of the batch.
func (a *appending) row(i int) {
	s, b := a.shard, a.b
	local, hd := s.findLocked(b.Ref[i])
	if hd == nil {
		a.reject(i, sample.StaleRef)
		return
	}
	r := row{t: b.T[i], st: b.STAt(i), v: math.Float64bits(b.V[i]), kind: b.KindAt(i), flags: b.FlagsAt(i), index: i}
	if r.kind != sample.Float {
		r.h, r.fh = b.H[i], b.FH[i]
	}
	reason, late := judge(hd, &r, &a.work.limits)
	switch {
	case reason != sample.Accepted:
	case late:
		reason = s.appendLateLocked(local, hd, &r, a.work)
	default:
		reason = s.appendLocked(local, hd, &r, a.work)
		if reason == sample.Accepted && r.t > a.maxT {
			a.maxT = r.t
		}
	}
	if reason.Stored() {
		if r.kind == sample.Float {
			a.floats++
		} else {
			a.hists++
		}
	}
	if reason != sample.Accepted {
		a.reject(i, reason)
		return
	}
	s.counts.note(&r, late)
}

func (a *appending) reject(i int, r sample.Reason) {
	a.work.reason[i] = r
	a.rejected++
	a.shard.counts.Reasons[r]++
}
