// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
)

// Backfill fills recording rules in over the past. It is implemented by *backtest.Filler.
type Backfill interface {
	Begin(what string, c rules.Config, start, end time.Time) (backtest.Job, error)
	Jobs() []backtest.Job
	Cancel(id string) bool
}

// backfillRequest is what POST /admin/tidemark/backfill takes.
type backfillRequest struct {
	Rules    string `json:"rules"` // the text of a rule file; empty: the rules in use
	Start    string `json:"start"`
	End      string `json:"end"`      // empty: now
	Interval string `json:"interval"` // of groups that set none; empty: one minute
}

// backfill lists the jobs, or begins one.
func (a *API) backfill(r *http.Request) (answer, error) {
	if a.src.Backfill == nil {
		return answer{}, &apiError{errUnavailable, errors.New("this server has no rules to fill in")}
	}
	if r.Method != http.MethodPost {
		return answer{data: map[string]any{"jobs": a.src.Backfill.Jobs()}}, nil
	}
	if _, err := a.admin(); err != nil {
		return answer{}, err
	}
	var req backfillRequest
	dec := json.NewDecoder(io.LimitReader(r.Body, maxRulesBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return answer{}, badData("the body must be a JSON object with start, and end and rules where they are needed: %w", err)
	}
	start, err := parseTime(req.Start)
	if err != nil {
		return answer{}, badParam("start", err)
	}
	end := a.now()
	if req.End != "" {
		if end, err = parseTime(req.End); err != nil {
			return answer{}, badParam("end", err)
		}
	}
	what, c, err := a.backfillRules(&req)
	if err != nil {
		return answer{}, err
	}
	job, err := a.src.Backfill.Begin(what, c, start, end)
	switch {
	case errors.Is(err, backtest.ErrTooManyJobs) || errors.Is(err, backtest.ErrClosed):
		return answer{}, &apiError{errNotNow, err}
	case err != nil:
		return answer{}, badData("%w", err)
	}
	return answer{data: job}, nil
}

// backfillRules returns the rules that a request means, and what they are.
func (a *API) backfillRules(req *backfillRequest) (string, rules.Config, error) {
	if req.Rules != "" {
		c := rules.Config{Files: []string{"rules"}, Read: reader(req.Rules), ExternalLabels: a.externalLabels()}
		if req.Interval != "" {
			d, err := parseDuration(req.Interval)
			if err != nil || d <= 0 {
				return "", c, badParam("interval", errors.Join(err, errors.New("it must be a positive duration")))
			}
			c.Interval = d
		}
		return "rules of the request", c, nil
	}
	if a.src.RulesInUse == nil {
		return "", rules.Config{}, badData("no rules are in use: send some")
	}
	c, err := a.src.RulesInUse()
	if err != nil {
		return "", c, &apiError{errInternal, err}
	}
	return "rules in use", c, nil
}

// cancelBackfill ends a job.
func (a *API) cancelBackfill(r *http.Request) (answer, error) {
	if _, err := a.admin(); err != nil {
		return answer{}, err
	}
	id := r.FormValue("id")
	if a.src.Backfill == nil || !a.src.Backfill.Cancel(id) {
		return answer{}, &apiError{errNotFound, fmt.Errorf("no job with id %q is running: it may have ended", id)}
	}
	return answer{data: map[string]string{"canceled": id}}, nil
}
