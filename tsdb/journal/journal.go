// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal keeps records in order and on disk: the write-ahead log of the store, the state of alerts and
// the queue of remote write are journals.
//
// A Record is bytes with a kind and an LSN, its place in the order. A Segment is a file of the journal, a Frame a
// record in it with its checksums. Append puts a record in memory and returns; one goroutine, the flusher, writes
// what has come together and syncs it; Durable waits for that. So any number of writers share one sync: its price
// is latency, not throughput. A Floor is an LSN from which on somebody still needs records; segments wholly below
// all floors are written anew under a new name, or removed.
//
// A journal lives from Open, which finds where the log ends, until Close. Replay reads what is there, a Reader
// follows what comes. All methods are safe for concurrent use.
//
// A failed sync poisons the journal: see PoisonedError. A full disk does not: records that were taken stay in
// memory, unacknowledged, further ones are refused with a FullError, and once there is room the journal goes on
// where it was.
//
// The format is described in docs/format-wal.md.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Mode says when a record counts as durable.
type Mode uint8

const (
	// Durable: when the disk has it. It survives the loss of power.
	Durable Mode = iota
	// Process: when the operating system has it. It survives the end of the process; the disk has it within
	// a second or so.
	Process
)

// Options are the settings of a journal. The zero value of each field but Dir is its default.
type Options struct {
	FS  fsx.FS // nil: the operating system's
	Dir string

	// SegmentBytes is the size of a segment, at least 64 KiB; 0: 64 MiB.
	SegmentBytes int64
	// FirstSegmentBytes is the size of the first one; each further one is four times as large until
	// SegmentBytes is reached. 0: 1 MiB, or SegmentBytes if that is less.
	FirstSegmentBytes int64
	// Sync is Durable unless told otherwise.
	Sync Mode
	// LazyInterval is the least time between two syncs that only DurableLazy asks for; 0: 100 ms.
	LazyInterval time.Duration
	// MaxPending is how many bytes may wait in memory before Admit waits; 0: 32 MiB.
	MaxPending int64
	// MinFree is how many bytes must stay free on the disk when a segment is made; 0: none.
	MinFree int64
	// After makes the log continue above this LSN even if it holds less: that of a checkpoint, so that a log
	// that was lost does not give out LSNs that the checkpoint has seen. Open clears nothing by it.
	After sample.LSN
	// Logger takes one line per change of state; nil: silent.
	Logger *slog.Logger
}

const (
	minSegmentBytes     = 64 << 10
	defaultSegmentBytes = 64 << 20
	defaultFirstSegment = 1 << 20
	defaultLazyInterval = 100 * time.Millisecond
	defaultMaxPending   = 32 << 20

	// idleInterval bounds how long a record that nobody waits for stays in memory.
	idleInterval = time.Second
	// retryInterval is how often a journal whose disk was full tries again.
	retryInterval = time.Second
	// eagerBytes are written without being asked for: a write this large costs as little per byte as any.
	eagerBytes = 4 << 20
)

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = fsx.OS()
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.FirstSegmentBytes == 0 {
		o.FirstSegmentBytes = min(defaultFirstSegment, o.SegmentBytes)
	}
	if o.LazyInterval == 0 {
		o.LazyInterval = defaultLazyInterval
	}
	if o.MaxPending == 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("no directory given"))
	}
	for _, size := range []int64{o.SegmentBytes, o.FirstSegmentBytes} {
		if size < minSegmentBytes || size > maxSegment {
			errs = append(errs, fmt.Errorf("segment size %d is not between %d and %d bytes", size, int64(minSegmentBytes), int64(maxSegment)))
		}
	}
	if o.LazyInterval < 0 || o.MaxPending < 0 || o.MinFree < 0 {
		errs = append(errs, errors.New("intervals and sizes must not be negative"))
	}
	return o, errors.Join(errs...)
}

