// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tidemarkdb/tidemark/query"
)

// Queries knows what the engine does now and what it did before. It is implemented by *query.Engine.
type Queries interface {
	// Active lists the queries that wait or run, the oldest first.
	Active() []query.Active
	// Cancel ends a query and tells whether there was one of that ID.
	Cancel(id uint64) bool
	// Top lists what was asked for so far, by texts, the largest in an order first.
	Top(by query.TopOrder, n int) []query.Top
}

// activeQuery is an entry of /status/active_queries.
type activeQuery struct {
	ID       string         `json:"id"`
	Query    string         `json:"query"`
	State    string         `json:"state"` // queued or running
	Source   string         `json:"source"`
	Since    time.Time      `json:"since"`
	Duration float64        `json:"durationSeconds"`
	Start    time.Time      `json:"start"`
	End      time.Time      `json:"end"`
	Step     float64        `json:"stepSeconds"`
	Memory   int64          `json:"memoryBytes"`
	Peak     int64          `json:"peakMemoryBytes"`
	Samples  int64          `json:"samplesRead"`
	Origin   map[string]any `json:"origin,omitempty"`
}

func (a *API) activeQueries(*http.Request) (answer, error) {
	out := []activeQuery{}
	if a.src.Queries == nil {
		return answer{data: out}, nil
	}
	now := a.now()
	for _, q := range a.src.Queries.Active() {
		state := "queued"
		if q.Running {
			state = "running"
		}
		out = append(out, activeQuery{
			ID: strconv.FormatUint(q.ID, 10), Query: q.Query, State: state, Source: sourceOf(q.Rules),
			Since: q.Since, Duration: now.Sub(q.Since).Seconds(), Start: q.Start, End: q.End, Step: q.Step.Seconds(),
			Memory: q.Memory, Peak: q.Peak, Samples: q.Samples, Origin: q.Origin,
		})
	}
	return answer{data: out}, nil
}

func sourceOf(rules bool) string {
	if rules {
		return "rules"
	}
	return "api"
}

func (a *API) cancelQuery(r *http.Request) (answer, error) {
	id, err := strconv.ParseUint(r.FormValue("id"), 10, 64)
	if err != nil {
		return answer{}, badParam("id", errors.New("it must be the id of a query listed under /api/v1/status/active_queries"))
	}
	if a.src.Queries == nil || !a.src.Queries.Cancel(id) {
		return answer{}, &apiError{errNotFound, fmt.Errorf("no query with id %d is active: it may have ended", id)}
	}
	return answer{data: map[string]string{"canceled": strconv.FormatUint(id, 10)}}, nil
}

// topQuery is an entry of /status/top_queries.
type topQuery struct {
	Query   string    `json:"query"`
	Source  string    `json:"source"`
	Range   float64   `json:"rangeSeconds"`
	Count   int64     `json:"count"`
	Failed  int64     `json:"failed"`
	Wall    float64   `json:"seconds"`
	Average float64   `json:"averageSeconds"`
	Slowest float64   `json:"slowestSeconds"`
	Peak    int64     `json:"peakMemoryBytes"`
	Samples int64     `json:"samplesRead"`
	Last    time.Time `json:"last"`
}

// The limits of the list of /status/top_queries.
const (
	defaultTopLimit = 20
	maxTopLimit     = 2000
)

func (a *API) topQueries(r *http.Request) (answer, error) {
	by := query.TopOrder(r.FormValue("by"))
	switch by {
	case query.TopWall, query.TopAverage, query.TopMemory, query.TopCount, query.TopSamples:
	case "":
		by = query.TopWall
	default:
		return answer{}, badParam("by", fmt.Errorf("%q is not one of time, average, memory, count, samples", by))
	}
	limit := defaultTopLimit
	if s := r.FormValue("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxTopLimit {
			return answer{}, badParam("limit", fmt.Errorf("%q is not a number from 1 to %d", s, maxTopLimit))
		}
		limit = n
	}
	out := []topQuery{}
	if a.src.Queries != nil {
		for _, t := range a.src.Queries.Top(by, limit) {
			out = append(out, topQuery{
				Query: t.Query, Source: sourceOf(t.Rules), Range: t.Range.Seconds(), Count: t.Count, Failed: t.Failed,
				Wall: t.Wall.Seconds(), Average: t.Wall.Seconds() / float64(max(t.Count, 1)), Slowest: t.Slowest.Seconds(),
				Peak: t.Peak, Samples: t.Samples, Last: t.Last,
			})
		}
	}
	return answer{data: out}, nil
}
