// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// catchUpAfter is how long after the start the evaluations that a stop cost are made up for: by then senders have
// delivered what they kept meanwhile.
const catchUpAfter = 2 * time.Minute

// newFiller makes what fills recording rules in over the past.
func (s *server) newFiller(p *parts) *backtest.Filler {
	return backtest.NewFiller(backtest.FillerOptions{
		Engine: p.engine, Appender: s.db.Ungated(), Parser: s.queryFeatures().NewParser(), Logger: s.log.With("component", "backfill"),
	})
}

// rulesInUse are the rules of the configuration that acts.
func (s *server) rulesInUse() (rules.Config, error) { return s.rulesConfig(s.config.Load()) }

// catchUp makes up for the evaluations of recording rules that a stop cost, as far back as rules.catch_up says. It
// returns once the job has begun, or there is none.
func (s *server) catchUp(ctx context.Context, began time.Time, after time.Duration) error {
	window := time.Duration(s.config.Load().Tidemark.Rules.CatchUp)
	if window <= 0 {
		return nil
	}
	if err := s.db.Await(ctx, math.MinInt64, math.MaxInt64); err != nil {
		return fmt.Errorf("wait for the store: %w", err)
	}
	from, missed, err := firstMissed(ctx, s.db, s.parts.rules.Groups(), began, window)
	if err != nil || !missed {
		return err
	}
	wait := time.NewTimer(after)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-wait.C:
	}
	c, err := s.rulesInUse()
	if err == nil {
		_, err = s.parts.filler.Begin("rules in use, for the time of a stop", c, from, began)
	}
	if err != nil {
		s.log.Warn("recording rules are not filled in for the time in which the server did not run", "from", from, "to", began, "err", err)
	}
	return nil
}

// firstMissed returns the first time, at most window before began, at which a recording rule was not evaluated, and
// whether there is one.
func firstMissed(ctx context.Context, src column.Source, groups []rules.GroupStatus, began time.Time, window time.Duration) (time.Time, bool, error) {
	first, missed := began, false
	for i := range groups {
		g := &groups[i]
		var names []string
		for j := range g.Rules {
			if !g.Rules[j].Alerting {
				names = append(names, regexp.QuoteMeta(g.Rules[j].Name))
			}
		}
		if len(names) == 0 {
			continue
		}
		last, ever, err := newest(ctx, src, names, began.Add(-window), began)
		if err != nil {
			return first, false, fmt.Errorf("look for the last samples of the rules of group %s: %w", g.Name, err)
		}
		if !ever { // rules that are new, or whose expressions give nothing
			continue
		}
		if began.Sub(last) > g.Interval+g.QueryOffset && last.Before(first) {
			first, missed = last, true
		}
	}
	return first, missed, nil
}

// idleFor is how long before the range that is made up for rules must have given something: they gave something when the
// server stopped.
const idleFor = 24 * time.Hour

// newest returns the time of the newest sample of metrics within a range, its beginning if there is none, and whether
// there is one there or shortly before.
func newest(ctx context.Context, src column.Source, names []string, from, to time.Time) (_ time.Time, ever bool, err error) {
	m, err := labels.NewMatcher(labels.MatchRegexp, model.MetricNameLabel, strings.Join(names, "|"))
	if err != nil {
		return from, false, err
	}
	view, err := src.View(from.Add(-idleFor).UnixMilli(), to.UnixMilli())
	if err != nil {
		return from, false, err
	}
	defer func() {
		if cerr := view.Close(); err == nil {
			err = cerr
		}
	}()
	set, err := view.Series(ctx, []*labels.Matcher{m}, column.Hint{})
	if err != nil || set.N == 0 {
		return from, false, err
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	last := from.UnixMilli()
	var b column.Block
	defer b.Free()
	for len(ids) > 0 {
		n, err := view.Scan(ctx, set, ids, column.Need{MinT: from.UnixMilli(), MaxT: to.UnixMilli()}, &b)
		if err != nil {
			return from, true, err
		}
		for _, t := range b.T {
			last = max(last, t)
		}
		ids = ids[n:]
	}
	return time.UnixMilli(last).UTC(), true, nil
}