// Journal is an open log.
type Journal struct {
	opts Options
	fs   fsx.FS
	id   [8]byte
	log  *slog.Logger

	acked  atomic.Uint64 // LSN up to which Durable holds
	synced atomic.Uint64 // LSN up to which the disk has it

	wake chan struct{} // capacity 1: the flusher has something to look at
	done chan struct{} // closed when the flusher has ended
	stop sync.Once

	flusher flusher
	found   found

	mu struct {
		sync.Mutex
		next    sample.LSN
		pending []*chunk // appended and not taken by the flusher
		free    []*chunk
		bytes   int64 // in pending and with the flusher
		since   time.Time
		urgent  sample.LSN // up to here somebody waits in Durable
		lazy    sample.LSN // and here in DurableLazy
		disk    sample.LSN // and here in OnDisk

		full    *FullError
		err     error // *PoisonedError or ErrClosed
		closing bool
		retry   bool // try at once, space was made
		idle    bool // the flusher sleeps until it is woken

		segments []*segment // ascending; the last may be open for writing
		spare    []*segment // of no use but for their blocks
		floors   map[*Floor]struct{}
		changed  chan struct{} // closed at the next change of acked or of a failure; nil: nobody waits
		stats    Stats
	}
}

// Admit waits until n more bytes fit in memory, and says at once if the journal takes nothing. A writer calls it
// before the locks it holds over Append, which never waits. The bytes are not set aside for the caller:
// concurrent writers may exceed the limit by one record each. A record above half of the limit counts as half of it,
// or it would have to wait until all others pause.
func (j *Journal) Admit(ctx context.Context, n int) error {
	need := min(int64(n), j.opts.MaxPending/2)
	j.mu.Lock()
	for {
		if err := j.refusalLocked(); err != nil {
			j.mu.Unlock()
			return err
		}
		if j.mu.bytes == 0 || j.mu.bytes+need <= j.opts.MaxPending {
			j.mu.Unlock()
			return nil
		}
		j.mu.urgent = j.mu.next - 1
		changed := j.changedLocked()
		j.mu.Unlock()
		j.nudge()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
		j.mu.Lock()
	}
}

// refusalLocked is why nothing can be appended.
func (j *Journal) refusalLocked() error {
	switch {
	case j.mu.err != nil:
		return j.mu.err
	case j.mu.full != nil:
		return j.mu.full
	}
	return nil
}

func (j *Journal) changedLocked() <-chan struct{} {
	if j.mu.changed == nil {
		j.mu.changed = make(chan struct{})
	}
	return j.mu.changed
}

func (j *Journal) broadcastLocked() {
	if j.mu.changed != nil {
		close(j.mu.changed)
		j.mu.changed = nil
	}
}

func (j *Journal) nudge() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Append takes a record, which is the parts of payload in a row, and returns its LSN, the next one. It copies
// and never waits for the disk. kind is at least FirstKind.
func (j *Journal) Append(kind byte, payload ...[]byte) (sample.LSN, error) {
	size := 0
	for _, p := range payload {
		size += len(p)
	}
	if kind < FirstKind || size > MaxRecord {
		return 0, fmt.Errorf("append %d bytes of kind %d to the log: kinds start at %d and records end at %d bytes", size, kind, FirstKind, MaxRecord)
	}
	j.mu.Lock()
	if err := j.refusalLocked(); err != nil {
		j.mu.Unlock()
		return 0, err
	}
	lsn := j.mu.next
	was := j.mu.bytes
	j.putLocked(lsn, kind, size, payload)
	j.mu.next++
	nudge := j.mu.idle || was < eagerBytes && j.mu.bytes >= eagerBytes
	j.mu.idle = false
	j.mu.Unlock()
	if nudge {
		j.nudge()
	}
	return lsn, nil
}

// Durable waits until everything up to lsn is durable, as Options.Sync defines it, and has the flusher start at
// once. A cancelled ctx ends the wait only. While the disk is full it answers a FullError; the record stays
// taken and becomes durable when there is room, unless the process ends before.
func (j *Journal) Durable(ctx context.Context, lsn sample.LSN) error { return j.wait(ctx, lsn, false) }

