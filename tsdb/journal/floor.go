// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"io/fs"
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Floor keeps the records from an LSN on. As long as a journal has none, it keeps everything.
type Floor struct {
	j    *Journal
	name string
	lsn  sample.LSN // guarded by j.mu
}

// NewFloor keeps the records from lsn on until the floor is moved or released. What lies below all floors may be
// gone already. The name is for messages.
func (j *Journal) NewFloor(name string, lsn sample.LSN) *Floor {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := &Floor{j: j, name: name, lsn: lsn}
	j.mu.floors[f] = struct{}{}
	return f
}

// Name returns the name it was made with.
func (f *Floor) Name() string { return f.name }

// LSN returns the first LSN it keeps.
func (f *Floor) LSN() sample.LSN {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f.lsn
}

// Set moves the floor up to lsn, the first record that is still needed, and frees the segments below all floors.
// The caller has made sure that it can do without the records below even after a crash.
func (f *Floor) Set(lsn sample.LSN) {
	f.j.mu.Lock()
	f.lsn = max(f.lsn, lsn)
	f.j.freeAndUnlock()
}

// Release ends the floor. The last one of a journal leaves everything that was above it.
func (f *Floor) Release() {
	f.j.mu.Lock()
	delete(f.j.mu.floors, f)
	f.j.freeAndUnlock()
}

// freeAndUnlock lets go of the segments below all floors. The file operations come after the unlock.
func (j *Journal) freeAndUnlock() {
	floor := sample.LSN(math.MaxUint64)
	for f := range j.mu.floors {
		floor = min(floor, f.lsn)
	}
	var gone []*segment
	for len(j.mu.floors) > 0 && len(j.mu.segments) > 1 {
		// The last one is written to, or holds where the log ends. The one before may end in records that are
		// still to be repeated.
		s := j.mu.segments[0]
		if s.last >= floor || s.last > sample.LSN(j.acked.Load()) {
			break
		}
		j.mu.segments = slices.Delete(j.mu.segments, 0, 1)
		if s.size == j.opts.SegmentBytes && len(j.mu.spare) < maxSpare {
			j.mu.spare = append(j.mu.spare, s)
		} else {
			gone = append(gone, s)
		}
		j.mu.retry = true
	}
	retry := j.mu.retry && j.mu.full != nil
	j.mu.Unlock()
	for _, s := range gone {
		if err := j.fs.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			j.log.Warn("an old segment of the log could not be removed", "segment", s.name, "err", err)
		}
	}
	if retry {
		j.nudge()
	}
}
