// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// memory keeps everything, and counts.
type memory struct {
	sync.Mutex
	kept        map[string][]uint32
	asked, hits int
}

func (m *memory) Answer(key string) ([]uint32, bool) {
	m.Lock()
	defer m.Unlock()
	numbers, ok := m.kept[key]
	m.asked++
	if ok {
		m.hits++
	}
	return slices.Clip(slices.Clone(numbers)), ok
}

func (m *memory) Keep(key string, numbers []uint32) {
	m.Lock()
	defer m.Unlock()
	m.kept[key] = slices.Clone(numbers)
}

func TestKeptAnswersAreThoseOfTheModel(t *testing.T) {
	series := cornerSeries()
	for i := range 300 {
		series = append(series, labels.FromStrings("a", fmt.Sprintf("host-%03d", i), "b", fmt.Sprintf("x%d", i%7)))
	}
	slices.SortFunc(series, labels.Compare)
	r, _ := build(t, series)
	m := &memory{kept: map[string][]uint32{}}
	r.KeepIn(m)
	for range 2 {
		checkCorners(t, r, modelOf(series))
		for _, expr := range []string{"host-1.*", ".*1.*", "(.*1.*)?", "x[1-3]", ".*"} {
			for _, op := range []labels.MatchType{labels.MatchRegexp, labels.MatchNotRegexp} {
				for _, name := range []string{"a", "b", "never"} {
					x := labels.MustNewMatcher(op, name, expr)
					compare(t, r, modelOf(series), []*labels.Matcher{x}, 0)
					compare(t, r, modelOf(series), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "b", "x1"), x}, 0)
				}
			}
		}
	}
	if m.hits == 0 || len(m.kept) == 0 {
		t.Errorf("%d hits of %d, %d kept", m.hits, m.asked, len(m.kept))
	}
}

// An expression that comes again is not matched again, nor is its negation.
func TestExpressionsAreMatchedOnce(t *testing.T) {
	var series []labels.Labels
	for i := range 1000 {
		series = append(series, labels.FromStrings("a", fmt.Sprintf("%04d", i)))
	}
	r, _ := build(t, series)
	m := &memory{kept: map[string][]uint32{}}
	r.KeepIn(m)
	for i, op := range []labels.MatchType{labels.MatchRegexp, labels.MatchRegexp, labels.MatchNotRegexp} {
		x := labels.MustNewMatcher(op, "a", ".*7.*")
		ids, err := r.Select(budget.NewTask(t.Context(), nil), []*labels.Matcher{x})
		if want := []int{271, 271, 729}[i]; err != nil || len(ids) != want || m.hits != i || len(m.kept) != 1 {
			t.Errorf("question %d: %d series, %v, %d hits, %d kept", i, len(ids), err, m.hits, len(m.kept))
		}
	}
}

func TestWhatWasCutShortIsNotKept(t *testing.T) {
	r, _ := build(t, sortedFleet(20_000))
	m := &memory{kept: map[string][]uint32{}}
	r.KeepIn(m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Select(budget.NewTask(ctx, nil), []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "pod", ".*1.*")})
	if !errors.Is(err, context.Canceled) || len(m.kept) > 0 {
		t.Errorf("%v, %d kept", err, len(m.kept))
	}
}
