// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"errors"
	"math"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// header is what the head has of a series beside its samples and its labels. It lives in the shard's table, off the heap.
// The first of its two cache lines is all that nearly every append touches.
type header struct {
	// The validation state: what rows are judged by. It outlives the samples themselves.
	lastT int64  // time of the newest sample; noSample before the first
	last  uint64 // its value: the bits of a float, the digest of a histogram
	// changed is the LSN of the last work that changed the in-order state, 0 before the first.
	changed sample.LSN

	end   chunk.FloatEnd // of the stream of an open chunk of floats
	gen   uint32         // generation of the Ref; 0: there is no series here
	open  arena.Ref      // the body of that stream; 0: all of it is in the end
	size  uint16         // bytes used of open
	n     uint16         // samples of the open chunk; 0: there is none
	kind  sample.Kind
	flags headerFlags

	mint    int64     // time of the first sample of the open chunk
	version uint64    // number + 1 of the newest saved version, see versions
	closed  arena.Ref // newest of the closed chunks; 0: there is none
	chunks  uint32    // chunks that were closed so far: the number of the open one

	// mark is a place in the open chunk of floats, so that its newest samples can be read without those before. Appending
	// touches it once in markEvery samples.
	mark chunk.Mark
	_    [16]byte // so that all headers begin at a cache line
}

// The first mark is behind firstMark samples, the next ones markEvery further on each. The windows of most rules have
// twenty samples: two of three times they do not reach back to before the last mark, and a chunk that is spilled has
// fifty samples or so in all.
const (
	firstMark = 30
	markEvery = 60
)

// markLocked returns the mark of the open chunk, of which a reader sees n samples, if it is before all samples from mint
// on.
func (hd *header) markLocked(n int, mint int64) (m chunk.Mark, ok bool) {
	m = hd.mark
	return m, m.Len() > 0 && m.Len() < n && m.LastT(hd.mint) < mint
}

const noSample = -1 << 63

type headerFlags uint8

const (
	hasLate    headerFlags = 1 << iota // the shard's late map has an entry
	hasST                              // the open chunk has start timestamps: the shard's starts map has an entry
	hasTombs                           // the shard's tombs map has an entry
	wasIdle                            // Idle has seen the series without samples once
	newestGone                         // the newest sample is deleted: what is stored at its time must be looked up
	newestKept                         // no chunk is open, but the newest sample is in a closed one or in a part
	inPart                             // a part of the shard has had rows of the series
)

// kind of lastT's sample and kind of the open chunk are the same while there is an open chunk: another kind
// closes it.

// keepIdle is how much idle memory a shard keeps for streams. A spill gives nearly all that a shard holds back, which
// would be as much again as all of them hold at a time.
const keepIdle = 64 << 10

// shard is the part of the head with the series whose id has the same remainder.
type shard struct {
	head   *Head
	number uint32
	queue  queue

	mu       sync.RWMutex // guards all below
	headers  table[header]
	bytes    *arena.Arena           // streams of open chunks, and closed chunks
	versions versions               // for open pins
	late     map[uint32]*lateRows   // by local id, as the others
	hists    map[uint32]*openHist   // open chunks of histograms
	starts   map[uint32]*openST     // start timestamps of open chunks
	tombs    map[uint32][]tomb      // deleted ranges
	ended    map[uint32]endedSeries // that have left but that a pin may see
	slots    map[int64]*slotCount
	current  *slotCount // of the slot that the last row went to; nil at first
	examples exemplars
	families map[string][]description
	counts   counts
	unswept  bool // chunks or late rows are dead
	// deadBytes is the streams of dead chunks.
	deadBytes int64
	parts     []*attached // by slot, then LSN
	// recovering is what parts hold, while the log is replayed; nil afterwards.
	recovering *recoveredParts
	scratch    column.Block
	joined     []byte // scratch: a stream in one piece
}

func newShard(h *Head, number uint32) *shard {
	bytes := arena.New(arena.Options{Account: h.opts.Account, KeepIdle: keepIdle})
	return &shard{
		head: h, number: number, versions: versions{arena: bytes}, headers: newTable[header](h.opts.Account), bytes: bytes,
		late: map[uint32]*lateRows{}, hists: map[uint32]*openHist{}, starts: map[uint32]*openST{}, tombs: map[uint32][]tomb{}, ended: map[uint32]endedSeries{},
		slots: map[int64]*slotCount{}, families: map[string][]description{},
	}
}

func (s *shard) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for local := range s.headers.len() {
		s.emptySeriesLocked(local)
	}
	for i := range s.examples.ring {
		s.head.opts.Account.Release(s.examples.ring[i].bytes)
	}
	for _, ds := range s.families {
		for i := range ds {
			s.head.opts.Account.Release(ds[i].bytes())
		}
	}
	return errors.Join(s.closePartsLocked(), s.headers.records.Close(), s.bytes.Close())
}

// id returns the series id of a local one.
func (s *shard) id(local uint32) uint32 { return local*uint32(len(s.head.shards)) + s.number }

// find returns the header of the series that ref names, nil if it has left or never was.
func (s *shard) findLocked(ref sample.Ref) (uint32, *header) {
	local := s.head.local(ref.ID())
	if local >= s.headers.len() {
		return 0, nil
	}
	if hd := s.headers.at(local); hd.gen == ref.Generation() && hd.gen != 0 {
		return local, hd
	}
	return 0, nil
}

