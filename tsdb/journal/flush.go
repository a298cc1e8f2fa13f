// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// flusher is the state of the one goroutine that writes.
type flusher struct {
	rest []*chunk // taken and not yet written

	cur    *segment // nil: none is open
	file   fsx.File // of cur
	stamp  stamp
	off    int64      // where the next frame goes
	synced int64      // what is before this offset is on disk
	fresh  bool       // cur has no header yet, so that nothing of it counts
	last   sample.LSN // the last LSN written

	prev       *segment // the one before cur
	nextNumber uint32
	nextSize   int64
	// repeat is how many bytes of frames, the first to be written after Open, repeat the tail of prev. They
	// must come into one segment: its header replaces that tail.
	repeat int64

	began    time.Time // the last flush
	lastSync time.Time
	dirty    bool // cur holds what is not synced
	result   error
}

// syncError is a failed sync: whatever its cause, what it was to keep may be lost.
type syncError struct{ error }

func (e syncError) Unwrap() error { return e.error }

type action uint8

const (
	rest action = iota
	flush
	finish
)

// run is the flusher's goroutine.
func (j *Journal) run() {
	defer close(j.done)
	timer := time.NewTimer(idleInterval)
	defer timer.Stop()
	for {
		now := time.Now()
		do, wait := j.plan(now)
		switch do {
		case flush:
			j.flush(now, false)
			continue
		case finish:
			j.finish(now)
			return
		case rest:
		}
		if wait == 0 {
			<-j.wake
			continue
		}
		timer.Reset(wait)
		select {
		case <-j.wake:
		case <-timer.C:
		}
	}
}

// plan says what to do now, or how long to wait for; 0: until woken.
func (j *Journal) plan(now time.Time) (action, time.Duration) {
	f := &j.flusher
	j.mu.Lock()
	defer j.mu.Unlock()
	acked := sample.LSN(j.acked.Load())
	var due time.Time
	switch {
	case j.mu.closing:
		return finish, 0
	case j.mu.err != nil:
		return rest, 0
	case j.mu.full != nil:
		if j.mu.retry {
			return flush, 0
		}
		due = f.began.Add(retryInterval)
	case f.dirty && j.mu.disk > j.Synced():
		return flush, 0
	case j.mu.bytes > 0 && (j.mu.urgent > acked || j.mu.bytes >= eagerBytes):
		return flush, 0
	case j.mu.bytes > 0:
		due = j.mu.since.Add(idleInterval)
		if lazy := f.began.Add(j.opts.LazyInterval); j.mu.lazy > acked && lazy.Before(due) {
			due = lazy
		}
	case f.dirty:
		due = f.lastSync.Add(idleInterval)
	case now.Sub(f.began) < idleInterval:
		return rest, idleInterval // Appends that come meanwhile need not wake anybody.
	default:
		j.mu.idle = true
		j.trimLocked()
		return rest, 0
	}
	if wait := due.Sub(now); wait > 0 {
		return rest, wait
	}
	return flush, 0
}

// flush writes what waits, and syncs it unless the mode lets that wait.
func (j *Journal) flush(now time.Time, last bool) {
	f := &j.flusher
	j.mu.Lock()
	f.rest = append(f.rest, j.mu.pending...)
	clear(j.mu.pending)
	j.mu.pending = j.mu.pending[:0]
	j.mu.retry = false
	toDisk := j.mu.disk > j.Synced()
	j.mu.Unlock()
	f.began = now

	err := j.write()
	// What was written before the disk was full counts. After any other failure nothing does.
	if f.cur != nil && f.off > f.synced && (err == nil || recoverable(err)) {
		f.dirty = true
		if j.opts.Sync == Durable || last || f.fresh || toDisk || now.Sub(f.lastSync) >= idleInterval {
			if serr := j.sync(); serr != nil {
				err = serr
			}
		} else {
			j.publish()
		}
	}
	j.conclude(err)
}

