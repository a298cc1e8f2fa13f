// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package queryable

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// The first batch is small, because a reader may want one series only; each further one is twice as large.
const (
	firstBatch = 8
	maxBatch   = 64
)

// seriesSet implements storage.SeriesSet.
type seriesSet struct {
	scan    *scanner
	next    int
	slab    []series // series are cut from here, so that a set of many costs few allocations
	builder labels.ScratchBuilder
	err     error
}

// Next implements storage.SeriesSet.
func (s *seriesSet) Next() bool {
	if s.err != nil || s.next+1 >= s.scan.set.N {
		return false
	}
	s.next++
	if s.next%1024 == 0 {
		s.err = s.scan.ctx.Err()
	}
	return s.err == nil
}

// At implements storage.SeriesSet.
func (s *seriesSet) At() storage.Series {
	if len(s.slab) == 0 {
		s.slab = make([]series, min(256, s.scan.set.N-s.next))
	}
	se := &s.slab[0]
	s.slab = s.slab[1:]
	*se = series{scan: s.scan, row: uint32(s.next), ls: s.scan.set.Labels(uint32(s.next), &s.builder)}
	return se
}

// Err implements storage.SeriesSet.
func (s *seriesSet) Err() error { return s.err }

// Warnings implements storage.SeriesSet.
func (s *seriesSet) Warnings() annotations.Annotations { return s.scan.view.Warnings() }

// series implements storage.Series.
type series struct {
	scan *scanner
	row  uint32
	ls   labels.Labels
}

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.ls }

// Iterator implements storage.Series.
func (s *series) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*iterator)
	if ok {
		it.batch.release()
	} else {
		it = &iterator{}
	}
	b, err := s.scan.load(s.row)
	if err != nil {
		*it = iterator{err: err}
		return it
	}
	*it = newIterator(b, s.row, s.scan.need.MinT)
	return it
}

// scanner decodes the series of one set, a batch at a time.
type scanner struct {
	ctx  context.Context // of Select; storage.Series.Iterator has none
	view column.View
	set  *column.SeriesSet
	need column.Need

	mu         sync.Mutex
	last       *batch
	size       int
	histograms bool // a batch had some: scan from before need.MinT
}

// batch is the decoded samples of the rows first, first+1, ... of the set.
type batch struct {
	scan  *scanner
	first uint32
	block column.Block
	users int // iterators that stand on it, guarded by scan.mu
}

func (b *batch) holds(row uint32) bool {
	return b != nil && row >= b.first && row-b.first < uint32(b.block.Series())
}

// release takes back the use that an iterator had of its batch.
func (b *batch) release() {
	if b == nil {
		return
	}
	b.scan.mu.Lock()
	defer b.scan.mu.Unlock()
	b.users--
}

// load returns the batch that holds row; the caller becomes one of its users.
func (s *scanner) load(row uint32) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.holds(row) {
		if err := s.scan(row); err != nil {
			return nil, err
		}
	}
	s.last.users++
	return s.last, nil
}

func (s *scanner) scan(row uint32) error {
	if s.last == nil || s.last.users > 0 {
		s.last = &batch{scan: s}
	}
	s.size = min(max(2*s.size, firstBatch), maxBatch)
	n := min(s.size, s.set.N-int(row))
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = row + uint32(i)
	}
	s.last.first = row
	if err := s.decode(ids, &s.last.block); err != nil {
		s.last = nil
		return err
	}
	return nil
}

// decode fills b with the next series of ids. Rows before need.MinT may lead each series: iterators skip them.
func (s *scanner) decode(ids []uint32, b *column.Block) error {
	need := s.need
	if s.histograms {
		need.MinT = column.HintStart(need.MinT)
	}
	k, err := s.view.Scan(s.ctx, s.set, ids, need, b)
	if err != nil {
		return err
	}
	if k < 1 || k > b.Series() {
		return fmt.Errorf("scan of series %d of %d ended at %d with %d decoded", ids[0], s.set.N, k, b.Series())
	}
	if len(b.Kind) > 0 && !s.histograms {
		s.histograms = true
		return s.decode(ids, b)
	}
	column.SetHints(b)
	return nil
}
