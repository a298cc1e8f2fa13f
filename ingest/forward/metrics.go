// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// item is what is counted apart: Prometheus has metrics of its own for each.
type item int

const (
	floats item = iota
	histograms
	exemplars
	items
)

// itemNames are how metrics begin that count items.
var itemNames = [items]string{floats: "samples", histograms: "histograms", exemplars: "exemplars"}

// counts are numbers of items.
type counts [items]int

func (c *counts) sum() int { return c[floats] + c[histograms] + c[exemplars] }

// itemOf says what a row of a batch is.
func itemOf(k sample.Kind) item {
	if k == sample.Float {
		return floats
	}
	return histograms
}

// count counts rows.
func count(rows []outRow) (n counts) {
	for i := range rows {
		n[rows[i].item()]++
	}
	return n
}

// metrics are those of all endpoints. Names, labels and meanings are Prometheus' where it has them.
type metrics struct {
	sent, failed, retried, dropped   [items]*prometheus.CounterVec
	pending                          [items]*prometheus.GaugeVec
	in                               [items]prometheus.Counter
	families, familiesFailed         *prometheus.CounterVec
	familiesRetried                  *prometheus.CounterVec
	bytes, familyBytes, waits        *prometheus.CounterVec
	shards, shardsMax, shardsMin     *prometheus.GaugeVec
	shardsDesired, capacity, perSend *prometheus.GaugeVec
	highest, highestSent             *prometheus.GaugeVec
	duration                         *prometheus.HistogramVec
	starved                          *prometheus.GaugeVec
	refused, cut                     prometheus.Counter
	newest                           prometheus.Gauge
	newestT                          atomic.Int64 // ms
	ofEndpoints                      []endpointVec
	all                              []prometheus.Collector
}

// endpointVec is a metric with a value for each endpoint.
type endpointVec interface {
	prometheus.Collector
	DeletePartialMatch(of prometheus.Labels) int
}

const metricPrefix = "prometheus_remote_storage_"

// newMetrics makes the metrics and registers them; reg may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	for i, name := range itemNames {
		m.sent[i] = m.counter(name+"_total", "How many "+name+" were sent.")
		m.failed[i] = m.counter(name+"_failed_total", "How many "+name+" the receiver refused for good.")
		m.retried[i] = m.counter(name+"_retried_total", "How many "+name+" were sent again after an error that may pass.")
		m.dropped[i] = m.counter(name+"_dropped_total", "How many "+name+" were not to be sent, or could not be.", "reason")
		m.pending[i] = m.gauge(name+"_pending", "How many "+name+" are being sent.")
		m.in[i] = prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + name + "_in_total", Help: "How many " + name + " wait to be sent, or did."})
		m.all = append(m.all, m.in[i])
	}
	m.families = m.counter("metadata_total", "Descriptions of metric families that were sent.")
	m.familiesFailed = m.counter("metadata_failed_total", "Descriptions of metric families that could not be sent.")
	m.familiesRetried = m.counter("metadata_retried_total", "Descriptions of metric families that were sent again.")
	m.bytes = m.counter("bytes_total", "Bytes of samples that were sent, compressed.")
	m.familyBytes = m.counter("metadata_bytes_total", "Bytes of descriptions that were sent, compressed.")
	m.waits = m.counter("enqueue_retries_total", "How often reading the queue had to wait for memory.")
	m.shards = m.gauge("shards", "Requests that are made side by side.")
	m.shardsMax = m.gauge("shards_max", "The most requests that may be made side by side.")
	m.shardsMin = m.gauge("shards_min", "The requests that are made side by side at least.")
	m.shardsDesired = m.gauge("shards_desired", "How many requests side by side it would take to keep up and to catch up.")
	m.capacity = m.gauge("shard_capacity", "How many samples are read ahead for each request that is made side by side.")
	m.perSend = m.gauge("max_samples_per_send", "The most samples of one request.")
	m.highest = m.gauge("queue_highest_timestamp_seconds", "Time of the newest sample that is to be sent.")
	m.highestSent = m.gauge("queue_highest_sent_timestamp_seconds", "Time of the newest sample that was sent.")
	m.starved = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tidemark_remote_write_waits_for_memory", Help: "1 while a receiver has had no memory to read ahead for more than a minute.",
	}, endpointLabels)
	m.ofEndpoints = append(m.ofEndpoints, m.starved)
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: metricPrefix + "sent_batch_duration_seconds", Help: "Time until a request was answered for good.",
		Buckets: append(prometheus.DefBuckets, 25, 60, 120, 300), NativeHistogramBucketFactor: 1.1,
	}, endpointLabels)
	m.ofEndpoints = append(m.ofEndpoints, m.duration)
	m.newest = prometheus.NewGauge(prometheus.GaugeOpts{Name: metricPrefix + "highest_timestamp_in_seconds", Help: "Time of the newest sample that the store has accepted."})
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_remote_write_queue_refused_samples_total", Help: "Samples that the queue had no room for on disk."})
	m.cut = prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_remote_write_queue_cut_samples_total", Help: "Samples that were removed from the queue unsent, because of its size or their age."})
	m.all = append(m.all, m.newest, m.refused, m.cut)
	for _, v := range m.ofEndpoints {
		m.all = append(m.all, v)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// endpointLabels name an endpoint.
var endpointLabels = []string{"remote_name", "url"}

func (m *metrics) counter(name, help string, more ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, append(endpointLabels[:2:2], more...))
	m.ofEndpoints = append(m.ofEndpoints, v)
	return v
}

