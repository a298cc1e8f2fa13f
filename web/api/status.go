// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/util/annotations"
)

func (a *API) statusConfig(*http.Request) (answer, error) {
	var text yamlText
	if a.src.Config != nil {
		text.YAML = a.src.Config()
	}
	return answer{data: text}, nil
}

func (a *API) statusFlags(*http.Request) (answer, error) {
	flags := a.src.Flags
	if flags == nil {
		flags = map[string]string{}
	}
	return answer{data: flags}, nil
}

func (a *API) statusRuntime(*http.Request) (answer, error) {
	if a.src.Runtime == nil {
		return answer{}, errors.New("this server does not describe its process")
	}
	return answer{data: a.src.Runtime()}, nil
}

func (a *API) statusBuild(*http.Request) (answer, error) {
	return answer{data: a.src.Build}, nil
}

func (a *API) features(*http.Request) (answer, error) {
	features := map[string]map[string]bool{}
	if a.src.Features != nil {
		features = a.src.Features()
	}
	return answer{data: features}, nil
}

// notifications answers none: what is wrong with the server is under /status/conditions.
func (*API) notifications(*http.Request) (answer, error) {
	return answer{data: []string{}}, nil
}

// The limits of the lists of /status/tsdb.
const (
	defaultStatsLimit = 10
	maxStatsLimit     = 10000
)

func (a *API) statusTSDB(r *http.Request) (answer, error) {
	limit := defaultStatsLimit
	if s := r.FormValue("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return answer{}, badData("limit must be a positive number")
		}
		if n > maxStatsLimit {
			return answer{}, badData("limit must not exceed %d", maxStatsLimit)
		}
		limit = n
	}
	if a.src.Store == nil {
		return answer{}, errors.New("this server does not describe its store")
	}
	stats, warnings, err := a.storeStats(r, limit)
	if err != nil {
		return answer{}, err
	}
	for _, list := range []*[]Count{
		&stats.SeriesCountByMetricName, &stats.LabelValueCountByLabelName, &stats.MemoryInBytesByLabelName,
		&stats.SeriesCountByLabelValuePair,
	} {
		if *list == nil {
			*list = []Count{}
		}
	}
	return answer{data: stats, warnings: warnings}, nil
}

// storeStats returns figures of the head, as Prometheus does, or, where the request says of what, of a range of time and
// of the series that selectors match.
func (a *API) storeStats(r *http.Request, limit int) (StoreStats, annotations.Annotations, error) {
	if !slices.ContainsFunc([]string{"start", "end", "match[]"}, r.Form.Has) {
		stats, err := a.src.Store.Stats(limit)
		if err != nil {
			err = changeError(err)
		}
		return stats, nil, err
	}
	sp, err := spanParams(r)
	if err != nil {
		return StoreStats{}, nil, err
	}
	if sp.maxt < sp.mint {
		return StoreStats{}, nil, badParam("end", errors.New("end timestamp must not be before start time"))
	}
	sets, err := a.matcherSets(r.Form["match[]"])
	if err != nil {
		return StoreStats{}, nil, badParam("match[]", err)
	}
	stats, warnings, err := a.src.Store.StatsOf(r.Context(), StatsQuery{MinTime: sp.mint, MaxTime: sp.maxt, Sets: sets, Limit: limit})
	return stats, warnings, classify(err)
}

func (a *API) statusBlocks(*http.Request) (answer, error) {
	blocks := []Block{}
	if a.src.Store != nil {
		blocks = append(blocks, a.src.Store.Blocks()...)
	}
	return answer{data: map[string][]Block{"blocks": blocks}}, nil
}

func (a *API) statusReplay(*http.Request) (answer, error) {
	var replay Replay
	if a.src.Store != nil {
		replay = a.src.Store.Replay()
	}
	return answer{data: replay}, nil
}

func (a *API) statusConditions(*http.Request) (answer, error) {
	conditions := []Condition{}
	if a.src.Conditions != nil {
		conditions = append(conditions, a.src.Conditions()...)
	}
	return answer{data: conditions}, nil
}

func (a *API) statusRejected(*http.Request) (answer, error) {
	if a.src.Rejected == nil {
		return answer{data: []struct{}{}}, nil
	}
	return answer{data: a.src.Rejected()}, nil
}

func (a *API) statusSeriesLimits(*http.Request) (answer, error) {
	if a.src.SeriesLimits == nil {
		return answer{data: []struct{}{}}, nil
	}
	return answer{data: a.src.SeriesLimits()}, nil
}
