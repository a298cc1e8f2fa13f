// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promscrape "github.com/prometheus/prometheus/scrape"
)

// metrics are Prometheus', by its names, and one of ours about what truncated scrapes leave out.
type metrics struct {
	pools, poolsFailed            prometheus.Counter
	reloadLength                  *prometheus.SummaryVec
	reloads, reloadsFailed        prometheus.Counter
	targetLimitExceeded           prometheus.Counter
	targetLimit, targets, symbols *prometheus.GaugeVec
	syncs, syncFailed             *prometheus.CounterVec
	syncLength                    *prometheus.SummaryVec
	syncLengthHist                *prometheus.HistogramVec
	interval                      *prometheus.SummaryVec
	intervalHist                  *prometheus.HistogramVec
	bodySizeLimit, sampleLimit    prometheus.Counter
	labelLimits, bucketLimit      prometheus.Counter
	cacheFlushForced              prometheus.Counter
	duplicate, outOfOrder         prometheus.Counter
	outOfBounds, lateExemplars    prometheus.Counter
	duration                      prometheus.Histogram
	beyond                        *prometheus.CounterVec
	all                           []prometheus.Collector
}

func newMetrics() *metrics {
	m := &metrics{}
	m.ofPools()
	m.ofScrapes()
	return m
}

func (m *metrics) ofPools() {
	m.pools = m.counter("scrape_pools_total", "Total number of scrape pool creation attempts.")
	m.poolsFailed = m.counter("scrape_pools_failed_total", "Total number of scrape pool creations that failed.")
	m.reloadLength = m.summary("reload_length_seconds", "Actual interval to reload the scrape pool with a given configuration.", "interval")
	m.reloads = m.counter("scrape_pool_reloads_total", "Total number of scrape pool reloads.")
	m.reloadsFailed = m.counter("scrape_pool_reloads_failed_total", "Total number of failed scrape pool reloads.")
	m.targetLimitExceeded = m.counter("scrape_pool_exceeded_target_limit_total", "Total number of times scrape pools hit the target limit, during sync or config reload.")
	m.targetLimit = m.gauges("scrape_pool_target_limit", "Maximum number of targets allowed in this scrape pool.")
	m.targets = m.gauges("scrape_pool_targets", "Current number of targets in this scrape pool.")
	m.symbols = m.gauges("scrape_pool_symboltable_items", "Current number of symbols in table for this scrape pool.")
	m.syncs = m.counters("scrape_pool_sync_total", "Total number of syncs that were executed on a scrape pool.")
	m.syncFailed = m.counters("sync_failed_total", "Total number of target sync failures.")
	m.syncLength = m.summary("sync_length_seconds", "Actual interval to sync the scrape pool.", "scrape_job")
	m.syncLengthHist = m.histograms("sync_length_histogram_seconds", "Actual interval to sync the scrape pool.", "scrape_job")
}

func (m *metrics) ofScrapes() {
	m.interval = m.summary("interval_length_seconds", "Actual intervals between scrapes.", "interval")
	m.intervalHist = m.histograms("interval_length_histogram_seconds", "Actual intervals between scrapes.", "interval")
	m.bodySizeLimit = m.counter("scrapes_exceeded_body_size_limit_total", "Total number of scrapes that hit the body size limit")
	m.sampleLimit = m.counter("scrapes_exceeded_sample_limit_total", "Total number of scrapes that hit the sample limit and were rejected.")
	m.labelLimits = m.counter("scrape_pool_exceeded_label_limits_total", "Total number of times scrape pools hit the label limits, during sync or config reload.")
	m.bucketLimit = m.counter("scrapes_exceeded_native_histogram_bucket_limit_total", "Total number of scrapes that hit the native histogram bucket limit and were rejected.")
	m.cacheFlushForced = m.counter("scrapes_cache_flush_forced_total", "How many times a scrape cache was flushed due to getting big while scrapes are failing.")
	m.duplicate = m.counter("scrapes_sample_duplicate_timestamp_total", "Total number of samples rejected due to duplicate timestamps but different values.")
	m.outOfOrder = m.counter("scrapes_sample_out_of_order_total", "Total number of samples rejected due to not being out of the expected order.")
	m.outOfBounds = m.counter("scrapes_sample_out_of_bounds_total", "Total number of samples rejected due to timestamp falling outside of the time bounds.")
	m.lateExemplars = m.counter("scrapes_exemplar_out_of_order_total", "Total number of exemplar rejected due to not being out of the expected order.")
	m.duration = prometheus.NewHistogram(native(prometheus.HistogramOpts{
		Name: "prometheus_target_scrape_duration_seconds", Help: "Total duration of the scrape from start to commit completion in seconds.",
	}))
	m.beyond = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tidemark_scrape_truncated_total",
		Help: "What was beyond a limit and left out by scrape.on_limit: truncate. Samples, or bodies and targets where the limit is theirs.",
	}, []string{"scrape_job", "limit"})
	m.all = append(m.all, m.duration, m.beyond)
}

