// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/promql"
)

// Samplesum is the sample statistics of one query, in the units of Prometheus: samples that each step looks at,
// samples read, and the peak of those that its engine would hold at once, which is what MaxSamples limits.
//
// Our operators hold other things at other times, so none of this is counted where it would happen. What is counted is
// how many cells each operator yields per step and how many samples are in each window, by wrappers that whoever builds
// the operators puts around them (Meter, WindowMeter). When the query has been evaluated, a Ledger goes over the
// expression as Prometheus' engine evaluates it and works the sums out from those counts; Settle takes them over, and
// fails the query if the limit was passed on the way. An operator that passes the limit by itself is stopped at once.
//
// Safe for concurrent use.
type Samplesum struct {
	limit int
	seen  atomic.Int64

	mu      sync.Mutex
	settled bool
	total   int64
	read    int64
	peak    int64
	perStep [2][]int64 // of total and read; nil when not wanted
}

// NewSamplesum returns the statistics of a query with a limit on what is held at once; 0: none. steps is the number of
// steps of the query if they are to be counted one by one, else 0.
func NewSamplesum(limit, steps int) *Samplesum {
	s := &Samplesum{limit: limit}
	if steps > 0 {
		s.perStep = [2][]int64{make([]int64, steps), make([]int64, steps)}
	}
	return s
}

// PerStep tells whether steps are counted one by one.
func (s *Samplesum) PerStep() bool { return s != nil && s.perStep[0] != nil }

// see notes that a selector found n samples; held of them are in memory at once in Prometheus' engine, at least.
func (s *Samplesum) see(n, held int64) error {
	if s == nil {
		return nil
	}
	s.seen.Add(n)
	if s.limit > 0 && held > int64(s.limit) {
		return s.tooMany(held)
	}
	return nil
}

func (s *Samplesum) tooMany(held int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peak = max(s.peak, held)
	return promql.ErrTooManySamples("query execution")
}

// Settle takes over the sums of a query that has been evaluated, and fails if it would have passed the limit.
func (s *Samplesum) Settle(l *Ledger) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = true
	s.total, s.read, s.peak = l.steps.total, l.steps.read, l.peak
	if s.perStep[0] != nil {
		copy(s.perStep[0], l.steps.totals)
		copy(s.perStep[1], l.steps.reads)
	}
	if s.limit > 0 && l.checked > int64(s.limit) {
		return promql.ErrTooManySamples("query execution")
	}
	return nil
}

// Sums returns the statistics. Before Settle, total is the samples seen so far. perStep is nil when it was not wanted.
func (s *Samplesum) Sums() (total, read, peak int64, perStep []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled {
		return s.seen.Load(), s.seen.Load(), s.peak, s.perStep[0]
	}
	return s.total, s.read, s.peak, s.perStep[0]
}

// ReadPerStep returns the samples read of each step, nil when it was not wanted.
func (s *Samplesum) ReadPerStep() []int64 { return s.perStep[1] }
