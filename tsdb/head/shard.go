// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"errors"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// header is what the head has of a series beside its samples and its labels. It lives in the shard's table, off the heap.
// It is one cache line, the only one of a series that nearly every append touches.
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
	room  uint16         // and behind them
	n     uint16         // samples of the open chunk; 0: there is none
	kind  sample.Kind
	flags headerFlags
}

// footer is the rest: what concerns the chunks of a series and not their samples. 48 bytes, in a table of their own, so
// that headers lie side by side.
type footer struct {
	mint    int64     // time of the first sample of the open chunk
	version uint64    // number + 1 of the newest saved version, see versions
	closed  arena.Ref // newest of the closed chunks; 0: there is none
	chunks  uint32    // chunks that were closed so far: the number of the open one
	// mark is a place in the open chunk of floats, so that its newest samples can be read without those before.
	mark chunk.Mark
}

// The first mark is behind firstMark samples, the next ones markEvery further on each. The windows of most rules have
// twenty samples: two of three times they do not reach back to before the last mark, and a chunk that is spilled has
// fifty samples or so in all.
const (
	firstMark = 30
	markEvery = 60
)

// markBefore returns the mark of the open chunk, of which a reader sees n samples, if it is before all samples from mint
// on.
func (ft *footer) markBefore(n int, mint int64) (m chunk.Mark, ok bool) {
	m = ft.mark
	return m, m.Len() > 0 && m.Len() < n && m.LastT(ft.mint) < mint
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
	isWaiting                          // a row waits to be appended: only while the rows of a batch are applied
)

// kind of lastT's sample and kind of the open chunk are the same while there is an open chunk: another kind
// closes it.

const (
	// keepIdle is how much idle memory a shard keeps for streams. A spill gives nearly all that a shard holds back, which
	// would be as much again as all of them hold at a time.
	keepIdle = 64 << 10
	// burstIdle is how much it keeps for a second or so. Bodies of series that are scraped together grow together: blocks
	// of one size are given back by the thousand, and blocks of the next are wanted.
	burstIdle = 1 << 20
)

// shard is the part of the head with the series whose id has the same remainder.
type shard struct {
	head   *Head
	number uint32
	queue  queue

	mu       sync.RWMutex           // guards all below
	headers  table[header]          // by local id
	footers  table[footer]          // as many, or more where memory ran out
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
	unswept  bool       // chunks or late rows are dead
	applied  sample.LSN // of the last work
	// deadBytes is the streams of dead chunks.
	deadBytes int64
	parts     []*attached // by slot, then LSN
	// recovering is what parts hold, while the log is replayed; nil afterwards.
	recovering *recoveredParts
	// loaded is up to which LSN a checkpoint has what became of a series, by local id, while the log is replayed. It is
	// written before the first Enqueue; nil where that is the epoch.
	loaded  []sample.LSN
	scratch column.Block
	joined  []byte // scratch: a stream in one piece
}

func newShard(h *Head, number uint32) *shard {
	bytes := arena.New(arena.Options{Account: h.opts.Account, KeepIdle: keepIdle, Burst: burstIdle})
	return &shard{
		head: h, number: number, versions: versions{arena: bytes}, headers: newTable[header](h.opts.Account), footers: newTable[footer](h.opts.Account), bytes: bytes,
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
	s.forgetLoadedLocked()
	for _, ds := range s.families {
		for i := range ds {
			s.head.opts.Account.Release(ds[i].bytes())
		}
	}
	return errors.Join(s.closePartsLocked(), s.headers.records.Close(), s.footers.records.Close(), s.bytes.Close())
}

// takeLocked makes the records of a series. The error is a *budget.ExceededError.
func (s *shard) takeLocked(local uint32) error {
	for s.footers.len() <= local {
		if _, err := s.footers.take(); err != nil {
			return err
		}
	}
	for s.headers.len() <= local {
		if _, err := s.headers.take(); err != nil {
			return err
		}
	}
	return nil
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
	s.applied = w.lsn
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
