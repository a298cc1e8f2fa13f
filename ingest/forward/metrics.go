// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// metrics are those of all endpoints. Names, labels and meanings are Prometheus' where it has them.
type metrics struct {
	samples, failed, retried        *prometheus.CounterVec
	dropped                         *prometheus.CounterVec
	histograms, exemplars           *prometheus.CounterVec
	families, familiesFailed, bytes *prometheus.CounterVec
	pending, shards, shardsMax      *prometheus.GaugeVec
	shardsMin, perSend, highest     *prometheus.GaugeVec
	duration                        *prometheus.HistogramVec
	in, refused, cut                prometheus.Counter
	newest                          prometheus.Gauge
	newestT                         atomic.Int64 // ms
}

const metricPrefix = "prometheus_remote_storage_"

// newMetrics makes the metrics and registers them; reg may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	of := []string{"remote_name", "url"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, append(of[:2:2], more...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, of)
	}
	m := &metrics{
		samples:        counter("samples_total", "Samples that were sent."),
		histograms:     counter("histograms_total", "Native histograms that were sent."),
		exemplars:      counter("exemplars_total", "Exemplars that were sent."),
		failed:         counter("samples_failed_total", "Samples that the receiver refused for good."),
		retried:        counter("samples_retried_total", "Samples that were sent again after an error that may pass."),
		dropped:        counter("samples_dropped_total", "Samples that were not to be sent, or could not be.", "reason"),
		families:       counter("metadata_total", "Descriptions of metric families that were sent."),
		familiesFailed: counter("metadata_failed_total", "Descriptions of metric families that could not be sent."),
		bytes:          counter("bytes_total", "Bytes of samples that were sent, compressed."),
		pending:        gauge("samples_pending", "Samples that are being sent."),
		shards:         gauge("shards", "Requests that are made side by side."),
		shardsMax:      gauge("shards_max", "The most requests that may be made side by side."),
		shardsMin:      gauge("shards_min", "The requests that are made side by side at least."),
		perSend:        gauge("max_samples_per_send", "The most samples of one request."),
		highest:        gauge("queue_highest_sent_timestamp_seconds", "Time of the newest sample that was sent."),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: metricPrefix + "sent_batch_duration_seconds", Help: "Time until a request was answered for good.",
			Buckets: append(prometheus.DefBuckets, 25, 60, 120, 300), NativeHistogramBucketFactor: 1.1,
		}, of),
		in:      prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + "samples_in_total", Help: "Samples that wait to be sent, or did."}),
		newest:  prometheus.NewGauge(prometheus.GaugeOpts{Name: metricPrefix + "highest_timestamp_in_seconds", Help: "Time of the newest sample that is to be sent."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_remote_write_queue_refused_samples_total", Help: "Samples that the queue had no room for on disk."}),
		cut:     prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_remote_write_queue_cut_samples_total", Help: "Samples that were removed from the queue unsent, because of its size or their age."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.samples, m.histograms, m.exemplars, m.failed, m.retried, m.dropped, m.families, m.familiesFailed, m.bytes, m.pending, m.shards,
		m.shardsMax, m.shardsMin, m.perSend, m.highest, m.duration, m.in, m.newest, m.refused, m.cut,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// endpointMetrics are the metrics of one endpoint.
type endpointMetrics struct {
	samples, failed, retried, histograms, exemplars, families, familiesFailed, bytes prometheus.Counter
	dropped                                                                          *prometheus.CounterVec
	pending, shards, highest                                                         prometheus.Gauge
	duration                                                                         prometheus.Observer
	newest                                                                           atomic.Int64 // time of the newest row that was sent, ms
}

// raiseNewest notes times of rows that are to be sent.
func (m *metrics) raiseNewest(times []int64) {
	newest := int64(0)
	for _, t := range times {
		newest = max(newest, t)
	}
	for {
		was := m.newestT.Load()
		if newest <= was {
			return
		}
		if m.newestT.CompareAndSwap(was, newest) {
			m.newest.Set(float64(newest) / 1000)
			return
		}
	}
}

func (m *metrics) of(name, url string) *endpointMetrics {
	return &endpointMetrics{
		samples: m.samples.WithLabelValues(name, url), failed: m.failed.WithLabelValues(name, url), retried: m.retried.WithLabelValues(name, url),
		histograms: m.histograms.WithLabelValues(name, url), exemplars: m.exemplars.WithLabelValues(name, url),
		families: m.families.WithLabelValues(name, url), familiesFailed: m.familiesFailed.WithLabelValues(name, url),
		bytes:   m.bytes.WithLabelValues(name, url),
		dropped: m.dropped.MustCurryWith(prometheus.Labels{"remote_name": name, "url": url}),
		pending: m.pending.WithLabelValues(name, url), shards: m.shards.WithLabelValues(name, url), highest: m.highest.WithLabelValues(name, url),
		duration: m.duration.WithLabelValues(name, url),
	}
}

// forget removes the metrics of an endpoint that is no more.
func (m *metrics) forget(name, url string) {
	at := prometheus.Labels{"remote_name": name, "url": url}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{
		m.samples, m.histograms, m.exemplars, m.failed, m.retried, m.dropped, m.families, m.familiesFailed, m.bytes, m.pending, m.shards,
		m.shardsMax, m.shardsMin, m.perSend, m.highest, m.duration,
	} {
		v.DeletePartialMatch(at)
	}
}

// sent counts rows that the receiver has.
func (m *endpointMetrics) sent(rows []outRow, bytes int) {
	var floats, histograms, exemplars float64
	for i := range rows {
		x := &rows[i]
		switch {
		case x.exemplar != nil:
			exemplars++
		case x.batch.KindAt(x.row) == sample.Float:
			floats++
		default:
			histograms++
		}
	}
	m.samples.Add(floats)
	m.histograms.Add(histograms)
	m.exemplars.Add(exemplars)
	m.bytes.Add(float64(bytes))
	for i := range rows {
		if t := rows[i].time(); t > m.newest.Load() {
			m.newest.Store(t) // of two at a time one may win that is older by a moment
		}
	}
	m.highest.Set(float64(m.newest.Load()) / 1000)
}
