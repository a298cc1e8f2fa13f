// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters that Prometheus has, by its names, and ours.
type metrics struct {
	latency               *prometheus.SummaryVec
	latencyHistogram      *prometheus.HistogramVec
	errors, sent, dropped *prometheus.CounterVec
	queueLength           *prometheus.GaugeVec
	queueCapacity         prometheus.Gauge
	discovered            prometheus.GaugeFunc
	retries               *prometheus.CounterVec
	shadowed              prometheus.Counter

	mu struct {
		sync.Mutex
		users map[string]int // senders per Alertmanager: after a reload an old and a new one overlap
	}
}

const amLabel = "alertmanager"

func newMetrics(reg prometheus.Registerer, discovered func() float64) (*metrics, error) {
	name := func(s string) string { return "prometheus_notifications_" + s }
	counter := func(n, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: n, Help: help}, []string{amLabel})
	}
	m := &metrics{
		latency: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: name("latency_seconds"), Help: "How long sending alerts took.",
			Objectives: map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001},
		}, []string{amLabel}),
		latencyHistogram: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("latency_histogram_seconds"), Help: "How long sending alerts took.",
			Buckets:                     []float64{.01, .1, 1, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{amLabel}),
		errors:  counter(name("errors_total"), "Alerts in requests that failed, once per try."),
		sent:    counter(name("sent_total"), "Alerts that an Alertmanager took."),
		dropped: counter(name("dropped_total"), "Alerts given up: the queue was full, they were refused, or the server stopped."),
		queueLength: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("queue_length"), Help: "Alerts that wait to be sent.",
		}, []string{amLabel}),
		queueCapacity: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("queue_capacity"), Help: "How many alerts may wait for one Alertmanager.",
		}),
		discovered: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("alertmanagers_discovered"), Help: "Alertmanagers that alerts are sent to.",
		}, discovered),
		retries: counter("tidemark_notifications_retries_total", "Requests to an Alertmanager that were tried again."),
		shadowed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_notifications_shadowed_total", Help: "Alerts not sent because the server runs as a shadow.",
		}),
	}
	m.mu.users = make(map[string]int)
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.latency, m.latencyHistogram, m.errors, m.sent, m.dropped, m.queueLength, m.queueCapacity, m.discovered,
		m.retries, m.shadowed,
	} {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("notify: registering a metric: %w", err))
		}
	}
	return m, errors.Join(errs...)
}

// senderMetrics are the metrics of one Alertmanager.
type senderMetrics struct {
	errors, sent, dropped, retries prometheus.Counter
	queueLength                    prometheus.Gauge
	latency, latencyHistogram      prometheus.Observer
	release                        func() // to be called when the sender ends
}

func (m *metrics) forSender(address string) *senderMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.users[address]++
	return &senderMetrics{
		errors: m.errors.WithLabelValues(address), sent: m.sent.WithLabelValues(address),
		dropped: m.dropped.WithLabelValues(address), retries: m.retries.WithLabelValues(address),
		queueLength: m.queueLength.WithLabelValues(address),
		latency:     m.latency.WithLabelValues(address), latencyHistogram: m.latencyHistogram.WithLabelValues(address),
		release: func() { m.release(address) },
	}
}

// release removes the metrics of an Alertmanager that nobody sends to any more.
func (m *metrics) release(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.users[address]--; m.mu.users[address] > 0 {
		return
	}
	delete(m.mu.users, address)
	for _, c := range []*prometheus.CounterVec{m.errors, m.sent, m.dropped, m.retries} {
		c.DeleteLabelValues(address)
	}
	m.queueLength.DeleteLabelValues(address)
	m.latency.DeleteLabelValues(address)
	m.latencyHistogram.DeleteLabelValues(address)
}

// observe notes a request that was answered well.
func (m *senderMetrics) observe(alerts int, took time.Duration) {
	m.sent.Add(float64(alerts))
	m.latency.Observe(took.Seconds())
	m.latencyHistogram.Observe(took.Seconds())
}