func (m *metrics) gauge(name, help string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, endpointLabels)
	m.ofEndpoints = append(m.ofEndpoints, v)
	return v
}

// told counts what came into the queue.
func (m *metrics) told(n counts, newest int64) {
	for i := range n {
		m.in[i].Add(float64(n[i]))
	}
	if raise(&m.newestT, newest) {
		m.newest.Set(float64(newest) / 1000)
	}
}

// raise makes v at least t, and reports whether it was less.
func raise(v *atomic.Int64, t int64) bool {
	for {
		was := v.Load()
		if t <= was {
			return false
		}
		if v.CompareAndSwap(was, t) {
			return true
		}
	}
}

// endpointMetrics are the metrics of one endpoint.
type endpointMetrics struct {
	sent, failed, retried                       [items]prometheus.Counter
	dropped                                     [items]*prometheus.CounterVec
	pending                                     [items]prometheus.Gauge
	families, familiesFailed, familiesRetried   prometheus.Counter
	bytes, familyBytes, waits                   prometheus.Counter
	shards, shardsDesired, highest, highestSent prometheus.Gauge
	starved                                     prometheus.Gauge
	duration                                    prometheus.Observer
	newest, newestSent                          atomic.Int64 // times of rows that were read and of those that were sent, ms
}

func (m *metrics) of(name, url string) *endpointMetrics {
	x := &endpointMetrics{
		families: m.families.WithLabelValues(name, url), familiesFailed: m.familiesFailed.WithLabelValues(name, url),
		familiesRetried: m.familiesRetried.WithLabelValues(name, url),
		bytes:           m.bytes.WithLabelValues(name, url), familyBytes: m.familyBytes.WithLabelValues(name, url), waits: m.waits.WithLabelValues(name, url),
		shards: m.shards.WithLabelValues(name, url), shardsDesired: m.shardsDesired.WithLabelValues(name, url),
		highest: m.highest.WithLabelValues(name, url), highestSent: m.highestSent.WithLabelValues(name, url),
		duration: m.duration.WithLabelValues(name, url), starved: m.starved.WithLabelValues(name, url),
	}
	for i := range itemNames {
		x.sent[i], x.failed[i], x.retried[i] = m.sent[i].WithLabelValues(name, url), m.failed[i].WithLabelValues(name, url), m.retried[i].WithLabelValues(name, url)
		x.dropped[i] = m.dropped[i].MustCurryWith(prometheus.Labels{"remote_name": name, "url": url})
		x.pending[i] = m.pending[i].WithLabelValues(name, url)
	}
	return x
}

// forget removes the metrics of an endpoint that is no more.
func (m *metrics) forget(name, url string) {
	at := prometheus.Labels{"remote_name": name, "url": url}
	for _, v := range m.ofEndpoints {
		v.DeletePartialMatch(at)
	}
}

// took counts rows that the receiver has.
func (m *endpointMetrics) took(rows []outRow, bytes int) {
	add(&m.sent, count(rows))
	m.bytes.Add(float64(bytes))
	newest := int64(0)
	for i := range rows {
		newest = max(newest, rows[i].time())
	}
	if raise(&m.newestSent, newest) {
		m.highestSent.Set(float64(newest) / 1000)
	}
}

// read notes the newest time of rows that are to be sent. Where the endpoint is behind, that is the newest there is.
func (m *endpointMetrics) read(newest int64) {
	if raise(&m.newest, newest) {
		m.highest.Set(float64(newest) / 1000)
	}
}

// drop counts items that are not sent.
func (m *endpointMetrics) drop(reason string, n counts) {
	for i := range n {
		if n[i] > 0 {
			m.dropped[i].WithLabelValues(reason).Add(float64(n[i]))
		}
	}
}

// add adds to counters.
func add(to *[items]prometheus.Counter, n counts) {
	for i := range n {
		to[i].Add(float64(n[i]))
	}
}