// applyUntil applies the queued works up to and including w.
func (s *shard) applyUntil(w *Work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := s.queue.pop(w.lsn); x != nil; x = s.queue.pop(w.lsn) {
		s.applyLocked(x)
	}
}

func (s *shard) applyLocked(w *Work) {
	s.versions.forget(sample.LSN(s.head.pins.oldest.Load()))
	if w.change != nil {
		s.changeLocked(w)
		return
	}
	s.rowsLocked(w)
	for _, i := range w.exemplars.of(s.number) {
		if s.exemplarLocked(&w.batch.Exemplars[i], w.lsn) == nil {
			w.newEx.Add(1)
		}
	}
	for _, i := range w.metas.of(s.number) {
		s.metadataLocked(&w.batch.Meta[i], w.lsn)
	}
}

// touchRun is how many series are touched ahead of being appended to. A modern core has 10 to 16 cache misses in
// flight; the headers of a run are 32 independent ones.
const touchRun = 32

// rowsLocked applies the rows of a batch. Nearly all of the time of an append is waiting for cache misses, the header
// and now and then the end of a stream's body, so they are asked for in runs before they are needed.
func (s *shard) rowsLocked(w *Work) {
	rows := w.rows.of(s.number)
	if len(rows) == 0 {
		return
	}
	a := appending{shard: s, work: w, b: w.batch, maxT: noSample}
	plain := a.b.Kind == nil && a.b.ST == nil
	for len(rows) > 0 {
		run := rows[:min(touchRun, len(rows))]
		rows = rows[len(run):]
		s.touchLocked(&a, run)
		if plain {
			a.floatRows(run)
			continue
		}
		for _, i := range run {
			a.row(int(i))
		}
	}
	a.finish()
}

// touchLocked reads a word of each header and stream that the rows will need.
func (s *shard) touchLocked(a *appending, run []uint32) {
	var open [touchRun]*header
	for k, i := range run {
		local := s.head.local(a.b.Ref[i].ID())
		if local >= s.headers.len() {
			continue
		}
		hd := s.headers.at(local)
		a.touched += uint64(hd.gen)
		open[k] = hd
	}
	for k := range run {
		if hd := open[k]; hd != nil && hd.size > 0 && hd.end.Full() {
			a.touched += uint64(s.bytes.Bytes(hd.open)[:hd.size][hd.size-1])
		}
	}
}

// appending is the state of applying one batch to one shard.
type appending struct {
	shard *shard
	work  *Work
	b     *sample.Batch

	maxT          int64
	rejected      int32
	floats, hists int32
	touched       uint64 // keeps the compiler from dropping the reads of touchLocked

	aim    aim
	newest int64 // of the rows that floatRows has appended and that are not counted in yet
	oldest int64
	count  int
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
	a.oldest, a.newest = math.MaxInt64, noSample
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

// floatRows does row for rows of floats without start timestamps. What nearly all of them are it does itself, in a few
// instructions: rows of a series that has a chunk of floats open in the slot that the last row went to, and whose state no
// pin wants kept.
func (a *appending) floatRows(run []uint32) {
	s, b, lsn, guard := a.shard, a.b, a.work.lsn, a.work.guard
	a.aimAgain()
	for _, i := range run {
		t, v := b.T[i], math.Float64bits(b.V[i])
		_, hd := s.findLocked(b.Ref[i])
		if hd == nil || hd.kind != sample.Float || !plainRow(hd.n) || hd.size > maxBody || hd.flags&hasST != 0 ||
			hd.changed <= guard || hd.lastT < a.aim.start || t <= hd.lastT || t < a.aim.mint || t > a.aim.maxt ||
			uint64(t-hd.lastT) > math.MaxUint32 ||
			!hd.end.Append(hd.lastT, t, hd.last, v) && !s.appendMovingLocked(hd, t, v) {
			a.settle()
			a.row(int(i))
			a.aimAgain()
			continue
		}
		hd.n++
		hd.lastT, hd.last, hd.changed = t, v, lsn
		hd.flags &^= wasIdle | newestGone | newestKept
		a.oldest, a.newest = min(a.oldest, t), max(a.newest, t)
		a.count++
	}
	a.settle()
}

// appendMovingLocked appends to the end of an open stream after the bytes there have moved to its body. It reports false,
// and what readers see is as it was, where memory has run out or the sample is a rare one.
func (s *shard) appendMovingLocked(hd *header, t int64, v uint64) bool {
	if hd.open == 0 {
		return false
	}
	body := s.bytes.Bytes(hd.open)
	if int(hd.size)+chunk.EndBytes > len(body) {
		return false
	}
	hd.size += uint16(hd.end.Shed(body[hd.size:]))
	return hd.end.Append(hd.lastT, t, hd.last, v)
}

// plainRow reports whether sample n of a chunk of floats needs nothing but to be appended: no new chunk, no mark.
func plainRow(n uint16) bool { return n >= 2 && n < maxSamples && n%markEvery != firstMark }

// maxBody is the most bytes of the body of a stream that surely takes another sample.
const maxBody = maxStream - chunk.EndBytes - chunk.MaxFloatBytes

func (a *appending) finish() {
	a.work.rejected.Add(a.rejected)
	a.work.floats.Add(a.floats)
	a.work.hists.Add(a.hists)
	if a.maxT != noSample {
		a.shard.head.noteMaxTime(a.maxT)
	}
	a.shard.counts.touched += a.touched
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
