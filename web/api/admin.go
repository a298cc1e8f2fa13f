// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
)

// admin returns what changes the store, or the error of a server where that is off.
func (a *API) admin() (Admin, error) {
	if !a.opts.EnableAdmin {
		return nil, &apiError{errUnavailable, errors.New("admin APIs disabled")}
	}
	if a.src.Admin == nil {
		return nil, &apiError{errUnavailable, errors.New("this server has no store to change")}
	}
	return a.src.Admin, nil
}

func (a *API) deleteSeries(r *http.Request) (answer, error) {
	admin, err := a.admin()
	if err != nil {
		return answer{}, err
	}
	if err := r.ParseForm(); err != nil {
		return answer{}, badData("error parsing form values: %w", err)
	}
	if len(r.Form["match[]"]) == 0 {
		return answer{}, badData("no match[] parameter provided")
	}
	sp, err := spanParams(r)
	if err != nil {
		return answer{}, err
	}
	// All selectors are read before anything is deleted.
	sets := make([][]*labels.Matcher, len(r.Form["match[]"]))
	for i, s := range r.Form["match[]"] {
		if sets[i], err = a.parser.ParseMetricSelector(s); err != nil {
			return answer{}, badParam("match[]", err)
		}
	}
	for _, ms := range sets {
		if err := admin.Delete(r.Context(), sp.mint, sp.maxt, ms...); err != nil {
			return answer{}, changeError(err)
		}
	}
	return answer{}, nil
}

func (a *API) cleanTombstones(r *http.Request) (answer, error) {
	admin, err := a.admin()
	if err != nil {
		return answer{}, err
	}
	if err := admin.CleanTombstones(r.Context()); err != nil {
		return answer{}, changeError(err)
	}
	return answer{}, nil
}

func (a *API) snapshot(r *http.Request) (answer, error) {
	admin, err := a.admin()
	if err != nil {
		return answer{}, err
	}
	skipHead := false
	if s := r.FormValue("skip_head"); s != "" {
		if skipHead, err = strconv.ParseBool(s); err != nil {
			return answer{}, badParam("skip_head", fmt.Errorf("unable to parse boolean: %w", err))
		}
	}
	name, err := admin.Snapshot(r.Context(), skipHead)
	if err != nil {
		return answer{}, changeError(fmt.Errorf("create snapshot: %w", err))
	}
	return answer{data: map[string]string{"name": name}}, nil
}

// changeError keeps the class of an error that a store in trouble answers; every other one is internal.
func changeError(err error) error {
	var typed *apiError
	if errors.As(classify(err), &typed) && (typed.typ == errNotNow || typed.typ == errCanceled) {
		return typed
	}
	return &apiError{errInternal, err}
}
