// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"strconv"

	"github.com/grafana/regexp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/rules"
)

var promCORS = regexp.MustCompile("^(?:.*)$")

// converted shows Prometheus' rule groups in our types.
type converted []*promrules.Group

func (c converted) Groups() []rules.GroupStatus {
	var out []rules.GroupStatus
	for _, g := range c {
		s := rules.GroupStatus{
			Name: g.Name(), File: g.File(), Interval: g.Interval(), Limit: g.Limit(),
			EvaluationTime: g.GetEvaluationTime(), LastEvaluation: g.GetLastEvaluation(),
		}
		for _, r := range g.Rules() {
			s.Rules = append(s.Rules, convertRule(r))
		}
		out = append(out, s)
	}
	return out
}

func convertRule(r promrules.Rule) rules.RuleStatus {
	s := rules.RuleStatus{
		Name: r.Name(), Query: r.Query().String(), Labels: r.Labels(), Health: rules.Health(r.Health()),
		EvaluationTime: r.GetEvaluationDuration(), LastEvaluation: r.GetEvaluationTimestamp(),
	}
	if err := r.LastError(); err != nil {
		s.LastError = err.Error()
	}
	a, ok := r.(*promrules.AlertingRule)
	if !ok {
		return s
	}
	s.Alerting, s.State, s.Hold, s.KeepFiringFor = true, convertState(a.State()), a.HoldDuration(), a.KeepFiringFor()
	s.Annotations = a.Annotations()
	for _, x := range a.ActiveAlerts() {
		s.Alerts = append(s.Alerts, rules.AlertStatus{
			Labels: x.Labels, Annotations: x.Annotations, State: convertState(x.State), ActiveAt: x.ActiveAt,
			KeepFiringSince: x.KeepFiringSince, Value: strconv.FormatFloat(x.Value, 'e', -1, 64),
		})
	}
	return s
}

func convertState(s promrules.AlertState) rules.State {
	switch s {
	case promrules.StateFiring:
		return rules.StateFiring
	case promrules.StatePending:
		return rules.StatePending
	case promrules.StateInactive:
		return rules.StateInactive
	default:
		return rules.StateUnknown
	}
}

func (c converted) Alerts() []rules.AlertStatus {
	var out []rules.AlertStatus
	for _, g := range c.Groups() {
		for _, r := range g.Rules {
			out = append(out, r.Alerts...)
		}
	}
	return out
}

// promGatherer gives Prometheus' handler the one metric it looks up.
type promGatherer struct{}

func (promGatherer) Gather() ([]*dto.MetricFamily, error) {
	name, value := "prometheus_tsdb_head_chunks", 9.0
	return []*dto.MetricFamily{{Name: &name, Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &value}}}}}, nil
}

// discard takes what Prometheus' rule groups write and keeps nothing.
type discard struct{}

func (discard) Appender(context.Context) storage.Appender { return discard{} }

func (discard) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 1, nil
}

func (discard) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 1, nil
}

func (discard) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 1, nil
}

func (discard) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 1, nil
}

func (discard) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 1, nil
}

func (discard) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 1, nil
}
func (discard) SetOptions(*storage.AppendOptions) {}
func (discard) Commit() error                     { return nil }
func (discard) Rollback() error                   { return nil }

type emptyQueryable struct{}

func (emptyQueryable) Querier(int64, int64) (storage.Querier, error) {
	return storage.NoopQuerier(), nil
}

func groupNamed(file, name string) rules.GroupStatus {
	return rules.GroupStatus{File: file, Name: name}
}
