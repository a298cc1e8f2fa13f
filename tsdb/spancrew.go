// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// spanAhead is how many batches may wait for the goroutines of a spanCrew.
const spanAhead = 16

// spanCrew finds out of which times the batches of the log have rows, on all cores: they are unpacked for it.
type spanCrew struct {
	batches chan spanBatch
	free    chan []byte
	running sync.WaitGroup

	mu             sync.Mutex
	oldest, newest int64      // guarded by mu
	err            error      // guarded by mu; of the first record that cannot be read
	at             sample.LSN // guarded by mu; of that record
}

type spanBatch struct {
	lsn     sample.LSN
	payload []byte
}

func newSpanCrew() *spanCrew {
	c := &spanCrew{batches: make(chan spanBatch, spanAhead), free: make(chan []byte, spanAhead), oldest: maxTime, newest: minTime}
	for range runtime.GOMAXPROCS(0) {
		c.running.Go(c.run)
	}
	return c
}

// put hands a batch over, whose payload is copied.
func (c *spanCrew) put(lsn sample.LSN, payload []byte) {
	var buf []byte
	select {
	case buf = <-c.free:
	default:
	}
	c.batches <- spanBatch{lsn, append(buf[:0], payload...)}
}

// end waits until all batches are looked at, and returns what is wrong with the first of them that is.
func (c *spanCrew) end() error {
	close(c.batches)
	c.running.Wait()
	return c.err
}

// span returns the times of the oldest and the newest row, after end: maxTime and minTime where they are not known.
func (c *spanCrew) span() (oldest, newest int64) { return c.oldest, c.newest }

func (c *spanCrew) run() {
	var d wal.Decoder
	for b := range c.batches {
		oldest, newest, err := batchSpan(&d, b.payload)
		c.mu.Lock()
		if err != nil && (c.err == nil || b.lsn < c.at) {
			c.err, c.at = fmt.Errorf("log record %d: %w", b.lsn, err), b.lsn
		}
		c.oldest, c.newest = min(c.oldest, oldest), max(c.newest, newest)
		c.mu.Unlock()
		select {
		case c.free <- b.payload:
		default:
		}
	}
}

// batchSpan returns of which times the rows of a batch may be that its limits let in.
func batchSpan(d *wal.Decoder, payload []byte) (oldest, newest int64, err error) {
	lim, rest, err := wal.DecodeLimits(payload)
	if err != nil {
		return maxTime, minTime, err
	}
	oldest, newest, ok, err := d.Span(rest)
	if err != nil || !ok || newest < lim.MinT || oldest > lim.MaxT {
		return maxTime, minTime, err
	}
	oldest = max(oldest, lim.MinT)
	if newest > lim.MaxT {
		newest = minTime // some are not let in: which the newest is that is, is not known
	}
	return oldest, newest, nil
}
