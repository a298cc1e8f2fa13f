// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// found is what Open found on disk.
type found struct {
	torn    int64
	corrupt []*CorruptError // whole files; parts of files are found by Replay
	last    sample.LSN      // the last LSN on disk
	unknown bool            // the newest file is unreadable: who knows which LSNs it held
}

// unknownLSNs is how many LSNs are left out when it is not known which ones were given out: more than a segment
// holds.
const unknownLSNs = 1 << 32

// Open finds the segments in o.Dir and where the log ends. It verifies only the end; Replay verifies the rest.
//
// What a crash tore off is left where it is, and cut by the header of the next segment: no segment that holds
// records is changed. Records at the end that no later frame vouches for are written anew into the next segment:
// a process that ends between a write and its sync leaves them in the kernel's memory alone, and one whose sync
// failed perhaps not even on the way to the disk.
//
// Open fails where it cannot read the directory, or where a newer version wrote it. A disk that cannot be written
// leaves an open journal whose Err says so.
func Open(o Options) (*Journal, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("journal options: %w", err)
	}
	j := &Journal{
		opts: o, fs: o.FS, log: o.Logger,
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	j.mu.floors = map[*Floor]struct{}{}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("open the log in %s: %w", o.Dir, err)
	}
	go j.run()
	j.mu.Lock()
	repeat := j.mu.next - 1
	j.mu.Unlock()
	// Failures show in Err, and to whoever waits for a record.
	_ = j.Durable(context.Background(), repeat)
	return j, nil
}

// load brings j to the state on disk.
func (j *Journal) load() error {
	if err := fsx.MakeDir(j.fs, j.opts.Dir); err != nil {
		return err
	}
	files, err := j.segmentFiles()
	if err != nil {
		return err
	}
	f := &j.flusher
	f.nextNumber, f.nextSize = 1, j.opts.FirstSegmentBytes
	if n := len(files); n > 0 {
		f.nextNumber = files[n-1].number + 1
	}
	if err := j.identify(files); err != nil {
		return err
	}
	segments, err := j.sift(files)
	if err != nil {
		return err
	}
	end, err := j.findEnds(segments)
	if err != nil {
		return err
	}
	for _, s := range segments {
		f.nextSize = min(max(f.nextSize, s.size), j.opts.SegmentBytes)
	}
	j.mu.segments = segments
	if n := len(segments); n > 0 {
		f.prev = segments[n-1]
		j.found.last = f.prev.last
	}
	j.found.torn = end.dropped
	j.resume(end.records)
	return nil
}

// resume puts the unvouched records at the end back among those to be written, and sets the next LSN.
func (j *Journal) resume(records []record) {
	f := &j.flusher
	last := j.found.last
	put := func(lsn sample.LSN, kind byte, payload []byte) {
		j.putLocked(lsn, kind, len(payload), [][]byte{payload})
	}
	for _, r := range records {
		put(r.lsn, r.kind, r.payload)
	}
	f.repeat = j.mu.bytes
	acked := last
	if len(records) > 0 {
		acked = records[0].lsn - 1
		f.prev.last = last
	}
	after := max(j.opts.After, last)
	if j.found.unknown {
		after += unknownLSNs
	}
	if after > last {
		put(after, kindSkip, binary.LittleEndian.AppendUint64(nil, uint64(last)))
		last = after
	}
	f.last = acked
	j.acked.Store(uint64(acked))
	j.synced.Store(uint64(acked))
	j.mu.next = last + 1
}

func (j *Journal) segmentFiles() ([]*segment, error) {
	names, err := j.fs.List(j.opts.Dir)
	if err != nil {
		return nil, err
	}
	var files []*segment
	for _, name := range names {
		n := segmentNumber(name)
		if n == 0 {
			continue
		}
		s, err := loadSegment(j.fs, j.opts.Dir, n)
		if err != nil {
			return nil, err
		}
		files = append(files, s)
	}
	slices.SortFunc(files, func(a, b *segment) int { return int(int64(a.number) - int64(b.number)) })
	return files, nil
}

