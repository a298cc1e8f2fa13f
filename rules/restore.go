// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// lastSample is the newest sample of one ALERTS_FOR_STATE series: when the alert was last known to be active,
// and since when it was.
type lastSample struct {
	at, activeAt time.Time
	stale        bool
}

// restoreFromSeries moves the for-timers of pending alerts back to where ALERTS_FOR_STATE says they were, and
// lets the rules write their series from now on. It is the way back for alerts without a state file; a rule
// whose `for` is shorter than the grace period starts anew, as waiting for it costs less than the grace.
func (g *group) restoreFromSeries(ctx context.Context, now time.Time) {
	start := time.Now()
	defer func() {
		g.restoreSeries = false
		g.metrics.restoreDuration.Set(time.Since(start).Seconds())
	}()
	for _, r := range g.rules {
		if r.alerts == nil || r.alerts.restored {
			continue
		}
		var found map[string]lastSample
		if g.opts.Source != nil && r.alerts.hold >= g.opts.ForGracePeriod {
			var err error
			if found, err = g.forStateOf(ctx, r, now); err != nil {
				// There is no second try: the alert fires after its full `for` from now.
				g.logger.Error("restoring for-timers from "+forStateMetric+" went wrong", "alert", r.name, "err", err)
			}
		}
		r.restoreTimers(found, now, g.opts.ForGracePeriod)
	}
}

// restoreTimers applies the newest ALERTS_FOR_STATE samples to the alerts of a rule.
func (r *rule) restoreTimers(found map[string]lastSample, now time.Time, grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.alerts.active {
		s, ok := found[a.labels.String()]
		if !ok || s.stale {
			continue
		}
		remaining := r.alerts.hold - s.at.Sub(s.activeAt)
		switch {
		case remaining <= 0: // it was firing, and fires at the next evaluation that returns it
			a.activeAt = s.activeAt
		case remaining < grace: // fires when the grace is over, not before
			a.activeAt = now.Add(grace).Add(-r.alerts.hold)
		default: // the time that the server was down does not count
			a.activeAt = s.activeAt.Add(now.Sub(s.at))
		}
	}
	r.alerts.restored = true
}

// forStateOf returns the newest sample of each ALERTS_FOR_STATE series of a rule, by the alert's labels.
func (g *group) forStateOf(ctx context.Context, r *rule, now time.Time) (map[string]lastSample, error) {
	mint, maxt := millis(now.Add(-g.opts.OutageTolerance)), millis(now)
	view, err := g.opts.Source.View(mint, maxt)
	if err != nil {
		return nil, err
	}
	found, err := readForState(ctx, view, forStateMatchers(r))
	if closeErr := view.Close(); err == nil {
		err = closeErr
	}
	return found, err
}

// forStateMatchers selects the series of a rule. Labels with templates are left out: the series have what the
// templates gave.
func forStateMatchers(r *rule) []*labels.Matcher {
	equal := func(name, value string) *labels.Matcher {
		return &labels.Matcher{Type: labels.MatchEqual, Name: name, Value: value}
	}
	ms := []*labels.Matcher{equal(model.MetricNameLabel, forStateMetric), equal(model.AlertNameLabel, r.name)}
	r.labels.Range(func(l labels.Label) {
		if l.Name != model.AlertNameLabel && !strings.Contains(l.Value, "{{") {
			ms = append(ms, equal(l.Name, l.Value))
		}
	})
	return ms
}

func readForState(ctx context.Context, view column.View, ms []*labels.Matcher) (map[string]lastSample, error) {
	set, err := view.Series(ctx, ms, column.Hint{})
	if err != nil {
		return nil, err
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	found := make(map[string]lastSample, set.N)
	lb := labels.NewBuilder(labels.EmptyLabels())
	sb := labels.NewScratchBuilder(len(set.Names))
	var block column.Block
	for len(ids) > 0 {
		n, err := view.Scan(ctx, set, ids, column.Need{}, &block)
		if err != nil {
			return nil, err
		}
		for i, id := range ids[:n] {
			from, to := block.Rows(i)
			if from == to || block.KindAt(to-1) != sample.Float {
				continue
			}
			lb.Reset(set.Labels(id, &sb))
			lb.Del(model.MetricNameLabel)
			v := block.V[to-1]
			found[lb.Labels().String()] = lastSample{
				at:       time.UnixMilli(block.T[to-1]).UTC(),
				activeAt: time.Unix(int64(v), 0).UTC(),
				stale:    value.IsStaleNaN(v),
			}
		}
		ids = ids[n:]
	}
	return found, nil
}
