// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// metrics are the counters that Prometheus has, by its names, and ours.
type metrics struct {
	evalDuration, iterationDuration                   prometheus.Summary
	evalDurationHistogram, iterationDurationHistogram prometheus.Histogram
	missed, scheduled, evals, failures                *prometheus.CounterVec
	groupInterval, lastEvaluation, lastDuration       *prometheus.GaugeVec
	ruleDurationSum, restoreDuration, rules, samples  *prometheus.GaugeVec
	rejected                                          *prometheus.CounterVec
	stateWrites, stateFailures                        prometheus.Counter
}

const groupLabel = "rule_group"

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{groupLabel})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{groupLabel})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.01, .1, 1, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			NativeHistogramMinResetDuration: time.Hour,
		})
	}
	m := &metrics{
		evalDuration: prometheus.NewSummary(prometheus.SummaryOpts{
			Name: "prometheus_rule_evaluation_duration_seconds", Help: "How long a rule took to evaluate.",
			Objectives: map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001},
		}),
		iterationDuration: prometheus.NewSummary(prometheus.SummaryOpts{
			Name: "prometheus_rule_group_duration_seconds", Help: "How long a rule group took to evaluate.",
			Objectives: map[float64]float64{0.01: 0.001, 0.05: 0.005, 0.5: 0.05, 0.90: 0.01, 0.99: 0.001},
		}),
		evalDurationHistogram:      histogram("prometheus_rule_evaluation_duration_histogram_seconds", "How long a rule took to evaluate."),
		iterationDurationHistogram: histogram("prometheus_rule_group_duration_histogram_seconds", "How long a rule group took to evaluate."),
		missed:                     counter("prometheus_rule_group_iterations_missed_total", "Evaluations left out because the one before took too long."),
		scheduled:                  counter("prometheus_rule_group_iterations_total", "Evaluations that were due, run or missed."),
		evals:                      counter("prometheus_rule_evaluations_total", "Rule evaluations."),
		failures:                   counter("prometheus_rule_evaluation_failures_total", "Rule evaluations that failed."),
		groupInterval:              gauge("prometheus_rule_group_interval_seconds", "The interval of the group."),
		lastEvaluation:             gauge("prometheus_rule_group_last_evaluation_timestamp_seconds", "When the group was last evaluated."),
		lastDuration:               gauge("prometheus_rule_group_last_duration_seconds", "How long the last evaluation took."),
		ruleDurationSum:            gauge("prometheus_rule_group_last_rule_duration_sum_seconds", "The sum of the durations of the last evaluation's rules."),
		restoreDuration:            gauge("prometheus_rule_group_last_restore_duration_seconds", "How long restoring from ALERTS_FOR_STATE took."),
		rules:                      gauge("prometheus_rule_group_rules", "The number of rules."),
		samples:                    gauge("prometheus_rule_group_last_evaluation_samples", "How many samples the last evaluation returned."),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_rule_samples_rejected_total",
			Help: "Samples of rule results that the store did not take, by reason.",
		}, []string{"reason"}),
		stateWrites: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_alert_state_writes_total", Help: "Alert state files written.",
		}),
		stateFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_alert_state_write_failures_total", Help: "Alert state files that could not be written.",
		}),
	}
	return m, m.register(reg)
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.evalDuration, m.iterationDuration, m.evalDurationHistogram, m.iterationDurationHistogram,
		m.missed, m.scheduled, m.evals, m.failures, m.groupInterval, m.lastEvaluation, m.lastDuration,
		m.ruleDurationSum, m.restoreDuration, m.rules, m.samples, m.rejected, m.stateWrites, m.stateFailures,
	} {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("rules: registering a metric: %w", err))
		}
	}
	return errors.Join(errs...)
}

// groupMetrics are the metrics of one group, looked up once.
type groupMetrics struct {
	all                                       *metrics
	missed, scheduled, evals, failures        prometheus.Counter
	lastEvaluation, lastDuration, durationSum prometheus.Gauge
	restoreDuration, samples                  prometheus.Gauge
}

// forGroup returns the metrics of a group, which exist from then on.
func (m *metrics) forGroup(g *group) *groupMetrics {
	m.groupInterval.WithLabelValues(g.key).Set(g.interval.Seconds())
	m.rules.WithLabelValues(g.key).Set(float64(len(g.rules)))
	return &groupMetrics{
		all:    m,
		missed: m.missed.WithLabelValues(g.key), scheduled: m.scheduled.WithLabelValues(g.key),
		evals: m.evals.WithLabelValues(g.key), failures: m.failures.WithLabelValues(g.key),
		lastEvaluation: m.lastEvaluation.WithLabelValues(g.key), lastDuration: m.lastDuration.WithLabelValues(g.key),
		durationSum: m.ruleDurationSum.WithLabelValues(g.key), samples: m.samples.WithLabelValues(g.key),
		restoreDuration: m.restoreDuration.WithLabelValues(g.key),
	}
}

// dropGroup removes the metrics of a group that is no longer configured.
func (m *metrics) dropGroup(key string) {
	for _, c := range []*prometheus.CounterVec{m.missed, m.scheduled, m.evals, m.failures} {
		c.DeleteLabelValues(key)
	}
	for _, g := range []*prometheus.GaugeVec{
		m.groupInterval, m.lastEvaluation, m.lastDuration, m.ruleDurationSum, m.restoreDuration, m.rules, m.samples,
	} {
		g.DeleteLabelValues(key)
	}
}

func (g *groupMetrics) observeIteration(start time.Time, took, sum time.Duration) {
	g.all.iterationDuration.Observe(took.Seconds())
	g.all.iterationDurationHistogram.Observe(took.Seconds())
	g.lastEvaluation.Set(float64(start.UnixNano()) / 1e9)
	g.lastDuration.Set(took.Seconds())
	g.durationSum.Set(sum.Seconds())
}

func (g *groupMetrics) observeRule(took time.Duration) {
	g.all.evalDuration.Observe(took.Seconds())
	g.all.evalDurationHistogram.Observe(took.Seconds())
}

func (g *groupMetrics) countRejected(rej *rejection) {
	for reason, n := range rej.byReason {
		if n > 0 {
			g.all.rejected.WithLabelValues(sample.Reason(reason).String()).Add(float64(n))
		}
	}
	if rej.unknown > 0 {
		g.all.rejected.WithLabelValues("unresolved").Add(float64(rej.unknown))
	}
}
