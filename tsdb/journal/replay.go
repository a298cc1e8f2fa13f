// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Recovery is what a Replay found.
type Recovery struct {
	Records     int        // handed to the caller
	Bytes       int64      // of segments read
	First, Last sample.LSN // of the records handed over, 0 if none were
	TornBytes   int64      // unacknowledged bytes at the end that the last crash tore off
	LostRecords uint64     // records asked for that are damaged or gone
	Corrupt     []*CorruptError
}

// cursor is a place in the log and what was met on the way there. Replay and Reader advance one.
type cursor struct {
	j      *Journal
	expect sample.LSN // the next record; 0: whichever comes first
	rec    Recovery
	again  bool // what is damaged has been dealt with
}

// Replay hands the records from LSN from on to fn, in order, up to the last one that is durable or was found by
// Open; from 0 means from the oldest there is. The payload is valid until fn returns. An error of fn ends the
// replay and is returned as it is.
//
// A damaged part of the log does not end it: its bytes are copied into the folder quarantine, what is lost is
// counted, and the next valid record follows. Records keep their LSN; fn sees a gap.
func (j *Journal) Replay(from sample.LSN, fn func(lsn sample.LSN, kind byte, payload []byte) error) (Recovery, error) {
	c := cursor{j: j, expect: from}
	c.rec.TornBytes = j.found.torn
	c.rec.Corrupt = slices.Clone(j.found.corrupt)
	if err := c.segments(fn); err != nil {
		return c.rec, err
	}
	c.lost(j.found.last + 1)
	return c.rec, nil
}

// Reread hands the records from LSN from on to fn again that a Replay did, up to LSN to. The log may be written
// meanwhile. Of what is damaged nothing is said or put aside once more.
func (j *Journal) Reread(from, to sample.LSN, fn func(lsn sample.LSN, kind byte, payload []byte) error) error {
	c := cursor{j: j, expect: from, again: true}
	err := c.segments(func(lsn sample.LSN, kind byte, payload []byte) error {
		if lsn > to {
			return errReread
		}
		return fn(lsn, kind, payload)
	})
	if errors.Is(err, errReread) {
		return nil
	}
	return err
}

// errReread ends a Reread that is complete.
var errReread = errors.New("all was read again")

// segments goes through the segments that there are now.
func (c *cursor) segments(fn func(lsn sample.LSN, kind byte, payload []byte) error) error {
	c.j.mu.Lock()
	segments := make([]segment, len(c.j.mu.segments))
	for i, s := range c.j.mu.segments {
		segments[i] = *s
	}
	c.j.mu.Unlock()
	for i := range segments {
		if s := &segments[i]; s.last >= c.expect {
			if err := c.segment(s, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// lost counts the records up to the one before lsn as lost, if they were expected.
func (c *cursor) lost(lsn sample.LSN) {
	if c.expect != 0 && lsn > c.expect {
		c.rec.LostRecords += uint64(lsn - c.expect)
	}
	c.expect = max(c.expect, lsn)
}

func (c *cursor) segment(s *segment, fn func(sample.LSN, byte, []byte) error) (err error) {
	sc, err := s.scan(c.j.fs, c.j.id, s.end)
	if err != nil {
		return fmt.Errorf("replay the log: %w", err)
	}
	defer func() {
		if cerr := sc.close(); err == nil {
			err = cerr
		}
	}()
	if s.broken {
		c.corrupt(sc, s, 0, dataStart, "both copies of the segment header are damaged")
	}
	for sc.off < sc.end {
		f, ok := sc.next()
		if !ok {
			from := sc.off
			sc.seek()
			c.corrupt(sc, s, from, sc.off, "checksum mismatch")
			continue
		}
		if err := c.frame(f, fn); err != nil {
			return err
		}
	}
	if s.end > sc.end {
		c.corrupt(sc, s, sc.end, s.end, "the file is cut short")
	}
	c.rec.Bytes += sc.end
	return nil
}

func (c *cursor) frame(f frame, fn func(sample.LSN, byte, []byte) error) error {
	switch {
	case f.kind == kindClose:
		c.lost(f.lsn + 1)
		return nil
	case f.kind == kindSkip:
		if len(f.payload) == 8 && f.lsn >= c.expect {
			c.lost(sample.LSN(binary.LittleEndian.Uint64(f.payload)) + 1)
			c.expect = f.lsn + 1
		}
		return nil
	case f.kind < FirstKind || f.lsn < c.expect:
		return nil // A kind of a later version that is none of a record, or a record seen before.
	}
	c.lost(f.lsn)
	c.expect = f.lsn + 1
	if c.rec.First == 0 {
		c.rec.First = f.lsn
	}
	c.rec.Last = f.lsn
	c.rec.Records++
	return fn(f.lsn, f.kind, f.payload)
}

// corrupt notes a damaged part and puts its bytes aside.
func (c *cursor) corrupt(sc *scanner, s *segment, from, to int64, msg string) {
	if c.again {
		return
	}
	e := &CorruptError{File: s.name, Off: from, End: to, Msg: msg}
	dir := c.j.quarantineDir()
	name := path.Join(dir, fmt.Sprintf("%s-%d-%d", path.Base(s.name), from, to))
	if err := c.j.putAside(sc.w.f, dir, name, from, to); err != nil {
		c.j.log.Warn("damaged bytes of the log could not be put aside", "segment", s.name, "err", err)
	} else {
		e.Quarantine = name
	}
	c.j.log.Error("a part of the log is damaged", "segment", s.name, "from", from, "to", to, "cause", msg)
	c.rec.Corrupt = append(c.rec.Corrupt, e)
}

func (j *Journal) putAside(f fsx.File, dir, name string, from, to int64) error {
	if _, err := j.fs.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err // There from the last replay.
	}
	if err := fsx.MakeDir(j.fs, dir); err != nil {
		return err
	}
	return fsx.Publish(j.fs, name, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(f, from, to-from))
		return err
	})
}
