// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Reader follows a journal: it returns the records from an LSN on, and waits for those to come. It sees a record
// once it is durable. One goroutine at a time may use it.
type Reader struct {
	j      *Journal
	floor  *Floor
	cursor cursor
	number uint32 // of the segment being read, or the last one that was
	sc     *scanner
	known  segment // what was known of the segment when it was last looked at
}

// Entry is a record as a Reader returns it.
type Entry struct {
	LSN     sample.LSN
	Kind    byte
	Payload []byte // valid until the next call
}

// NewReader returns a reader of the records from LSN from on, and keeps them from being freed. The reader moves
// the floor by itself to what it read last, so that a record goes only once the next one was asked for; a user
// that must see records again after a crash holds a floor of its own.
func (j *Journal) NewReader(name string, from sample.LSN) *Reader {
	return &Reader{j: j, floor: j.NewFloor(name, from), cursor: cursor{j: j, expect: from}}
}

// Lost returns how many records the reader was to return and could not.
func (r *Reader) Lost() uint64 { return r.cursor.rec.LostRecords }

// Next returns the next record and waits for it if need be. When the journal was closed or takes no more records,
// it answers the reason after the last record that is durable.
func (r *Reader) Next(ctx context.Context) (Entry, error) {
	for {
		e, ok, err := r.ready()
		if ok || err != nil {
			return e, err
		}
		changed, more, err := r.look()
		if err != nil {
			return Entry{}, err
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return Entry{}, context.Cause(ctx)
		case <-changed:
		}
	}
}

// ready reads on in the open segment, as far as it was known to reach.
func (r *Reader) ready() (e Entry, ok bool, err error) {
	for r.sc != nil && r.sc.off < r.sc.end {
		f, ok := r.sc.next()
		if !ok {
			from := r.sc.off
			r.sc.seek()
			r.cursor.corrupt(r.sc, &r.known, from, r.sc.off, "checksum mismatch")
			continue
		}
		if f.lsn > sample.LSN(r.j.acked.Load()) && f.kind >= FirstKind {
			r.sc.off = f.off // The end of an earlier run, not yet repeated.
			r.sc.end = f.off
			return Entry{}, false, nil
		}
		err := r.cursor.frame(f, func(lsn sample.LSN, kind byte, payload []byte) error {
			e = Entry{lsn, kind, payload}
			return nil
		})
		if e.LSN != 0 || err != nil {
			r.floor.Set(e.LSN)
			return e, err == nil, err
		}
	}
	return Entry{}, false, nil
}

// look asks the journal how far the log goes now. more says that there is something to read, or the next segment
// to open; otherwise changed is closed when there may be.
func (r *Reader) look() (changed <-chan struct{}, more bool, err error) {
	j := r.j
	j.mu.Lock()
	var at, next *segment
	for _, s := range j.mu.segments {
		switch {
		case s.number == r.number:
			at = s
		case s.number > r.number && s.last >= r.cursor.expect && next == nil:
			next = s
		}
	}
	acked := sample.LSN(j.acked.Load())
	switch {
	case r.sc != nil && at != nil && at.end > r.sc.end && at.last <= acked:
		r.known = *at
		j.mu.Unlock()
		r.sc.extend(r.known.end)
		return nil, true, nil
	case next != nil && next.first <= acked:
		r.known = *next
		j.mu.Unlock()
		return nil, true, r.open()
	}
	err = j.mu.err
	changed = j.changedLocked()
	j.mu.Unlock()
	return changed, false, err
}

func (r *Reader) open() error {
	if err := r.shut(); err != nil {
		return err
	}
	sc, err := r.known.scan(r.j.fs, r.j.id, r.known.end)
	if err != nil {
		return err
	}
	r.number, r.sc = r.known.number, sc
	return nil
}

func (r *Reader) shut() error {
	if r.sc == nil {
		return nil
	}
	sc := r.sc
	r.sc = nil
	return sc.close()
}

// extend lets the scanner read on to end. What the window holds behind the old end may have changed since.
func (s *scanner) extend(end int64) {
	if over := s.w.off + int64(len(s.w.buf)) - s.end; over > 0 {
		s.w.buf = s.w.buf[:max(int64(len(s.w.buf))-over, 0)]
	}
	s.end = min(end, s.w.size)
}

// Close ends the reader and its hold on the log.
func (r *Reader) Close() error {
	r.floor.Release()
	return r.shut()
}