// identify sets the identity of the journal: that of most of its segments, so that a stray file of another log
// does not unseat them, or a new one.
func (j *Journal) identify(files []*segment) error {
	count := map[[8]byte]int{}
	for _, s := range slices.Backward(files) {
		if s.intact {
			if count[s.header.id]++; count[s.header.id] > count[j.id] || len(count) == 1 {
				j.id = s.header.id
			}
		}
	}
	if len(count) > 0 {
		return nil
	}
	_, err := rand.Read(j.id[:])
	return err
}

// sift returns the segments of the log. Files that a crash left half-made are removed; what holds bytes that
// cannot be read at all goes to quarantine.
func (j *Journal) sift(files []*segment) ([]*segment, error) {
	var segments []*segment
	known := slices.ContainsFunc(files, func(s *segment) bool { return s.intact })
	for i, s := range files {
		if s.intact && s.header.id == j.id {
			segments = append(segments, s)
			continue
		}
		t, err := s.measure(j.fs, j.id)
		if err != nil {
			return nil, err
		}
		last, err := j.lastOf(segments)
		if err != nil {
			return nil, err
		}
		var next *segment
		if i+1 < len(files) && files[i+1].intact {
			next = files[i+1]
		}
		chained := next != nil && next.header.prev == s.number
		switch {
		case s.intact || s.unread && t.end == dataStart || t.unreadable || chained && t.frames == 0 || !known && !s.blank:
			if err := j.discard(s, "no readable segment header"); err != nil {
				return nil, err
			}
			j.found.unknown = i+1 == len(files)
		case !known || t.end == dataStart || next != nil && !chained || t.last <= last:
			if err := j.fs.Remove(s.name); err != nil {
				return nil, err
			}
		default:
			s.first, s.last, s.broken = t.first, t.last, chained || t.promised > dataStart
			segments = append(segments, s)
		}
	}
	return segments, nil
}

// lastOf returns the last LSN of the last of some segments.
func (j *Journal) lastOf(segments []*segment) (sample.LSN, error) {
	if len(segments) == 0 {
		return 0, nil
	}
	t, err := segments[len(segments)-1].measure(j.fs, j.id)
	return t.last, err
}

// discard moves a file that is no segment of this journal, or one that cannot be read, into quarantine.
func (j *Journal) discard(s *segment, msg string) error {
	bad := &CorruptError{File: s.name, End: max(s.size, dataStart), Msg: msg}
	if err := fsx.MakeDir(j.fs, j.quarantineDir()); err != nil {
		return err
	}
	bad.Quarantine = path.Join(j.quarantineDir(), path.Base(s.name))
	for n := 2; ; n++ {
		if _, err := j.fs.Stat(bad.Quarantine); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		bad.Quarantine = path.Join(j.quarantineDir(), fmt.Sprintf("%s-%d", path.Base(s.name), n))
	}
	if err := j.fs.Rename(s.name, bad.Quarantine); err != nil {
		return err
	}
	j.found.corrupt = append(j.found.corrupt, bad)
	j.log.Error("a file of the log cannot be read and was put aside", "file", s.name, "to", bad.Quarantine)
	return errors.Join(j.fs.SyncDir(j.quarantineDir()), j.fs.SyncDir(j.opts.Dir))
}

func (j *Journal) quarantineDir() string { return path.Join(j.opts.Dir, "quarantine") }

// findEnds sets where the records of each segment end, and returns the tail of the last.
func (j *Journal) findEnds(segments []*segment) (tail, error) {
	for i, s := range segments {
		if i+1 < len(segments) {
			if next := segments[i+1]; next.intact && next.header.prev == s.number {
				s.end = max(next.header.prevEnd, dataStart)
				s.tail, s.last = s.end, next.first-1
				continue
			}
		}
		t, err := s.measure(j.fs, j.id)
		if err != nil {
			return tail{}, err
		}
		s.end, s.tail, s.last = t.end, t.end, t.last
		if i+1 == len(segments) {
			if len(t.records) > 0 {
				s.tail = t.promised
			}
			return t, nil
		}
	}
	return tail{}, nil
}
