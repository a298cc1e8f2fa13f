// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// NoLate as MinPush or MinScrape says that no late row is taken: it is OutOfOrder, whatever its age.
const NoLate = 1<<63 - 1

// Limits bound the times of a batch's rows, in ms. The store works them out when the batch is committed and
// logs them with it, so that a replay judges as the first run did.
type Limits struct {
	MinT, MaxT int64 // rows outside are TooOld and TooNew
	// A row older than the newest of its series must be at or after MinScrape if it was scraped, else
	// MinPush; or it is TooOld. NoLate: it is OutOfOrder.
	MinPush, MinScrape int64
}

// Work is one log record on its way through the shards. It belongs to its maker until Enqueue; Apply or Discard
// ends it.
type Work struct {
	head   *Head
	lsn    sample.LSN
	guard  sample.LSN // epoch of the newest pin that must not see the work, 0 if there was none
	limits Limits
	batch  *sample.Batch
	change *change // instead of a batch

	// The rows, exemplars and descriptions of the batch, or the series of the change, by shard.
	rows, exemplars, metas parts
	refs                   []sample.Ref // scratch

	looks    []look          // into parts, by row
	reason   []sample.Reason // by row
	rejected atomic.Int32    // rows that are not Accepted
	floats   atomic.Int32
	hists    atomic.Int32
	newEx    atomic.Int32
	now      time.Time
	shares   atomic.Int32 // that are applied, in a replay
}

// change is what a work does to whole series.
type change struct {
	refs       []sample.Ref
	free       bool  // they leave the head
	mint, maxt int64 // else: their samples in this range go
}

// parts is a list of numbers 0..n-1 by shard: those of shard s are list[from[s]:from[s+1]], ascending.
type parts struct {
	list []uint32
	from []uint32
}

// split sorts the numbers of refs by the shards of their series.
func (p *parts) split(refs []sample.Ref, shards int) {
	p.from = resize(p.from, shards+1)
	clear(p.from)
	p.list = resize(p.list, len(refs))
	if len(refs) == 0 {
		return
	}
	mask := uint32(shards - 1)
	for _, ref := range refs {
		p.from[ref.ID()&mask]++
	}
	sum := uint32(0)
	for s, c := range p.from {
		p.from[s] = sum
		sum += c
	}
	for i, ref := range refs {
		s := ref.ID() & mask
		p.list[p.from[s]] = uint32(i)
		p.from[s]++
	}
	copy(p.from[1:], p.from[:shards])
	p.from[0] = 0
}

func (p *parts) of(shard uint32) []uint32 { return p.list[p.from[shard]:p.from[shard+1]] }

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// Prepare makes the work of a batch. The batch must not change until Apply has returned.
func (h *Head) Prepare(b *sample.Batch, lim Limits) *Work {
	w := h.prepare(b, lim)
	h.lookAhead(w)
	return w
}

func (h *Head) prepare(b *sample.Batch, lim Limits) *Work {
	w, _ := h.works.Get().(*Work)
	w.limits, w.batch, w.now = h.bound(lim), b, time.Now()
	n := len(h.shards)
	w.rows.split(b.Ref, n)
	w.refs = w.refs[:0]
	for i := range b.Exemplars {
		w.refs = append(w.refs, b.Exemplars[i].Ref)
	}
	w.exemplars.split(w.refs, n)
	w.refs = w.refs[:0]
	for i := range b.Meta {
		w.refs = append(w.refs, b.Meta[i].Ref)
	}
	w.metas.split(w.refs, n)
	w.reason = resize(w.reason, b.Len())
	clear(w.reason)
	return w
}

func (h *Head) prepareChange(c *change) *Work {
	w, _ := h.works.Get().(*Work)
	w.change = c
	n := len(h.shards)
	w.rows.split(c.refs, n)
	w.exemplars.split(nil, n)
	w.metas.split(nil, n)
	return w
}

// concerns reports whether the work has anything to do in a shard.
func (w *Work) concerns(s uint32) bool {
	return len(w.rows.of(s))+len(w.exemplars.of(s))+len(w.metas.of(s)) > 0
}

