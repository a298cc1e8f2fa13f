// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/limits"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/web/api"
)

// newLimits makes the gate that the store asks before it makes a series.
func (s *server) newLimits(p *parts) (err error) {
	p.limits, err = limits.New(limits.Options{
		Store: limitsStore{s.db}, Account: s.memory.Child("series limits", 0),
		Registerer: s.registry, Logger: s.log.With("component", "series limits"),
	})
	if err != nil {
		return err
	}
	s.db.SetGate(p.limits)
	return nil
}

// applyLimits makes the limits those of c.
func (s *server) applyLimits(c *config.Config) {
	rules := make([]limits.Rule, 0, len(c.Tidemark.SeriesLimits))
	for _, l := range c.Tidemark.SeriesLimits {
		r := limits.Rule{Name: l.Name, Label: l.Per, Max: autoSeries(s.memory.Limit()), Refuse: l.Action == "reject_new"}
		if l.Per == "total" {
			r.Label = ""
		}
		if !l.Max.Auto {
			r.Max = int(min(l.Max.N, math.MaxInt))
		}
		rules = append(rules, r)
	}
	s.parts.limits.Apply(rules)
}

// Of memory.limit autoPercent is for what the store and the ways in keep of a series as long as it is in the head. The
// rest is for its samples until they are spilled, queries, requests, caches and the Go runtime.
const (
	autoPercent = 50
	// seriesBytes is header, footer and open chunk of a series, its labels, what the index has of them and its entry in the
	// table of keys, where every series has a label value of 36 bytes of its own, as an explosion has.
	seriesBytes = 640
)

// autoSeries is how many series so many bytes of memory hold; without a limit there is none on series.
func autoSeries(memory int64) int {
	if memory <= 0 {
		return math.MaxInt
	}
	return int(max(memory/100*autoPercent/seriesBytes, 1))
}

// limitsStore is the store in the words of the limits.
type limitsStore struct{ *tsdb.DB }

// TopValues returns the values of a label that the most series have.
func (s limitsStore) TopValues(name string, limit int) []limits.Value {
	top := s.DB.TopValues(name, limit)
	out := make([]limits.Value, len(top))
	for i, x := range top {
		out[i] = limits.Value{Value: x.Name, Series: int(x.Value)}
	}
	return out
}

// conditionSeriesLimit is the code of the state in which new series are refused, or told of.
const conditionSeriesLimit = "series_limit"

// limitConditions is that state, if it holds: one entry for all limits that are reached.
func (s *server) limitConditions() []api.Condition {
	var out []api.Condition
	for _, r := range s.parts.limits.Reached() {
		if len(out) == 0 {
			out = append(out, api.Condition{
				Code: conditionSeriesLimit, Since: r.Since,
				NextStep: "find what makes the series (GET /api/v1/status/series_limits) and stop it, or raise the limit (series_limits) and reload",
			})
		} else {
			out[0].Effect += "; "
		}
		if c := &out[0]; r.Since.Before(c.Since) {
			c.Since = r.Since
		}
		out[0].Effect += r.Effect
	}
	return out
}
