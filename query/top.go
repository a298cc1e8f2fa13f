// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Top is the record of one query text over the time that the server remembers.
type Top struct {
	Query   string
	Range   time.Duration // from the first to the last evaluation time; 0 for instant queries
	Rules   bool
	Count   int64
	Failed  int64
	Wall    time.Duration // of all runs together
	Slowest time.Duration
	Samples int64 // read by all runs together
	Peak    int64 // bytes, the most that a run held
	Last    time.Time
}

// TopOrder says by what Engine.Top orders.
type TopOrder string

// The orders of Engine.Top.
const (
	TopWall    TopOrder = "time"
	TopAverage TopOrder = "average"
	TopMemory  TopOrder = "memory"
	TopCount   TopOrder = "count"
	TopSamples TopOrder = "samples"
)

// maxTop is how many query texts are remembered; the one that was not asked for the longest time makes room.
// A text is cut to maxTopText bytes, so the record never takes more than some megabytes.
const (
	maxTop     = 2000
	maxTopText = 2048
)

type topKey struct {
	text  string
	span  time.Duration
	rules bool
}

// topSet is the record of queries that ended. Its zero value is empty.
type topSet struct {
	mu  sync.Mutex
	all map[topKey]*Top
}

// add records one run, of which count, failed and times are of that run alone.
func (s *topSet) add(run Top) {
	if len(run.Query) > maxTopText {
		run.Query = strings.ToValidUTF8(run.Query[:maxTopText], "")
	}
	key := topKey{run.Query, run.Range, run.Rules}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[topKey]*Top{}
	}
	t, ok := s.all[key]
	if !ok {
		if len(s.all) >= maxTop {
			s.forgetLocked()
		}
		// The text is a part of what the client sent, often of a large form, which is not to be remembered with it.
		run.Query = strings.Clone(run.Query)
		s.all[topKey{run.Query, run.Range, run.Rules}] = &run
		return
	}
	t.Count += run.Count
	t.Failed += run.Failed
	t.Wall += run.Wall
	t.Slowest = max(t.Slowest, run.Slowest)
	t.Samples += run.Samples
	t.Peak = max(t.Peak, run.Peak)
	t.Last = run.Last
}

// forgetLocked drops the quarter that was asked for longest ago, so that a stream of new texts does not search the
// whole record for each.
func (s *topSet) forgetLocked() {
	times := make([]time.Time, 0, len(s.all))
	for _, t := range s.all {
		times = append(times, t.Last)
	}
	slices.SortFunc(times, time.Time.Compare)
	limit := times[len(times)/4]
	for k, t := range s.all {
		if !t.Last.After(limit) {
			delete(s.all, k)
		}
	}
}

// top returns the first n records in an order, the largest first; an order that there is not is that by time.
func (s *topSet) top(by TopOrder, n int) []Top {
	s.mu.Lock()
	out := make([]Top, 0, len(s.all))
	for _, t := range s.all {
		out = append(out, *t)
	}
	s.mu.Unlock()
	orders := map[TopOrder]func(t *Top) float64{
		TopWall:    func(t *Top) float64 { return float64(t.Wall) },
		TopAverage: func(t *Top) float64 { return float64(t.Wall) / float64(t.Count) },
		TopMemory:  func(t *Top) float64 { return float64(t.Peak) },
		TopCount:   func(t *Top) float64 { return float64(t.Count) },
		TopSamples: func(t *Top) float64 { return float64(t.Samples) },
	}
	measure, ok := orders[by]
	if !ok {
		measure = orders[TopWall]
	}
	slices.SortFunc(out, func(a, b Top) int {
		return cmp.Or(-cmp.Compare(measure(&a), measure(&b)), cmp.Compare(a.Query, b.Query), cmp.Compare(a.Range, b.Range))
	})
	return out[:min(max(n, 0), len(out))]
}