// recoverable says whether err is a lack of room, on the disk or in a table of the kernel, that was found before
// anything was at stake.
func recoverable(err error) bool {
	var unsynced syncError
	lack := fsx.IsFull(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	return lack && !errors.As(err, &unsynced)
}

// conclude sets or ends the states of failure.
func (j *Journal) conclude(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.since = time.Now()
	switch {
	case err == nil && j.mu.full != nil:
		j.mu.full = nil
		j.log.Info("the log has room again", "dir", j.opts.Dir)
	case err == nil:
		return
	case recoverable(err):
		if j.mu.full == nil {
			j.log.Error("no space for the log; nothing more is acknowledged until there is", "dir", j.opts.Dir, "err", err)
		}
		j.mu.full = &FullError{err}
	default:
		j.mu.err = &PoisonedError{err}
		j.log.Error("the log takes no more writes until a restart", "dir", j.opts.Dir, "err", err)
	}
	j.broadcastLocked()
}

// write moves the frames of rest into segments.
func (j *Journal) write() error {
	f := &j.flusher
	for len(f.rest) > 0 {
		c := f.rest[0]
		fit := f.fit(c)
		if fit.bytes == 0 {
			if err := j.advance(c); err != nil {
				return err
			}
			continue
		}
		if _, err := f.file.WriteAt(c.buf[c.written:c.written+fit.bytes], f.off); err != nil {
			return fmt.Errorf("write the log: %w", err)
		}
		n := int64(fit.bytes)
		f.off += n
		c.written += fit.bytes
		f.last = max(f.last, fit.last)
		f.repeat = max(f.repeat-n, 0)
		j.mu.Lock()
		j.mu.bytes -= n
		j.mu.stats.Bytes += uint64(n)
		j.mu.stats.Records += fit.records
		if c.written == len(c.buf) {
			f.rest[0] = nil
			f.rest = f.rest[1:]
			j.releaseLocked(c)
		}
		j.mu.Unlock()
	}
	f.rest = nil
	return nil
}

// run is frames in a row that fit the open segment.
type run struct {
	bytes   int
	records uint64
	last    sample.LSN
}

// fit stamps the next frames of c for the open segment, as many as it has room for.
func (f *flusher) fit(c *chunk) (r run) {
	if f.cur == nil {
		return r
	}
	for c.written+r.bytes < len(c.buf) {
		b := c.buf[c.written+r.bytes:]
		n := int(frameSize(int(binary.LittleEndian.Uint32(b[offSize:]))))
		if f.off+int64(r.bytes+n) > f.cur.size {
			break
		}
		f.stamp.seal(b, f.synced)
		r.bytes += n
		r.last = sample.LSN(binary.LittleEndian.Uint64(b[offLSN:]))
		if b[offKind] >= FirstKind {
			r.records++
		}
	}
	return r
}

// advance closes the open segment and opens one that has room for the next frame of c.
func (j *Journal) advance(c *chunk) error {
	f := &j.flusher
	if f.cur != nil {
		if err := j.sync(); err != nil {
			return err
		}
		if err := f.file.Close(); err != nil {
			return syncError{fmt.Errorf("close a segment of the log: %w", err)}
		}
		f.prev, f.cur, f.file = f.cur, nil, nil
		f.nextSize = min(f.nextSize*4, j.opts.SegmentBytes)
	}
	b := c.buf[c.written:]
	first := sample.LSN(binary.LittleEndian.Uint64(b[offLSN:]))
	need := frameSize(int(binary.LittleEndian.Uint32(b[offSize:])))
	return j.begin(first, dataStart+max(need, f.repeat))
}

// sync makes the open segment durable as far as it is written. The header comes after the first frames: until it
// is there, the segment before is whole without this one.
func (j *Journal) sync() error {
	f := &j.flusher
	start := time.Now()
	if err := f.file.SyncData(); err != nil {
		return syncError{fmt.Errorf("sync the log: %w", err)}
	}
	if f.fresh {
		if _, err := f.file.WriteAt(f.cur.header.encode(), 0); err != nil {
			return fmt.Errorf("write the header of a segment: %w", err)
		}
		if err := f.file.SyncData(); err != nil {
			return syncError{fmt.Errorf("sync the log: %w", err)}
		}
		f.fresh = false
	}
	f.synced, f.dirty, f.lastSync = f.off, false, time.Now()
	j.synced.Store(uint64(f.last))
	took := f.lastSync.Sub(start)
	j.mu.Lock()
	j.mu.stats.Syncs++
	j.mu.stats.SyncTime += took
	j.mu.stats.SlowestSync = max(j.mu.stats.SlowestSync, took)
	j.mu.Unlock()
	j.publish()
	return nil
}

// publish lets waiters and readers know how far the log goes.
func (j *Journal) publish() {
	f := &j.flusher
	j.mu.Lock()
	defer j.mu.Unlock()
	f.cur.end, f.cur.tail, f.cur.last = f.off, f.off, f.last
	j.acked.Store(uint64(f.last))
	j.broadcastLocked()
}

// finish writes what is left and says in the log that it was closed. That it was is no condition of anything:
// the mark only vouches for the frames before it.
func (j *Journal) finish(now time.Time) {
	f := &j.flusher
	j.mu.Lock()
	poisoned := j.mu.err != nil
	j.mu.Unlock()
	if !poisoned {
		j.flush(now, true)
	}
	f.result = j.Err()
	if f.cur == nil {
		return
	}
	if f.result == nil && f.off+frameHeader <= f.cur.size {
		mark := make([]byte, frameHeader)
		putHeader(mark, f.last, kindClose, 0)
		f.stamp.seal(mark, f.synced)
		_, err := f.file.WriteAt(mark, f.off)
		if err == nil {
			err = f.file.SyncData()
		}
		if err == nil {
			err = f.file.Truncate(f.off + frameHeader)
		}
		if err != nil {
			j.log.Warn("the log could not be marked as closed", "segment", f.cur.name, "err", err)
		}
	}
	f.result = errors.Join(f.result, f.file.Close())
}
