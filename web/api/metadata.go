// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// families are the distinct descriptions known of each metric family.
type families map[string][]familyMetadata

func (f families) add(name string, m familyMetadata) {
	if !slices.Contains(f[name], m) {
		f[name] = append(f[name], m)
	}
}

// addScraped adds what the targets said in their last scrapes; of one metric where it is not empty.
func (f families) addScraped(targets Targets, metric string) {
	for _, list := range targets.TargetsActive() {
		for _, t := range list {
			eachMetadata(t, metric, func(m scrape.MetricMetadata) {
				f.add(m.MetricFamily, familyMetadata{Type: m.Type, Unit: m.Unit, Help: m.Help})
			})
		}
	}
}

// addStored adds what the store keeps, which covers what no target scraped: remote write and rules.
func (f families) addStored(ctx context.Context, src column.Source, metric string) (err error) {
	view, err := src.View(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	reader, ok := view.(column.MetadataReader)
	if !ok {
		return nil
	}
	for name, list := range reader.Metadata(ctx, metric) {
		for _, m := range list {
			f.add(name, familyMetadata{Type: m.Type, Unit: m.Unit, Help: m.Help})
		}
	}
	return ctx.Err()
}

// eachMetadata calls yield for the metric families of a target, or for the one of metric where it is not empty.
func eachMetadata(t *scrape.Target, metric string, yield func(scrape.MetricMetadata)) {
	if metric != "" {
		if m, ok := t.GetMetadata(metric); ok {
			yield(m)
		}
		return
	}
	for _, m := range t.ListMetadata() {
		yield(m)
	}
}

// targetFamily is a metric family as one target describes it.
type targetFamily struct {
	Target labels.Labels    `json:"target"`
	Metric string           `json:"metric,omitempty"` // empty where one metric was asked for
	Type   model.MetricType `json:"type"`
	Help   string           `json:"help"`
	Unit   string           `json:"unit"`
}

// scrapedMetadata lists what targets that match ms say. As in Prometheus limit counts targets' worth: the target
// that reaches it is listed whole.
func (a *API) scrapedMetadata(ms []*labels.Matcher, metric string, limit int) []targetFamily {
	out := []targetFamily{}
	if a.src.Targets == nil {
		return out
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	active := a.src.Targets.TargetsActive()
	for _, pool := range sortedKeys(active) {
		for _, t := range active[pool] {
			if limit >= 0 && len(out) >= limit {
				return out
			}
			target := t.Labels(b)
			if !matches(target, ms) {
				continue
			}
			eachMetadata(t, metric, func(m scrape.MetricMetadata) {
				f := targetFamily{Target: target, Metric: m.MetricFamily, Type: m.Type, Help: m.Help, Unit: m.Unit}
				if metric != "" {
					f.Metric = ""
				}
				out = append(out, f)
			})
		}
	}
	return out
}
