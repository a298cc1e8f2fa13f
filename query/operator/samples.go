// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"sync"

	"github.com/prometheus/prometheus/promql"
)

// Samplesum counts samples as Prometheus counts them: those that each step looks at, those read from the storage, and
// those that its engine would hold at once, which is what MaxSamples limits. Safe for concurrent use.
type Samplesum struct {
	limit int

	mu      sync.Mutex
	total   int64
	read    int64
	current int64
	peak    int64
	perStep []int64 // nil when not wanted
}

// NewSamplesum returns a count with a limit on what is held at once; 0: none. steps is the number of steps of the
// query if they are to be counted one by one, else 0.
func NewSamplesum(limit, steps int) *Samplesum {
	s := &Samplesum{limit: limit}
	if steps > 0 {
		s.perStep = make([]int64, steps)
	}
	return s
}

// Step adds n samples seen at step i.
func (s *Samplesum) Step(i int, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += n
	if s.perStep != nil && i >= 0 && i < len(s.perStep) {
		s.perStep[i] += n
	}
}

// PerStep tells whether steps are counted one by one.
func (s *Samplesum) PerStep() bool { return s.perStep != nil }

// Total adds n samples of which the step does not matter.
func (s *Samplesum) Total(n int64) { s.Step(-1, n) }

// Read adds n samples read.
func (s *Samplesum) Read(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read += n
}

// Hold takes n samples into memory, or fails as Prometheus' engine does.
func (s *Samplesum) Hold(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current += n
	s.peak = max(s.peak, s.current)
	if s.limit > 0 && s.current > int64(s.limit) {
		return promql.ErrTooManySamples("query execution")
	}
	return nil
}

// Drop lets go of n samples.
func (s *Samplesum) Drop(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current -= n
}

// Sums returns what was counted. perStep is nil when it was not wanted.
func (s *Samplesum) Sums() (total, read, peak int64, perStep []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.read, s.peak, s.perStep
}
