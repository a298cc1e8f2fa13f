// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math"
	"sync/atomic"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
)

const (
	// shardsEvery is how often the number of requests that are made side by side is looked at. It, the weight of the newest
	// rate in the averages, the part by which a number must change to be changed, and the share of a backlog that is to be
	// sent in a second are Prometheus'.
	shardsEvery     = 10 * time.Second
	rateWeight      = 0.2
	shardsTolerance = 0.3
	catchUp         = 0.05
	// farBehind is the delay at which the number is not made smaller.
	farBehind = 10 * time.Second
	// stuckAfter is how long an endpoint may have records in front of it that were there before until it counts as behind.
	stuckAfter = 30 * time.Second
)

// rate is a moving average of events per second.
type rate struct {
	events atomic.Int64
	value  float64 // of the goroutine that ticks
	begun  bool
}

// tick takes in the events since the last call, which was shardsEvery ago.
func (r *rate) tick() {
	n := r.events.Swap(0)
	now := float64(n) / shardsEvery.Seconds()
	switch {
	case r.begun:
		r.value += rateWeight * (now - r.value)
	case n > 0:
		r.value, r.begun = now, true
	}
}

// sharding decides how many requests an endpoint makes side by side.
type sharding struct {
	in, out, dropped, busy rate // items that came, that were sent, that were not to be; nanoseconds of requests
	lastSent               atomic.Int64
	current                atomic.Int64
	least, most            int
}

func newSharding(q *promconfig.QueueConfig) *sharding {
	least := max(1, q.MinShards)
	s := &sharding{least: least, most: max(least, q.MaxShards)}
	s.current.Store(int64(least))
	return s
}

// shards returns how many requests are to be made side by side.
func (s *sharding) shards() int { return int(s.current.Load()) }

// desired is how many requests side by side it would take to send what comes, and to catch up with what waits; not ok
// where nothing was sent yet. delay is how far the newest row that was sent is behind the newest there is, in seconds.
func (s *sharding) desired(delay float64) (float64, bool) {
	for _, r := range []*rate{&s.in, &s.out, &s.dropped, &s.busy} {
		r.tick()
	}
	if s.out.value <= 0 {
		return 0, false
	}
	kept := s.in.value * (s.out.value / (s.dropped.value + s.out.value))
	each := s.busy.value / float64(time.Second) / s.out.value
	return each * (kept + catchUp*delay*kept), true
}

// adapt changes the number of requests, and returns the one that is desired.
func (s *sharding) adapt(now time.Time, delay float64) (desired float64, changed bool) {
	desired, ok := s.desired(delay)
	if !ok {
		return 0, false
	}
	was := s.shards()
	next := math.Ceil(desired)
	within := next >= float64(was)*(1-shardsTolerance) && next <= float64(was)*(1+shardsTolerance)
	silent := now.UnixMilli()-s.lastSent.Load() > shardsEvery.Milliseconds()
	if within || silent || next < float64(was) && delay > farBehind.Seconds() {
		return desired, false
	}
	to := min(max(int(min(next, math.MaxInt32)), s.least), s.most)
	s.current.Store(int64(to))
	return desired, to != was
}

// reshard looks at the number of requests of an endpoint, every shardsEvery.
func (e *endpoint) reshard() {
	delay := max(float64(e.metrics.newest.Load()-e.metrics.newestSent.Load())/1000, 0)
	if e.metrics.newestSent.Load() == 0 {
		delay = 0
	}
	was := e.sharding.shards()
	desired, changed := e.sharding.adapt(e.now(), delay)
	e.metrics.shardsDesired.Set(desired)
	if changed {
		e.metrics.shards.Set(float64(e.sharding.shards()))
		e.log.Info("remote write changes the number of requests side by side", "from", was, "to", e.sharding.shards())
	}
}

// follow notes whether the endpoint keeps up: where it does not, the newest row that it is to send is the newest there is.
func (e *endpoint) follow(now time.Time, newest int64) {
	if e.queue.positionOf(e.key).Sent >= e.caught.at {
		e.caught.at, e.caught.when = e.queue.journal.Last(), now
		return
	}
	if now.Sub(e.caught.when) > stuckAfter {
		e.metrics.read(newest)
	}
}
