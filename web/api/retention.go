// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Keeper tells what is kept, and brings back what was deleted.
type Keeper interface {
	// Deletes lists the deletes of which something is left to purge.
	Deletes() []DeleteEntry
	// Undelete brings back what a delete hides; ErrNoDelete and ErrFinalDelete say why it does not.
	Undelete(ctx context.Context, id uint64) error
	// Retention returns the settings in force, and Report what of each block would go by other ones.
	Retention() RetentionSettings
	Report(ctx context.Context, s RetentionSettings) ([]RetentionPart, error)
}

var (
	// ErrNoDelete says that there is no such delete.
	ErrNoDelete = errors.New("there is no such delete, or nothing is left of it")
	// ErrFinalDelete says that a delete cannot be undone any more.
	ErrFinalDelete = errors.New("the delete is final: its samples are being purged, or are purged")
)

// DeleteEntry is a delete of which something is left to purge.
type DeleteEntry struct {
	ID      uint64    `json:"id,string"`
	At      time.Time `json:"at"`
	MinTime int64     `json:"minTime"` // Unix milliseconds
	MaxTime int64     `json:"maxTime"` // Unix milliseconds, inclusive
	Match   string    `json:"match"`
	Series  int       `json:"series"`
	// Undoable: it can be undone.
	Undoable bool `json:"undoable"`
}

// RetentionSettings are how long and how much is kept.
type RetentionSettings struct {
	Time     time.Duration // 0: for ever
	Size     int64         // bytes; 0: no limit
	Policies []RetentionPolicy
}

// RetentionPolicy is how long series are kept that match.
type RetentionPolicy struct {
	Name  string
	Match []*labels.Matcher
	Keep  time.Duration
}

// RetentionPart is what a block holds of one policy, and why it would go: "time", "size", or not at all.
type RetentionPart struct {
	Block   string `json:"block"`
	Policy  string `json:"policy"`
	MinTime int64  `json:"minTime"` // Unix milliseconds
	MaxTime int64  `json:"maxTime"` // Unix milliseconds, inclusive
	Series  int    `json:"series"`
	Samples uint64 `json:"samples"`
	Bytes   int64  `json:"bytes"`
	Goes    string `json:"goes,omitempty"`
	// Prometheus: a block of the Prometheus that had the data path, which is not converted yet.
	Prometheus bool `json:"prometheus,omitempty"`
}

// retentionSum is what the parts of one policy come to.
type retentionSum struct {
	Policy string `json:"policy"`
	Keep   string `json:"keep"` // empty: for ever
	// Kept and Goes are what stays and what would go now.
	Kept retentionAmount `json:"kept"`
	Goes retentionAmount `json:"goes"`
}

type retentionAmount struct {
	Blocks  int    `json:"blocks"`
	Samples uint64 `json:"samples"`
	Bytes   int64  `json:"bytes"`
}

func (a *retentionAmount) add(p RetentionPart) {
	a.Blocks++
	a.Samples += p.Samples
	a.Bytes += p.Bytes
}

// keeper returns what keeps the samples, or the error of a server where changing it is off.
func (a *API) keeper() (Keeper, error) {
	if _, err := a.admin(); err != nil {
		return nil, err
	}
	if a.src.Keeper == nil {
		return nil, &apiError{errUnavailable, errors.New("this server has no store to ask")}
	}
	return a.src.Keeper, nil
}

func (a *API) deletes(*http.Request) (answer, error) {
	k, err := a.keeper()
	if err != nil {
		return answer{}, err
	}
	list := k.Deletes()
	if list == nil {
		list = []DeleteEntry{}
	}
	return answer{data: list}, nil
}

func (a *API) undelete(r *http.Request) (answer, error) {
	k, err := a.keeper()
	if err != nil {
		return answer{}, err
	}
	id, err := strconv.ParseUint(r.FormValue("id"), 10, 64)
	if err != nil {
		return answer{}, badParam("id", errors.New("not the id of a delete, as /admin/tidemark/deletes lists them"))
	}
	switch err := k.Undelete(r.Context(), id); {
	case errors.Is(err, ErrNoDelete):
		return answer{}, &apiError{errNotFound, err}
	case errors.Is(err, ErrFinalDelete):
		return answer{}, &apiError{errBadData, err}
	case err != nil:
		return answer{}, changeError(err)
	}
	return answer{}, nil
}

// retention answers what of each block is of which policy and what would go now, by the settings in force, or by those of
// the request. It changes nothing.
func (a *API) retention(r *http.Request) (answer, error) {
	k, err := a.keeper()
	if err != nil {
		return answer{}, err
	}
	s, err := a.retentionParams(r, k.Retention())
	if err != nil {
		return answer{}, err
	}
	parts, err := k.Report(r.Context(), s)
	if err != nil {
		return answer{}, changeError(err)
	}
	if parts == nil {
		parts = []RetentionPart{}
	}
	return answer{data: map[string]any{"policies": sumUp(s, parts), "blocks": parts}}, nil
}

// sumUp adds up the parts of each policy; those that no policy matches come last.
func sumUp(s RetentionSettings, parts []RetentionPart) []retentionSum {
	sums := make([]retentionSum, len(s.Policies)+1)
	for i, p := range s.Policies {
		sums[i].Policy, sums[i].Keep = p.Name, model.Duration(p.Keep).String()
	}
	if s.Time > 0 {
		sums[len(s.Policies)].Keep = model.Duration(s.Time).String()
	}
	for _, p := range parts {
		for i := range sums {
			if sums[i].Policy != p.Policy {
				continue
			}
			if p.Goes != "" {
				sums[i].Goes.add(p)
			} else {
				sums[i].Kept.add(p)
			}
		}
	}
	return sums
}

// retentionParams reads the settings of a request; what it does not say is as it is in force.
func (a *API) retentionParams(r *http.Request, s RetentionSettings) (RetentionSettings, error) {
	if text := r.FormValue("time"); text != "" {
		d, err := model.ParseDuration(text)
		if err != nil {
			return s, badParam("time", err)
		}
		s.Time = time.Duration(d)
	}
	if text := r.FormValue("size"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return s, badParam("size", fmt.Errorf("%q is not a number of bytes", text))
		}
		s.Size = n
	}
	texts := r.Form["policy"]
	if len(texts) == 0 {
		return s, nil
	}
	s.Policies = nil
	for _, text := range texts {
		var p struct {
			Name  string         `json:"name"`
			Match string         `json:"match"`
			Keep  model.Duration `json:"keep"`
		}
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return s, badParam("policy", err)
		}
		ms, err := a.parser.ParseMetricSelector(p.Match)
		if err != nil {
			return s, badParam("policy", err)
		}
		if p.Name == "" || p.Keep <= 0 {
			return s, badParam("policy", fmt.Errorf("%s needs a name and a time to keep", text))
		}
		s.Policies = append(s.Policies, RetentionPolicy{Name: p.Name, Match: ms, Keep: time.Duration(p.Keep)})
	}
	return s, nil
}