// Discard ends a work that was not enqueued.
func (w *Work) Discard() {
	w.lsn, w.guard, w.batch, w.change = 0, 0, nil, nil
	clear(w.looks)
	w.looks = w.looks[:0]
	w.rejected.Store(0)
	w.floats.Store(0)
	w.hists.Store(0)
	w.newEx.Store(0)
	w.head.works.Put(w)
}

// Enqueue gives the work its place in the order: that of lsn, which must follow the LSN before it without a gap.
// The caller holds the sequencer lock, and must call Apply afterwards.
func (h *Head) Enqueue(w *Work, lsn sample.LSN) {
	w.lsn, w.guard = lsn, sample.LSN(h.pins.newest.Load())
	if lsn <= h.loadedTo {
		h.leaveLoaded(w)
	}
	for i, s := range h.shards {
		if w.concerns(uint32(i)) {
			s.queue.push(w)
		}
	}
	h.order.enqueued.Store(uint64(lsn))
}

// Skip is Enqueue and Apply for a record that changes nothing in the head. The caller holds the sequencer lock.
func (h *Head) Skip(lsn sample.LSN) {
	h.order.enqueued.Store(uint64(lsn))
	h.order.finish(lsn)
}

// Apply applies the work, and those queued before it where nobody else does, fills res, and returns when every
// work up to it is applied: from then on new pins see it. res may be nil.
func (h *Head) Apply(w *Work, res *sample.Result) {
	// Works that come together start at different shards, so that they do not queue for the same lock.
	start := int(w.lsn) * 5
	for i := range h.shards {
		s := h.shards[(start+i)&(len(h.shards)-1)]
		if w.concerns(s.number) {
			s.applyUntil(w)
		}
	}
	lsn := w.lsn
	w.fill(res)
	w.Discard()
	h.order.finish(lsn)
	_ = h.order.await(context.Background(), lsn) // the background is never done
}

func (w *Work) fill(r *sample.Result) {
	if r == nil {
		return
	}
	r.Floats, r.Histograms, r.Exemplars = int(w.floats.Load()), int(w.hists.Load()), int(w.newEx.Load())
	if w.rejected.Load() == 0 || w.batch == nil {
		r.Reason = nil
		return
	}
	r.Reason = append(r.Reason[:0], w.reason...)
}

// Free lets series leave the head, all of whose samples are in blocks: see Idle. Rows that are committed with
// their refs from now on are StaleRef. The caller holds the sequencer lock and has logged the refs as lsn.
func (h *Head) Free(refs []sample.Ref, lsn sample.LSN) {
	h.applyChange(&change{refs: refs, free: true}, lsn)
}

// Delete takes the samples of series in [mint, maxt] away. The caller holds the sequencer lock and has logged
// the call as lsn.
func (h *Head) Delete(refs []sample.Ref, mint, maxt int64, lsn sample.LSN) {
	h.applyChange(&change{refs: refs, mint: mint, maxt: maxt}, lsn)
}

func (h *Head) applyChange(c *change, lsn sample.LSN) {
	w := h.prepareChange(c)
	h.Enqueue(w, lsn)
	h.Apply(w, nil)
}

// queue is the works that wait for one shard, in LSN order.
type queue struct {
	mu    sync.Mutex
	works []*Work // guarded by mu
	front int     // guarded by mu; works before it are taken
}

func (q *queue) push(w *Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.front > len(q.works)/2 { // at least half is taken: moving the rest costs no more than taking it did
		n := copy(q.works, q.works[q.front:])
		clear(q.works[n:])
		q.works, q.front = q.works[:n], 0
	}
	q.works = append(q.works, w)
}

// pop takes the oldest work, unless it is above lsn or there is none.
func (q *queue) pop(lsn sample.LSN) *Work {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.front == len(q.works) || q.works[q.front].lsn > lsn {
		return nil
	}
	w := q.works[q.front]
	q.works[q.front] = nil
	q.front++
	return w
}
