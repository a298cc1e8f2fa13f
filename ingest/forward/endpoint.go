// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// endpoint sends the rows of the queue to one receiver.
type endpoint struct {
	key      string
	config   *promconfig.RemoteWriteConfig
	external labels.Labels
	queue    *queue
	client   remote.WriteClient
	metrics  *endpointMetrics
	log      *slog.Logger
	now      func() time.Time
	families families
	sharding *sharding
	room     *room
	raw      sync.Pool // buffers of messages, *[]byte
	caught   struct {  // of the goroutine that maintains the queue
		at   sample.LSN // the end of the queue when the endpoint had all of it last
		when time.Time
	}

	names seriesNames // of the goroutine that makes rounds
	dec   decoder     // the same

	mu     sync.Mutex
	first  sample.LSN              // guarded by mu: what is before it has been cut off
	reopen context.CancelCauseFunc // guarded by mu: ends the reader

	cancel context.CancelFunc // ends run
	done   chan struct{}      // run has ended
}

// same reports whether both send the same to the same receiver.
func (e *endpoint) same(other *endpoint) bool {
	return reflect.DeepEqual(e.config, other.config) && labels.Equal(e.external, other.external)
}

// outRow is a row on its way, or an exemplar.
type outRow struct {
	series   *outSeries
	batch    *sample.Batch // nil: an exemplar
	row      int           // of the batch
	exemplar *sample.Exemplar
}

func (x *outRow) item() item {
	if x.exemplar != nil {
		return exemplars
	}
	return itemOf(x.batch.KindAt(x.row))
}

func (x *outRow) time() int64 {
	if x.exemplar != nil {
		return x.exemplar.T
	}
	return x.batch.T[x.row]
}

// round is what is sent side by side.
type round struct {
	rows   []outRow
	bytes  int      // of their records
	end    position // of the endpoint when all of it is sent
	newest int64    // time of its newest row
	most   int      // bytes for which there is memory
	own    int      // of them, those that are the endpoint's own
}

// run sends until ctx is done.
func (e *endpoint) run(ctx context.Context, from position) {
	defer close(e.done)
	rounds := make(chan round)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(rounds)
		e.read(ctx, from, rounds)
	})
	if e.config.MetadataConfig.Send && !e.inline() {
		wg.Go(func() { e.sendFamilies(ctx) })
	}
	s, end := e.newSender(ctx)
	defer end()
	for r := range rounds {
		sent := s.send(r.rows)
		e.room.release(&r)
		if !sent {
			break
		}
		e.queue.advance(e.key, r.end)
	}
	wg.Wait()
	e.room.names.Release(e.names.charged())
}

// inline reports whether messages have the metadata of their series.
func (e *endpoint) inline() bool { return e.config.ProtobufMessage != messageV1 }

// errCut ends a reader whose place has been cut off.
var errCut = errors.New("the queue was cut")

// cutTo lets the endpoint go on at the epoch first, if it is not there yet.
func (e *endpoint) cutTo(first sample.LSN) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if first <= e.first {
		return
	}
	e.first = first
	if e.reopen != nil && e.names.epoch < first {
		e.reopen(errCut)
	}
}

// read makes rounds of what is in the queue until ctx is done.
func (e *endpoint) read(ctx context.Context, at position, rounds chan<- round) {
	for ctx.Err() == nil {
		reading, stop := context.WithCancelCause(ctx)
		e.mu.Lock()
		if at.Epoch < e.first {
			at = position{Epoch: e.first, Sent: max(at.Sent, e.first-1)}
		}
		e.reopen, e.names.epoch = stop, at.Epoch
		e.mu.Unlock()
		at = e.readFrom(reading, at, rounds)
		if cause := context.Cause(reading); cause == nil {
			// The queue cannot be read: it has said why, and takes nothing either.
			e.pause(ctx, readRest)
		}
		stop(nil)
	}
}

// readRest is how long nothing is read after a failure.
const readRest = 5 * time.Second

// pause waits, or until ctx is done.
func (e *endpoint) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// readFrom makes rounds of what is behind a position, and returns how far it came.
func (e *endpoint) readFrom(ctx context.Context, at position, rounds chan<- round) position {
	r := e.queue.journal.NewReader("remote write to "+e.key, at.Epoch)
	defer func() { _ = r.Close() }() // it was only read
	e.room.names.Release(e.names.restart())
	e.families.restart()
	for {
		next := round{end: at}
		if !e.roundRoom(ctx, &next) {
			return at
		}
		if err := e.fill(ctx, r, &next); err != nil {
			e.room.release(&next)
			if ctx.Err() == nil {
				e.log.Error("the queue of remote write cannot be read", "err", err, "again_in", readRest)
			}
			return at
		}
		e.room.settle(&next)
		e.metrics.read(next.newest)
		select {
		case rounds <- next:
			at = next.end
		case <-ctx.Done():
			e.room.release(&next)
			return at
		}
	}
}

