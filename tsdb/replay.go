// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

const (
	// replayAhead is how many records may be on their way from the log to the shards, and replayBytes how many bytes of
	// them: decoded, a record takes about five times as much. One record may be larger.
	replayAhead = 16
	replayBytes = 512 << 10
)

// replayer brings the records of the log to the head:
//
//	read    the journal hands over one after the other; its bytes are copied
//	decode  some goroutines, each the next record that is not decoded yet
//	order   one goroutine gives them their places in the order of their LSNs
//	apply   some goroutines, each to the shards that are its share
//
// All of it waits where replayAhead or replayBytes is reached.
type replayer struct {
	db      *DB
	ctx     context.Context
	free    chan *replayed
	decode  chan *replayed
	order   chan *replayed   // the same, in the order of the log
	apply   []chan *replayed // one for each share of the shards
	room    replayRoom
	failed  chan struct{} // closed when err is set
	err     error         // written by order
	decoded sync.WaitGroup
	applied sync.WaitGroup

	next             sample.LSN // that the next record should have
	records, samples int        // counted by order

	mu      sync.Mutex
	unknown int // guarded by mu
}

// replayed is a record on its way. Its memory is used again for another.
type replayed struct {
	lsn     sample.LSN
	kind    byte
	payload []byte
	ready   chan struct{} // has an entry when it is decoded
	err     error         // of decoding

	decoder wal.Decoder
	charged int64 // for payload, decoder and batch
	batch   sample.Batch
	work    *head.Work
	result  sample.Result
	deleted wal.Delete
}

// replay applies the records that source hands over, which begin at LSN next or later. The memory of a payload is the
// source's again when put returns. It returns what it has done when all is applied.
func (db *DB) replay(ctx context.Context, next sample.LSN, source func(put func(lsn sample.LSN, kind byte, payload []byte) error) error) (*replayer, error) {
	n := runtime.GOMAXPROCS(0)
	p := &replayer{
		db: db, ctx: ctx, next: next,
		free: make(chan *replayed, replayAhead), decode: make(chan *replayed, replayAhead), order: make(chan *replayed, replayAhead),
		failed: make(chan struct{}),
	}
	p.room.changed.L = &p.room.mu
	for range replayAhead {
		p.free <- &replayed{ready: make(chan struct{}, 1)}
	}
	for range n {
		p.decoded.Add(1)
		go p.runDecode()
	}
	p.apply = make([]chan *replayed, min(n, db.meta.Shards))
	for share := range p.apply {
		p.apply[share] = make(chan *replayed, replayAhead)
	}
	for share := range p.apply {
		p.applied.Add(1)
		go p.runApply(share)
	}
	p.applied.Add(1)
	go p.runOrder()
	err := source(p.put)
	close(p.decode)
	close(p.order)
	p.decoded.Wait()
	p.applied.Wait()
	for range replayAhead {
		db.memory.Release((<-p.free).charged)
	}
	if p.err != nil {
		err = p.err // of a record before the one at which reading ended
	}
	return p, err
}

var errReplayEnded = errors.New("a record of the log could not be applied")

// put hands a record over to be decoded.
func (p *replayer) put(lsn sample.LSN, kind byte, payload []byte) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	p.room.take(len(payload))
	var x *replayed
	select {
	case x = <-p.free:
	case <-p.failed:
		return errReplayEnded
	}
	x.lsn, x.kind, x.payload = lsn, kind, append(x.payload[:0], payload...)
	p.decode <- x // never waits: there is room for all there are
	p.order <- x
	return nil
}

// release gives a record back, which nobody uses any more.
func (p *replayer) release(x *replayed) {
	p.room.give(len(x.payload))
	p.free <- x
}

func (p *replayer) runDecode() {
	defer p.decoded.Done()
	for x := range p.decode {
		x.err = p.decodeRecord(x)
		p.charge(x)
		x.ready <- struct{}{}
	}
}

