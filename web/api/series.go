// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// selection is what the label and series endpoints are asked about.
type selection struct {
	span
	limit int
	sets  [][]*labels.Matcher
}

// selectionParams reads limit, start, end and match[], in this order, which decides whose fault is reported.
func (a *API) selectionParams(r *http.Request) (selection, error) {
	limit, err := limitParam(r)
	if err != nil {
		return selection{}, err
	}
	sp, err := spanParams(r)
	if err != nil {
		return selection{}, err
	}
	sets, err := a.matcherSets(r.Form["match[]"])
	if err != nil {
		return selection{}, &apiError{errBadData, err}
	}
	return selection{span: sp, limit: limit, sets: sets}, nil
}

func (a *API) labelNames(r *http.Request) (answer, error) {
	sel, err := a.selectionParams(r)
	if err != nil {
		return answer{}, err
	}
	return a.labelList(r.Context(), sel, func(ctx context.Context, q storage.Querier, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, &storage.LabelHints{Limit: oneMore(sel.limit)}, ms...)
	})
}

func (a *API) labelValues(r *http.Request) (answer, error) {
	name := mux.Vars(r)["name"]
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return answer{}, badData("invalid label name: %q", name)
	}
	sel, err := a.selectionParams(r)
	if err != nil {
		return answer{}, err
	}
	return a.labelList(r.Context(), sel, func(ctx context.Context, q storage.Querier, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, &storage.LabelHints{Limit: oneMore(sel.limit)}, ms...)
	})
}

type labelLister func(context.Context, storage.Querier, []*labels.Matcher) ([]string, annotations.Annotations, error)

// labelList answers the union of what get lists for each matcher set, sorted and cut to the limit.
func (a *API) labelList(ctx context.Context, sel selection, get labelLister) (_ answer, err error) {
	q, err := a.data.Querier(sel.mint, sel.maxt)
	if err != nil {
		return answer{}, classify(err)
	}
	defer a.closeQuerier(q)
	sets := sel.sets
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	var found []string
	var warnings annotations.Annotations
	for _, ms := range sets {
		some, ws, err := get(ctx, q, ms)
		if err != nil {
			return answer{}, classify(err)
		}
		warnings.Merge(ws)
		found = append(found, some...)
	}
	if len(sets) > 1 {
		slices.Sort(found)
		found = slices.Compact(found)
	}
	if sel.limit > 0 && len(found) > sel.limit {
		found = found[:sel.limit]
		warnings.Add(errTruncated)
	}
	return answer{data: list(found), warnings: warnings}, nil
}

func (a *API) series(r *http.Request) (answer, error) {
	if err := r.ParseForm(); err != nil {
		return answer{}, badData("error parsing form values: %w", err)
	}
	if len(r.Form["match[]"]) == 0 {
		return answer{}, badData("no match[] parameter provided")
	}
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	sp, err := spanParams(r)
	if err != nil {
		return answer{}, err
	}
	sets, err := a.matcherSets(r.Form["match[]"])
	if err != nil {
		return answer{}, badParam("match[]", err)
	}
	q, err := a.data.Querier(sp.mint, sp.maxt)
	if err != nil {
		return answer{}, classify(err)
	}
	defer a.closeQuerier(q)
	hints := &storage.SelectHints{Start: sp.mint, End: sp.maxt, Func: "series", Limit: oneMore(limit)}
	found := selectAll(r.Context(), q, hints, sets)
	out := []labels.Labels{}
	warnings := found.Warnings()
	for found.Next() {
		if limit > 0 && len(out) == limit {
			warnings.Add(errTruncated)
			break
		}
		out = append(out, found.At().Labels())
	}
	if err := found.Err(); err != nil {
		return answer{}, classify(err)
	}
	return answer{data: out, warnings: warnings}, nil
}

// selectAll returns the series that match any of sets, each once, in label order.
func selectAll(ctx context.Context, q storage.Querier, hints *storage.SelectHints, sets [][]*labels.Matcher) storage.SeriesSet {
	found := make([]storage.SeriesSet, len(sets))
	for i, ms := range sets {
		found[i] = q.Select(ctx, true, hints, ms...)
	}
	if len(found) == 1 {
		return found[0]
	}
	return storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
}

func (a *API) closeQuerier(q storage.Querier) {
	if err := q.Close(); err != nil {
		a.log.Warn("view of the store not closed", "err", err)
	}
}

// familyMetadata describes a metric family.
type familyMetadata struct {
	Type model.MetricType `json:"type"`
	Unit string           `json:"unit"`
	Help string           `json:"help"`
}

func (a *API) metricMetadata(r *http.Request) (answer, error) {
	limit, err := intParam(r, "limit")
	if err != nil {
		return answer{}, err
	}
	perMetric, err := intParam(r, "limit_per_metric")
	if err != nil {
		return answer{}, err
	}
	families := families{}
	metric := r.FormValue("metric")
	if a.src.Targets != nil {
		families.addScraped(a.src.Targets, metric)
	}
	if err := families.addStored(r.Context(), a.src.Data, metric); err != nil {
		return answer{}, classify(err)
	}
	names := slices.Sorted(maps.Keys(families))
	if limit >= 0 && len(names) > limit {
		names = names[:limit]
	}
	out := make(map[string][]familyMetadata, len(names))
	for _, name := range names {
		ms := families[name]
		if perMetric > 0 && len(ms) > perMetric {
			ms = ms[:perMetric]
		}
		out[name] = ms
	}
	return answer{data: out}, nil
}

func (a *API) targetMetadata(r *http.Request) (answer, error) {
	limit, err := intParam(r, "limit")
	if err != nil {
		return answer{}, err
	}
	var ms []*labels.Matcher
	if s := r.FormValue("match_target"); s != "" {
		if ms, err = a.parser.ParseMetricSelector(s); err != nil {
			return answer{}, badParam("match_target", fmt.Errorf("%w", err))
		}
	}
	return answer{data: a.scrapedMetadata(ms, r.FormValue("metric"), limit)}, nil
}
