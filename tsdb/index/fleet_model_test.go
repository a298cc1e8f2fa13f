// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// TestBothIndexesEqualTheModelOnAFleet asks what dashboards ask: few series of many, by expressions over labels of
// thousands of values.
func TestBothIndexesEqualTheModelOnAFleet(t *testing.T) {
	series := fleet(3000)
	for i := range 6000 {
		series = append(series, labels.FromStrings("__name__", "requests", "a", strconv.Itoa(i%40), "b", fmt.Sprintf("session-%05d", i)))
	}
	slices.SortFunc(series, labels.Compare)
	m := modelOf(series)
	r, _ := build(t, series)
	h := newHead()
	for i, ls := range series {
		h.add(t, uint32(i), ls)
	}
	match := labels.MustNewMatcher
	requests := match(labels.MatchEqual, "__name__", "requests")
	one := match(labels.MatchEqual, "a", "7")
	for _, ms := range [][]*labels.Matcher{
		{requests, one, match(labels.MatchRegexp, "b", ".*1.*")},
		{requests, one, match(labels.MatchNotRegexp, "b", ".*1.*")},
		{requests, one, match(labels.MatchRegexp, "b", "(.*1.*)?")},
		{requests, one, match(labels.MatchRegexp, "never", "(.*1.*)?")},
		{requests, one, match(labels.MatchRegexp, "never", ".*1.*")},
		{requests, one, match(labels.MatchNotRegexp, "b", ".*1.*|"), match(labels.MatchRegexp, "b", ".*[02].*")},
		{requests, match(labels.MatchRegexp, "a", ".*3")},
		{requests, match(labels.MatchNotRegexp, "a", ".*[0-9]")},
		{requests, match(labels.MatchNotRegexp, "a", ".*3|(x+)")},
		{requests, match(labels.MatchRegexp, "b", "session-00.*"), match(labels.MatchRegexp, "b", ".*9")},
		{match(labels.MatchEqual, "job", "node"), match(labels.MatchRegexp, "device", ".*0"), match(labels.MatchNotEqual, "env", "")},
		{match(labels.MatchNotRegexp, "job", ".*o.*"), match(labels.MatchRegexp, "b", ".*17.*")},
		{match(labels.MatchRegexp, "instance", "host-0000(1|2).*"), match(labels.MatchRegexp, "__name__", "node_(cpu|hwmon).*")},
		{requests},
		{one},
	} {
		for _, limit := range []int{0, 3} {
			compare(t, r, m, ms, limit)
			compare(t, h.mem, m, ms, limit)
		}
	}
}

func TestReaderStopsWhenTheContextEnds(t *testing.T) {
	var series []labels.Labels
	for i := range 20_000 {
		series = append(series, labels.FromStrings("a", fmt.Sprintf("%05d", i/4), "b", fmt.Sprintf("%05d", i)))
	}
	r, _ := build(t, series)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	match := labels.MustNewMatcher
	check := func(what string, ms ...*labels.Matcher) {
		t.Helper()
		if ids, err := r.Select(budget.NewTask(ctx, nil), ms); !errors.Is(err, context.Canceled) || len(ids) > 0 {
			t.Errorf("Select %s: %d ids, %v", what, len(ids), err)
		}
		if values, err := r.LabelValues(budget.NewTask(ctx, nil), "b", ms, 0); !errors.Is(err, context.Canceled) || len(values) > 0 {
			t.Errorf("LabelValues %s: %d values, %v", what, len(values), err)
		}
	}
	check("scan", match(labels.MatchRegexp, "b", ".*7.*"))
	check("union", match(labels.MatchRegexp, "a", "0.*"))
	check("series", match(labels.MatchRegexp, "a", "000.*"), match(labels.MatchRegexp, "b", ".*7.*"))
}