// charge charges the head for the memory of a record, as far as it was not before; nothing is refused meanwhile.
func (p *replayer) charge(x *replayed) {
	const row = 8 + 8 + 8 // Ref, T and V; the other columns are rare
	size := int64(cap(x.payload)+x.decoder.Size()) + int64(row*cap(x.batch.Ref))
	if size <= x.charged || p.db.memory.Reserve(size-x.charged) != nil {
		return
	}
	x.charged = size
}

func (p *replayer) decodeRecord(x *replayed) error {
	switch x.kind {
	case wal.KindBatch:
		lim, rest, err := wal.DecodeLimits(x.payload)
		if err != nil {
			return err
		}
		if err := x.decoder.Batch(rest, &x.batch); err != nil {
			return err
		}
		x.work = p.db.head.PrepareReplay(&x.batch, head.Limits(lim))
		return nil
	case wal.KindDelete:
		var err error
		x.deleted, err = wal.DecodeDelete(x.payload)
		return err
	}
	return nil // of series: they have come and left before
}

// runOrder enters the records into the order of the head. After an error it only passes them on.
func (p *replayer) runOrder() {
	defer p.applied.Done()
	for x := range p.order {
		<-x.ready
		if p.err == nil {
			if err := p.enter(x); err != nil {
				p.err = fmt.Errorf("log record %d: %w", x.lsn, err)
				close(p.failed)
			}
		}
		if p.err == nil && x.kind == wal.KindBatch {
			for _, c := range p.apply {
				c <- x
			}
			continue
		}
		p.release(x)
	}
	for _, c := range p.apply {
		close(c)
	}
}

// enter gives a record its place. All but a batch is applied when it returns.
func (p *replayer) enter(x *replayed) error {
	h := p.db.head
	if step := p.db.opts.restoreStep; step != nil {
		step(x.lsn)
	}
	p.records++
	if x.lsn != p.next {
		// A gap: what was there is damaged, and counted as lost. The head's order goes on behind it.
		if err := h.WaitApplied(context.Background(), p.next-1); err != nil {
			return err
		}
		h.StartAt(x.lsn - 1)
	}
	if x.err != nil {
		return x.err
	}
	p.next = x.lsn + 1
	p.db.restoring.at.Store(uint64(x.lsn))
	switch x.kind {
	case wal.KindBatch:
		p.samples += x.batch.Len()
		h.Enqueue(x.work, x.lsn)
	case wal.KindDelete:
		p.db.redo = append(p.db.redo, redoDelete{x.lsn, x.deleted})
		h.Delete(x.deleted.Refs, x.deleted.MinT, x.deleted.MaxT, x.lsn)
	default:
		h.Skip(x.lsn)
	}
	return nil
}

// runApply applies batches to a share of the shards.
func (p *replayer) runApply(share int) {
	defer p.applied.Done()
	for x := range p.apply[share] {
		if !p.db.head.ApplyShare(x.work, share, len(p.apply), &x.result) {
			continue // another share is not done yet
		}
		p.db.tellAgain(x.lsn, &x.batch, &x.result)
		stale := 0
		for i, reason := range x.result.Reason {
			if reason == sample.StaleRef && !p.db.head.Ended(x.batch.Ref[i]) {
				stale++
			}
		}
		if stale > 0 {
			p.mu.Lock()
			p.unknown += stale
			p.mu.Unlock()
		}
		x.batch.Reset()
		p.release(x)
	}
}

// replayRoom bounds the bytes of the records on their way.
type replayRoom struct {
	mu      sync.Mutex
	changed sync.Cond // used falls
	used    int       // guarded by mu
}

// take waits until there is room for n bytes, or nothing is on its way.
func (r *replayRoom) take(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.used > 0 && r.used+n > replayBytes {
		r.changed.Wait()
	}
	r.used += n
}

func (r *replayRoom) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	r.changed.Signal()
}
