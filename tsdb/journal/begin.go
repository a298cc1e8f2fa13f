// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// maxSpare is how many segments of no more use are kept for their blocks: one for the next segment, one for the
// one after it, should the floors not move in between.
const maxSpare = 2

// begin opens the next segment for writing: at least need bytes long, for records from first on.
func (j *Journal) begin(first sample.LSN, need int64) error {
	f := &j.flusher
	need = (need + frameAlign - 1) &^ (frameAlign - 1)
	size := min(max(f.nextSize, need), maxSegment)
	s := &segment{
		number: f.nextNumber,
		name:   segmentName(j.opts.Dir, f.nextNumber),
		header: header{version: headerFormat, segment: f.nextNumber, id: j.id, first: first},
		intact: true, first: first, last: first - 1, end: dataStart, tail: dataStart, size: size,
	}
	if f.prev != nil {
		s.header.prev, s.header.prevEnd = f.prev.number, f.prev.tail
	}
	f.nextNumber++ // Never given twice: frames of a failed attempt may be on disk.
	file, err := j.makeFile(s)
	// The last room of a disk is used in smaller segments.
	for least := min(max(j.opts.FirstSegmentBytes, need), size); fsx.IsFull(err) && s.size > least; {
		s.size = max(s.size/4, least)
		file, err = j.makeFile(s)
	}
	if err != nil {
		return fmt.Errorf("make a segment of the log: %w", err)
	}
	// The name must be safe before the first record in it is. A file that was used before must not be found
	// under both names with new contents.
	if err := j.fs.SyncDir(j.opts.Dir); err != nil {
		return syncError{errors.Join(fmt.Errorf("make a segment of the log: %w", err), file.Close())}
	}
	f.cur, f.file, f.stamp = s, file, newStamp(j.id, s.number)
	f.off, f.synced, f.fresh = dataStart, 0, true
	j.mu.Lock()
	j.mu.segments = append(j.mu.segments, s)
	j.mu.Unlock()
	return nil
}

// makeFile gives s a file, a used one if one is at hand: its blocks are written, so that syncs need not touch
// the metadata of the file system.
func (j *Journal) makeFile(s *segment) (fsx.File, error) {
	if old := j.takeSpare(s.size); old != nil {
		if err := j.fs.Rename(old.name, s.name); err != nil {
			return nil, err
		}
		file, err := j.fs.OpenReadWrite(s.name)
		if err != nil {
			return nil, errors.Join(err, j.fs.Remove(s.name))
		}
		s.size = old.size
		return file, nil
	}
	if j.opts.MinFree > 0 {
		free, _, err := j.fs.Usage(j.opts.Dir)
		if err == nil && free < uint64(j.opts.MinFree+s.size) {
			return nil, &fs.PathError{Op: "create", Path: s.name, Err: syscall.ENOSPC}
		}
	}
	file, err := j.fs.Create(s.name)
	if err != nil {
		return nil, err
	}
	if err := file.Preallocate(s.size); err != nil {
		return nil, errors.Join(err, file.Close(), j.fs.Remove(s.name))
	}
	return file, nil
}

func (j *Journal) takeSpare(size int64) *segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.mu.spare, func(s *segment) bool { return s.size >= size })
	if i < 0 {
		return nil
	}
	s := j.mu.spare[i]
	j.mu.spare = slices.Delete(j.mu.spare, i, i+1)
	return s
}
