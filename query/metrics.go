// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has the names of Prometheus' engine, which dashboards and alerts know, and a few of ours.
type metrics struct {
	current     prometheus.Gauge
	concurrent  prometheus.Gauge
	logEnabled  prometheus.Gauge
	logFailures prometheus.Counter
	samples     prometheus.Counter
	samplesRead prometheus.Counter
	summary     *prometheus.SummaryVec
	histogram   *prometheus.HistogramVec
	refused     *prometheus.CounterVec
	slow        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "prometheus_engine_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		current:     gauge("queries", "Queries being executed or waiting."),
		concurrent:  gauge("queries_concurrent_max", "How many queries run at once at most."),
		logEnabled:  gauge("query_log_enabled", "Whether queries are logged."),
		logFailures: counter("prometheus_engine_query_log_failures_total", "Queries that could not be logged."),
		samples:     counter("prometheus_engine_query_samples_total", "Samples that queries looked at, each step's window in full."),
		samplesRead: counter("prometheus_engine_query_samples_read_total", "Samples that queries read, each once."),
		summary: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: "prometheus_engine_query_duration_seconds", Help: "How long the parts of a query took.",
			Objectives: map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001},
		}, []string{"slice"}),
		histogram: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prometheus_engine_query_duration_histogram_seconds", Help: "How long the parts of a query took.",
			Buckets: []float64{.01, .1, 1, 10}, NativeHistogramBucketFactor: 1.1,
			NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"slice"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_query_refused_total", Help: "Queries that ended because they reached a limit.",
		}, []string{"limit"}),
		slow: counter("tidemark_query_slow_total", "Queries that took longer than query.slow_log."),
	}
	for _, slice := range []string{"queue_time", "prepare_time", "inner_eval", "result_sort"} {
		m.summary.WithLabelValues(slice)
		m.histogram.WithLabelValues(slice)
	}
	for _, limit := range []string{limitMemory, limitSamples, limitTimeout} {
		m.refused.WithLabelValues(limit)
	}
	if reg != nil {
		reg.MustRegister(m.current, m.concurrent, m.logEnabled, m.logFailures, m.samples, m.samplesRead,
			m.summary, m.histogram, m.refused, m.slow)
	}
	return m
}

// The limits that tidemark_query_refused_total tells apart.
const (
	limitMemory  = "memory"
	limitSamples = "samples"
	limitTimeout = "timeout"
)

// slice returns the observers of one part of a query.
func (m *metrics) slice(name string) []prometheus.Observer {
	return []prometheus.Observer{m.summary.WithLabelValues(name), m.histogram.WithLabelValues(name)}
}
