// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	promscrape "github.com/prometheus/prometheus/scrape"
)

// Loop scrapes one target, time and again.
type Loop struct {
	pool     *Pool
	end      *endpoint
	url      string // of the target, for messages
	set      settings
	fetcher  fetcher
	cache    *cache
	interval time.Duration
	timeout  time.Duration
	logger   *slog.Logger

	cancel        context.CancelFunc
	stopping      <-chan struct{}
	stopped       chan struct{} // closed when there is no scrape any more; markers may follow
	leaveUnmarked atomic.Bool   // another loop goes on with the cache

	mu struct {
		sync.Mutex
		forced  error // in place of any scrape
		failure *slog.Logger
	}
}

// tolerance is by how much a scrape may be late and still have the time at which it was due: samples a whole interval
// apart take less room. At most it is a hundredth of the interval.
const tolerance = 2 * time.Millisecond

// run scrapes until the loop is stopped.
func (l *Loop) run() {
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	last := l.scrapes(ticker)
	close(l.stopped)
	if l.pool.ctx.Err() == nil && !l.leaveUnmarked.Load() {
		l.markAll(last, ticker)
	}
}

// scrapes returns when the last scrape began, zero if there was none.
func (l *Loop) scrapes(ticker *time.Ticker) (last time.Time) {
	if !l.wait(l.end.offset(l.interval, l.pool.seed, time.Now())) {
		return last
	}
	ticker.Reset(l.interval)
	due := time.Now().Round(0)
	for {
		select {
		case <-l.stopping:
			return last
		default:
		}
		at := time.Now().Round(0) // the wall clock alone, as sums of due are
		for at.Sub(due) >= l.interval {
			due = due.Add(l.interval)
		}
		if promscrape.AlignScrapeTimestamps && at.Sub(due) <= min(l.interval/100, tolerance) {
			at = due
		}
		last = l.scrape(last, at)
		select {
		case <-l.stopping:
			return last
		case <-ticker.C:
		}
	}
}

// wait reports whether the loop goes on after so long.
func (l *Loop) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.stopping:
		return false
	}
}

// markAll marks every series stale, at the time at which the next scrape would have been. It waits for two more turns, and
// a little: if the target has come back meanwhile, its samples are there, and the markers are too late and refused. When the
// process ends there are no markers: it goes on where it was.
func (l *Loop) markAll(last time.Time, ticker *time.Ticker) {
	if last.IsZero() {
		return
	}
	ended := l.pool.ctx.Done()
	var at time.Time
	select {
	case <-ended:
		return
	case <-ticker.C:
		at = time.Now()
	}
	select {
	case <-ended:
		return
	case <-ticker.C:
	}
	timer := time.NewTimer(l.interval / 10)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	if !l.leaveUnmarked.Load() {
		l.markGone(at)
	}
}

// stop ends scraping and returns when it has ended.
func (l *Loop) stop() {
	l.cancel()
	<-l.stopped
}

// force sets an error in place of scrapes, nil for none.
func (l *Loop) force(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.forced = err
}

func (l *Loop) forced() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.forced
}

// logFailures sets where failed scrapes are logged, nil for nowhere.
func (l *Loop) logFailures(to slog.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failure = nil; to != nil {
		l.mu.failure = slog.New(to).With("target", l.url)
	}
}

func (l *Loop) logFailure(err error) {
	l.logger.Debug("scrape failed", "err", err)
	l.mu.Lock()
	failure := l.mu.failure
	l.mu.Unlock()
	if failure != nil {
		failure.Error(err.Error()) //nolint:sloglint // the file has the error as the message, as Prometheus writes it
	}
}