// roundRoom waits for the memory of a round.
func (e *endpoint) roundRoom(ctx context.Context, next *round) bool {
	told := false
	ok := e.room.begin(ctx, next, func(waited time.Duration) {
		e.metrics.waits.Inc()
		if waited >= roomLong && !told {
			told = true
			e.metrics.starved.Set(1)
			e.log.Warn("remote write has no memory to read ahead: one round at a time is sent, as small as it may be",
				"waited", waited.Round(time.Second), "next_step", "look at the receivers: those that are away hold memory; or raise memory.limit")
		}
	})
	if told {
		e.metrics.starved.Set(0)
	}
	return ok
}

// fill waits for records, and then a little for more: until as many requests are full as are made side by side, or
// batch_send_deadline is over. What is there already is taken until the capacity of all shards is used, or the memory of
// the round. A round may be without rows: then none of what was read is to be sent, and the position moves all the same.
func (e *endpoint) fill(ctx context.Context, r *journal.Reader, next *round) error {
	size := e.perSend()
	shards := e.sharding.shards()
	least, most := shards*size, shards*max(size, e.config.QueueConfig.Capacity)
	begun := next.end
	more, stop := context.WithCancel(ctx)
	defer stop()
	var deadline *time.Timer
	for len(next.rows) < most && (next.bytes < next.most || e.room.grow(next)) {
		if next.end != begun && deadline == nil {
			deadline = time.AfterFunc(time.Duration(e.config.QueueConfig.BatchSendDeadline), stop)
			defer deadline.Stop()
		}
		if len(next.rows) >= least {
			stop() // what has to be waited for is for the next round
		}
		switch err := e.take(more, r, next); {
		case err == nil:
		case ctx.Err() == nil && more.Err() != nil:
			return nil
		default:
			return err
		}
	}
	return nil
}

// take adds the rows of the next record that are not sent yet.
func (e *endpoint) take(ctx context.Context, r *journal.Reader, next *round) error {
	entry, err := r.Next(ctx)
	if err != nil {
		return err
	}
	if entry.Kind == kindEpoch {
		e.mu.Lock()
		gone := e.names.begin(entry.LSN)
		e.mu.Unlock()
		e.room.names.Release(gone)
		e.families.begin()
		next.end = position{Epoch: entry.LSN, Sent: max(next.end.Sent, entry.LSN)}
	}
	if entry.Kind != kindRows {
		return nil
	}
	rec := &record{}
	if err := e.dec.decode(entry.Payload, rec); err != nil {
		e.metrics.drop("damaged_record", counts{floats: 1})
		e.log.Error("a record of the queue of remote write is damaged and is left out", "lsn", entry.LSN, "err", err)
		return nil
	}
	for i := range rec.names {
		e.name(&rec.names[i])
	}
	e.describe(rec.rows.Meta)
	if entry.LSN <= next.end.Sent {
		return nil
	}
	next.end.Sent = entry.LSN
	next.bytes += len(entry.Payload)
	e.add(next, &rec.rows)
	return nil
}

// add adds the rows of a batch that are to be sent.
func (e *endpoint) add(next *round, b *sample.Batch) {
	var unknown, unwanted counts
	for i, ref := range b.Ref {
		kind := itemOf(b.KindAt(i))
		s := e.names.of(ref)
		switch {
		case s == nil:
			unknown[kind]++
		case s.labels.IsEmpty():
			unwanted[kind]++
		case kind == histograms && !e.config.SendNativeHistograms:
		default:
			next.rows = append(next.rows, outRow{series: s, batch: b, row: i})
			next.newest = max(next.newest, b.T[i])
		}
	}
	for i := range b.Exemplars {
		if !e.config.SendExemplars {
			break
		}
		switch s := e.names.of(b.Exemplars[i].Ref); {
		case s == nil:
			unknown[exemplars]++
		case s.labels.IsEmpty():
			unwanted[exemplars]++
		default:
			next.rows = append(next.rows, outRow{series: s, exemplar: &b.Exemplars[i]})
		}
	}
	e.metrics.drop("unintentionally_dropped_series", unknown)
	e.metrics.drop("dropped_series", unwanted)
	e.sharding.dropped.events.Add(int64(unknown.sum() + unwanted.sum()))
}
