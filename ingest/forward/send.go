// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
)

// stopGrace is how long requests that are on their way when an endpoint stops may take.
const stopGrace = 5 * time.Second

// sender sends for an endpoint. When stop is done nothing is begun any more, when ctx is, what is on its way ends.
type sender struct {
	*endpoint
	ctx, stop context.Context
}

// newSender returns a sender that goes on for a moment when ctx is done; it must be ended.
func (e *endpoint) newSender(ctx context.Context) (s *sender, end func()) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		e.pause(hard, stopGrace)
		cancel()
	})
	return &sender{e, hard, ctx}, func() {
		cancel()
		stop()
	}
}

// send sends the rows of a round, and reports whether the receiver has all of them, or does not want them.
func (s *sender) send(rows []outRow) bool {
	size, shards := s.perSend(), s.sharding.shards()
	for i, n := range count(rows) {
		s.metrics.pending[i].Set(float64(n))
	}
	byShard := make([][]outRow, shards)
	for _, x := range rows {
		i := x.series.hash % uint64(shards)
		byShard[i] = append(byShard[i], x)
	}
	var wg sync.WaitGroup
	var left atomic.Bool
	for _, list := range byShard {
		wg.Go(func() {
			for batch := range slices.Chunk(list, size) {
				if !s.sendBatch(batch) {
					left.Store(true)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range s.metrics.pending {
		s.metrics.pending[i].Set(0)
	}
	return !left.Load()
}

// sendBatch sends rows with one request, again until the receiver takes them or says that it never will. It reports false
// where the sender stops before.
func (s *sender) sendBatch(rows []outRow) bool {
	begin := s.now()
	var raw []byte
	for attempt := 0; s.stop.Err() == nil; attempt++ {
		// What gets too old while the receiver is away need not be sent.
		if fresh := s.young(rows); raw == nil || len(fresh) < len(rows) {
			if rows = fresh; len(rows) == 0 {
				return true
			}
			var err error
			if raw, err = s.message(rows); err != nil {
				s.lost(rows, err)
				return true
			}
		}
		asked := s.now()
		stats, err := s.client.Store(s.ctx, raw, attempt)
		s.sharding.busy.events.Add(int64(s.now().Sub(asked)))
		if s.ctx.Err() != nil {
			return false
		}
		if err == nil && s.inline() && !stats.Confirmed {
			err = errNotUnderstood
		}
		if err == nil || !recoverable(err) {
			s.metrics.duration.Observe(s.now().Sub(begin).Seconds())
			s.sharding.out.events.Add(int64(len(rows)))
			s.sharding.lastSent.Store(s.now().UnixMilli())
			if err == nil {
				s.metrics.took(rows, len(raw))
			} else {
				s.lost(rows, err)
			}
			return true
		}
		add(&s.metrics.retried, count(rows))
		s.log.Warn("samples could not be sent; they wait and are sent again", "err", err, "samples", len(rows), "attempt", attempt+1)
		s.pause(s.stop, s.backoff(attempt))
	}
	return false
}

// errNotUnderstood is what a receiver of remote write 1.0 alone makes of 2.0.
var errNotUnderstood = errors.New("the receiver does not say what it has stored: it may know remote write 1.0 only; set protobuf_message to prometheus.WriteRequest")

// lost says that rows are not sent.
func (e *endpoint) lost(rows []outRow, err error) {
	add(&e.metrics.failed, count(rows))
	e.log.Error("the receiver refuses samples; they are left out", "err", err, "samples", len(rows))
}

// perSend is how many rows a request has at most.
func (e *endpoint) perSend() int { return max(1, e.config.QueueConfig.MaxSamplesPerSend) }

// backoff returns how long to wait after so many attempts.
func (e *endpoint) backoff(attempt int) time.Duration {
	q := &e.config.QueueConfig
	d := time.Duration(q.MinBackoff) << min(attempt, 20)
	return min(max(d, time.Duration(q.MinBackoff)), time.Duration(q.MaxBackoff))
}

// young returns the rows that are not too old to be sent.
func (e *endpoint) young(rows []outRow) []outRow {
	limit := time.Duration(e.config.QueueConfig.SampleAgeLimit)
	if limit <= 0 {
		return rows
	}
	oldest := e.now().Add(-limit).UnixMilli()
	var old counts
	for i := range rows {
		if rows[i].time() < oldest {
			old[rows[i].item()]++
		}
	}
	if old.sum() == 0 {
		return rows
	}
	e.metrics.drop("too_old", old)
	e.sharding.dropped.events.Add(int64(old.sum()))
	out := make([]outRow, 0, len(rows)-old.sum())
	for _, x := range rows {
		if x.time() >= oldest {
			out = append(out, x)
		}
	}
	return out
}

func recoverable(err error) bool {
	_, ok := errors.AsType[remote.RecoverableError](err)
	return ok
}

// sendFamilies sends all metadata now and then, as remote write 1.0 wants it.
func (e *endpoint) sendFamilies(ctx context.Context) {
	for ctx.Err() == nil {
		e.pause(ctx, time.Duration(e.config.MetadataConfig.SendInterval))
		for all := e.families.messages(); len(all) > 0 && ctx.Err() == nil; {
			n := min(len(all), max(1, e.config.MetadataConfig.MaxSamplesPerSend))
			e.sendFamilyBatch(ctx, all[:n])
			all = all[n:]
		}
	}
}

// sendFamilyBatch sends metadata. What a receiver does not take comes again with the next turn.
func (e *endpoint) sendFamilyBatch(ctx context.Context, all []prompb.MetricMetadata) {
	raw, err := familyMessage(all)
	for attempt := 0; err == nil && attempt < familyAttempts && ctx.Err() == nil; attempt++ {
		if _, err = e.client.Store(ctx, raw, attempt); err == nil {
			e.metrics.families.Add(float64(len(all)))
			e.metrics.familyBytes.Add(float64(len(raw)))
			return
		}
		if !recoverable(err) {
			break
		}
		e.metrics.familiesRetried.Add(float64(len(all)))
		e.pause(ctx, e.backoff(attempt))
	}
	if ctx.Err() == nil {
		e.metrics.familiesFailed.Add(float64(len(all)))
		e.log.Warn("metadata could not be sent", "err", err, "families", len(all))
	}
}

// familyAttempts is how often metadata is sent before the next turn.
const familyAttempts = 3
