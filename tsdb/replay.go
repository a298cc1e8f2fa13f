// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

const (
	// replayAhead is how many records may be on their way from the log to the shards, and replayBytes how many bytes of
	// them: decoded, a record takes about five times as much. One record may be larger.
	replayAhead = 64
	replayBytes = 2 << 20
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
	batch   sample.Batch
	work    *head.Work
	result  sample.Result
	refs    []sample.Ref
	labels  []labels.Labels
	deleted wal.Delete
}

// replay applies the log after from.
func (db *DB) replay(ctx context.Context, from sample.LSN) error {
	n := runtime.GOMAXPROCS(0)
	p := &replayer{
		db: db, ctx: ctx, next: from + 1,
		free: make(chan *replayed, replayAhead), decode: make(chan *replayed, replayAhead), order: make(chan *replayed, replayAhead),
		failed: make(chan struct{}),
	}
	p.room.changed.L = &p.room.mu
	for range replayAhead {
		p.free <- &replayed{ready: make(chan struct{}, 1)}
	}
	db.head.StartAt(from)
	for range n {
		p.decoded.Add(1)
		go p.runDecode()
	}
	for share := range min(n, db.meta.Shards) {
		p.apply = append(p.apply, make(chan *replayed, replayAhead))
		p.applied.Add(1)
		go p.runApply(share)
	}
	p.applied.Add(1)
	go p.runOrder()
	rec, err := p.read(from)
	close(p.decode)
	close(p.order)
	p.decoded.Wait()
	p.applied.Wait()
	if p.err != nil {
		err = p.err // of a record before the one at which reading ended
	}
	if last := db.journal.Last(); err == nil && last >= p.next {
		db.head.StartAt(last) // the log goes on above what it holds
	}
	db.recovery.Log, db.recovery.Records, db.recovery.Samples = rec, p.records, p.samples
	db.recovery.Unknown = p.unknown
	return err
}

var errReplayEnded = errors.New("a record of the log could not be applied")

// read hands the records over to be decoded.
func (p *replayer) read(from sample.LSN) (journal.Recovery, error) {
	return p.db.journal.Replay(from+1, func(lsn sample.LSN, kind byte, payload []byte) error {
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
	})
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
		x.ready <- struct{}{}
	}
}

func (p *replayer) decodeRecord(x *replayed) error {
	switch x.kind {
	case wal.KindSeries:
		x.refs, x.labels = x.refs[:0], x.labels[:0]
		return wal.DecodeSeries(x.payload, func(ref sample.Ref, l labels.Labels) error {
			x.refs, x.labels = append(x.refs, ref), append(x.labels, l)
			return nil
		})
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
	case wal.KindFree:
		var err error
		x.refs, err = wal.DecodeFree(x.payload)
		return err
	case wal.KindDelete:
		var err error
		x.deleted, err = wal.DecodeDelete(x.payload)
		return err
	}
	return nil // enter says what there is to say
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
	switch x.kind {
	case wal.KindSeries:
		for i, ref := range x.refs {
			if err := h.Restore(ref, x.labels[i]); err != nil {
				return err
			}
		}
		h.Skip(x.lsn)
	case wal.KindBatch:
		p.samples += x.batch.Len()
		h.Enqueue(x.work, x.lsn)
	case wal.KindFree:
		h.Free(x.refs, x.lsn)
	case wal.KindDelete:
		p.db.redo = append(p.db.redo, redoDelete{x.lsn, x.deleted})
		h.Delete(x.deleted.Refs, x.deleted.MinT, x.deleted.MaxT, x.lsn)
	default:
		return fmt.Errorf("kind %d, which this version does not know: start the newer version again", x.kind)
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
		stale := 0
		for _, reason := range x.result.Reason {
			if reason == sample.StaleRef {
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
