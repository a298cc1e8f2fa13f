// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the server's own. Those that Prometheus has keep its names, because dashboards ask for them.
type metrics struct {
	requests           *prometheus.CounterVec
	duration, size     *prometheus.HistogramVec
	federationErrors   prometheus.Counter
	federationWarnings prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prometheus_http_requests_total", Help: "Counter of HTTP requests.",
		}, []string{"handler", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prometheus_http_request_duration_seconds", Help: "Histogram of latencies for HTTP requests.",
			Buckets: []float64{.1, .2, .4, 1, 3, 8, 20, 60, 120},
		}, []string{"handler"}),
		size: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prometheus_http_response_size_bytes", Help: "Histogram of response size for HTTP requests.",
			Buckets: prometheus.ExponentialBuckets(100, 10, 8),
		}, []string{"handler"}),
		federationErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prometheus_web_federation_errors_total",
			Help: "Total number of errors that occurred while sending federation responses.",
		}),
		federationWarnings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prometheus_web_federation_warnings_total",
			Help: "Total number of warnings that occurred while sending federation responses.",
		}),
	}
	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "prometheus_ready", Help: "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
	}, func() float64 {
		if s.ready() != nil {
			return 0
		}
		return 1
	})
	reg.MustRegister(m.requests, m.duration, m.size, m.federationErrors, m.federationWarnings, ready, newConditionCollector(s))
	return m
}

// instrument counts and times the requests of one route.
func (m *metrics) instrument(route string, h http.Handler) http.Handler {
	name := prometheus.Labels{"handler": route}
	return promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(name),
		promhttp.InstrumentHandlerDuration(m.duration.MustCurryWith(name),
			promhttp.InstrumentHandlerResponseSize(m.size.MustCurryWith(name), h)))
}

// restoring is the code of the state before Open.
const restoring = "restoring"

// conditionCollector shows the conditions that hold as 1, and those that held once as 0, so that an alert on one
// resolves.
type conditionCollector struct {
	server *Server
	desc   *prometheus.Desc

	mu   sync.Mutex
	seen map[string]struct{}
}

func newConditionCollector(s *Server) *conditionCollector {
	return &conditionCollector{
		server: s, seen: map[string]struct{}{},
		desc: prometheus.NewDesc("tidemark_condition",
			"Whether the server is in a state that is not normal; docs/states.md lists the codes.", []string{"code"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *conditionCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *conditionCollector) Collect(ch chan<- prometheus.Metric) {
	holds := map[string]struct{}{}
	switch o := c.server.open.Load(); {
	case o == nil:
		holds[restoring] = struct{}{}
	case o.src.Conditions != nil:
		for _, cond := range o.src.Conditions() {
			holds[cond.Code] = struct{}{}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for code := range holds {
		c.seen[code] = struct{}{}
	}
	for code := range c.seen {
		value := 0.0
		if _, ok := holds[code]; ok {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, value, code)
	}
}

// levelRequests is the level of the request log.
const levelRequests = slog.LevelDebug

// statusWriter notes what a handler answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher: streamed remote read asks for it.
func (w *statusWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap serves http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