// native makes a histogram a native one too, as all of Prometheus' about scraping are.
func native(o prometheus.HistogramOpts) prometheus.HistogramOpts {
	o.NativeHistogramBucketFactor, o.NativeHistogramMaxBucketNumber, o.NativeHistogramMinResetDuration = 1.1, 100, time.Hour
	return o
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "prometheus_target_" + name, Help: help})
	m.all = append(m.all, c)
	return c
}

func (m *metrics) counters(name, help string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "prometheus_target_" + name, Help: help}, []string{"scrape_job"})
	m.all = append(m.all, c)
	return c
}

func (m *metrics) gauges(name, help string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "prometheus_target_" + name, Help: help}, []string{"scrape_job"})
	m.all = append(m.all, g)
	return g
}

func (m *metrics) summary(name, help, label string) *prometheus.SummaryVec {
	s := prometheus.NewSummaryVec(prometheus.SummaryOpts{
		Name: "prometheus_target_" + name, Help: help,
		Objectives: map[float64]float64{0.01: 0.001, 0.05: 0.005, 0.5: 0.05, 0.90: 0.01, 0.99: 0.001},
	}, []string{label})
	m.all = append(m.all, s)
	return s
}

func (m *metrics) histograms(name, help, label string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(native(prometheus.HistogramOpts{
		Name: "prometheus_target_" + name, Help: help, Buckets: []float64{.01, .1, 1, 10},
	}), []string{label})
	m.all = append(m.all, h)
	return h
}

// register registers everything, with the sizes of what targets say of their metrics.
func (m *metrics) register(to prometheus.Registerer, targets promscrape.TargetsGatherer) error {
	m.all = append(m.all, &promscrape.MetadataMetricsCollector{
		CacheEntries: prometheus.NewDesc("prometheus_target_metadata_cache_entries",
			"Total number of metric metadata entries in the cache", []string{"scrape_job"}, nil),
		CacheBytes: prometheus.NewDesc("prometheus_target_metadata_cache_bytes",
			"The number of bytes that are currently used for storing metric metadata in the cache", []string{"scrape_job"}, nil),
		TargetsGatherer: targets,
	})
	for _, c := range m.all {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("register the metrics of scraping: %w", err)
		}
	}
	return nil
}

func (m *metrics) observeInterval(interval, took time.Duration) {
	label := interval.String()
	m.interval.WithLabelValues(label).Observe(took.Seconds())
	m.intervalHist.WithLabelValues(label).Observe(took.Seconds())
}

func (m *metrics) observeSync(job string, took time.Duration) {
	m.syncLength.WithLabelValues(job).Observe(took.Seconds())
	m.syncLengthHist.WithLabelValues(job).Observe(took.Seconds())
	m.syncs.WithLabelValues(job).Inc()
}

func (m *metrics) truncated(job, limit string, n int) {
	if n > 0 {
		m.beyond.WithLabelValues(job, limit).Add(float64(n))
	}
}

// forget drops what is told of a job that is gone.
func (m *metrics) forget(job string) {
	for _, v := range []interface{ DeleteLabelValues(values ...string) bool }{
		m.syncs, m.targetLimit, m.targets, m.symbols, m.syncLength, m.syncLengthHist, m.syncFailed,
	} {
		v.DeleteLabelValues(job)
	}
	m.beyond.DeletePartialMatch(prometheus.Labels{"scrape_job": job})
}