// DurableLazy is Durable for who is in no hurry: such waits alone sync at most once per Options.LazyInterval.
func (j *Journal) DurableLazy(ctx context.Context, lsn sample.LSN) error {
	return j.wait(ctx, lsn, true)
}

// OnDisk waits until the disk has everything up to lsn, whatever Options.Sync is.
func (j *Journal) OnDisk(ctx context.Context, lsn sample.LSN) error {
	if err := j.Durable(ctx, lsn); err != nil {
		return err
	}
	for j.Synced() < lsn {
		j.mu.Lock()
		err, changed := j.refusalLocked(), j.changedLocked()
		j.mu.disk = max(j.mu.disk, lsn)
		j.mu.Unlock()
		if j.Synced() >= lsn {
			return nil
		}
		if err != nil {
			return err
		}
		j.nudge()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
	return nil
}

func (j *Journal) wait(ctx context.Context, lsn sample.LSN, lazy bool) error {
	for sample.LSN(j.acked.Load()) < lsn {
		j.mu.Lock()
		err := j.refusalLocked()
		if lsn >= j.mu.next && err == nil {
			err = fmt.Errorf("wait for log record %d: the last one is %d", lsn, j.mu.next-1)
		}
		if done := sample.LSN(j.acked.Load()) >= lsn; done || err != nil {
			j.mu.Unlock()
			if done {
				return nil
			}
			return err
		}
		nudge := false
		if lazy {
			nudge, j.mu.lazy = lsn > j.mu.lazy, max(j.mu.lazy, lsn)
		} else {
			nudge, j.mu.urgent = lsn > j.mu.urgent, max(j.mu.urgent, lsn)
		}
		changed := j.changedLocked()
		j.mu.Unlock()
		if nudge {
			j.nudge()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
	return nil
}

// Synced returns the LSN up to which the disk has the log.
func (j *Journal) Synced() sample.LSN { return sample.LSN(j.synced.Load()) }

// Last returns the LSN given out last, 0 if there is none.
func (j *Journal) Last() sample.LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.next - 1
}

// Err returns why the journal takes no records: a *PoisonedError, a *FullError, ErrClosed, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refusalLocked()
}

// Stats are counts since Open, but for Segments, DiskBytes and PendingBytes, which are as of now.
type Stats struct {
	Records, Bytes uint64 // written, with frame headers
	Syncs          uint64
	SyncTime       time.Duration
	SlowestSync    time.Duration
	Segments       int
	DiskBytes      int64
	PendingBytes   int64
}

// Stats returns the journal's counts.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.mu.stats
	s.Segments, s.PendingBytes = len(j.mu.segments), j.mu.bytes
	for _, seg := range j.mu.segments {
		s.DiskBytes += seg.size
	}
	for _, seg := range j.mu.spare {
		s.DiskBytes += seg.size
	}
	return s
}

// DiskBytes is what the log takes on disk.
func (j *Journal) DiskBytes() int64 { return j.Stats().DiskBytes }

// BytesSince returns about how many bytes of log follow lsn: what a replay from there reads.
func (j *Journal) BytesSince(lsn sample.LSN) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	total := j.mu.bytes
	for _, s := range j.mu.segments {
		switch {
		case s.last <= lsn:
		case s.first > lsn:
			total += s.end
		default:
			total += int64(float64(s.end) * float64(s.last-lsn) / float64(s.last-s.first+1))
		}
	}
	return total
}

// Close makes what was appended durable and ends the journal. Its error says that this was not possible; what
// had been acknowledged is safe all the same.
func (j *Journal) Close() error {
	j.stop.Do(func() {
		j.mu.Lock()
		j.mu.closing = true
		j.mu.Unlock()
		j.nudge()
	})
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.err == nil {
		j.mu.err = ErrClosed
	}
	j.broadcastLocked()
	return j.flusher.result
}

var _ io.Closer = (*Journal)(nil)
