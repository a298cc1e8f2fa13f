// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// storeMetric is one metric made from the store's statistics.
type storeMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(tsdb.Stats) float64
}

// storeCollector exposes the store's statistics: under Prometheus' names where it has one that means the same, so
// that its alerts and dashboards work, and under ours.
type storeCollector struct {
	db       *tsdb.DB
	metrics  []storeMetric
	samples  *prometheus.Desc
	rejected *prometheus.Desc
	refused  [len(refusedMetrics)]*prometheus.Desc
	merges   *prometheus.Desc
	restored prometheus.Gauge
}

func newStoreCollector(db *tsdb.DB) *storeCollector {
	c := &storeCollector{
		db:       db,
		samples:  prometheus.NewDesc("prometheus_tsdb_head_samples_appended_total", "Total number of appended samples.", []string{"type"}, nil),
		rejected: prometheus.NewDesc("tidemark_store_rows_not_stored_total", "Samples that were refused or were there already, by reason.", []string{"reason"}, nil),
		restored: prometheus.NewGauge(prometheus.GaugeOpts{Name: "prometheus_tsdb_data_replay_duration_seconds", Help: "Time the recovery at the start took."}),
	}
	for i, m := range refusedMetrics {
		c.refused[i] = prometheus.NewDesc(m.name, m.help, []string{"type"}, nil)
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add := func(kind prometheus.ValueType, name, help string, value func(tsdb.Stats) float64) {
		c.metrics = append(c.metrics, storeMetric{prometheus.NewDesc(name, help, nil, nil), kind, value})
	}
	add(gauge, "prometheus_tsdb_head_series", "Total number of series in the head.", func(s tsdb.Stats) float64 { return float64(s.Head.Series) })
	add(gauge, "prometheus_tsdb_head_chunks", "Total number of closed chunks in the head.", func(s tsdb.Stats) float64 { return float64(s.Head.Chunks) })
	add(gauge, "prometheus_tsdb_head_min_time", "Minimum time bound of the head, in milliseconds.", func(s tsdb.Stats) float64 { return float64(s.Head.MinT) })
	add(gauge, "prometheus_tsdb_head_max_time", "Maximum timestamp of the head, in milliseconds.", func(s tsdb.Stats) float64 { return float64(s.Head.MaxT) })
	add(gauge, "prometheus_tsdb_head_max_time_seconds", "Maximum timestamp of the head.", func(s tsdb.Stats) float64 { return float64(s.Head.MaxT) / 1000 })
	add(gauge, "prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks.", func(s tsdb.Stats) float64 { return float64(s.Blocks) })
	add(gauge, "prometheus_tsdb_storage_blocks_bytes", "The number of bytes that are currently used for blocks.", func(s tsdb.Stats) float64 { return float64(s.BlockBytes) })
	add(gauge, "prometheus_tsdb_lowest_timestamp", "Lowest timestamp value stored in the database, in milliseconds.", func(s tsdb.Stats) float64 { return float64(s.MinT) })
	add(gauge, "prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", func(s tsdb.Stats) float64 { return float64(s.Log.DiskBytes) })
	add(counter, "prometheus_tsdb_compactions_total", "Blocks written: head slots that became one, and merges.", func(s tsdb.Stats) float64 { return float64(s.Flushes + s.Merges.Done) })
	add(counter, "prometheus_tsdb_compactions_failed_total", "Merges and runs of the store's maintenance that failed.", func(s tsdb.Stats) float64 { return float64(s.Failures + s.Merges.Failed) })
	c.addMerges(add)
	c.addRetention(add)
	c.addScrub(add)
	add(counter, "prometheus_tsdb_wal_corruptions_total", "Damaged ranges of the log found at the start.", func(tsdb.Stats) float64 { return float64(len(db.Recovery().Log.Corrupt)) })
	add(gauge, "tidemark_store_head_bytes", "Memory of the head outside the Go heap, and of its index.", func(s tsdb.Stats) float64 { return float64(s.Head.Bytes) })
	add(gauge, "tidemark_store_part_bytes", "Size of the files that hold samples of the head.", func(s tsdb.Stats) float64 { return float64(s.PartBytes) })
	add(gauge, "tidemark_store_parts", "Files that hold samples of the head.", func(s tsdb.Stats) float64 { return float64(s.Parts) })
	add(counter, "tidemark_store_spills_total", "Files that were written of samples of the head.", func(s tsdb.Stats) float64 { return float64(s.Spills) })
	add(gauge, "tidemark_store_head_samples", "Samples held by the head.", func(s tsdb.Stats) float64 { return float64(s.Head.Held) })
	add(counter, "tidemark_store_late_samples_total", "Stored samples that were older than the newest of their series.", func(s tsdb.Stats) float64 { return float64(s.Head.Late) })
	add(gauge, "tidemark_store_views", "Open views of the head.", func(s tsdb.Stats) float64 { return float64(s.Head.Pins) })
	add(gauge, "tidemark_store_prometheus_blocks", "Blocks of a Prometheus in the data path that are not converted yet.", func(s tsdb.Stats) float64 { return float64(s.Foreign.Blocks) })
	add(gauge, "tidemark_store_prometheus_bytes", "Size of those blocks.", func(s tsdb.Stats) float64 { return float64(s.Foreign.Bytes) })
	add(counter, "tidemark_store_log_syncs_total", "Syncs of the log.", func(s tsdb.Stats) float64 { return float64(s.Log.Syncs) })
	add(gauge, "tidemark_store_log_unsynced_records", "Log records that would not survive a power cut yet.", func(s tsdb.Stats) float64 { return float64(s.Last - s.Durable) })
	return c
}

// refusedMetrics are what Prometheus counts of the samples that its storage refuses.
var refusedMetrics = [...]struct {
	name, help string
	reason     sample.Reason
}{
	{"prometheus_tsdb_out_of_order_samples_total", "Samples that were refused because they were older than the newest of their series, where no late samples are taken.", sample.OutOfOrder},
	{"prometheus_tsdb_too_old_samples_total", "Samples that were refused because they were older than the window for late samples.", sample.TooOld},
	{"prometheus_tsdb_out_of_bound_samples_total", "Samples that were refused because they were too far in the future.", sample.TooNew},
}

// adder declares one metric.
type adder func(kind prometheus.ValueType, name, help string, value func(tsdb.Stats) float64)

func (c *storeCollector) addMerges(add adder) {
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	c.merges = prometheus.NewDesc("prometheus_tsdb_compaction_duration_seconds", "Duration of merges of blocks.", nil, nil)
	add(gauge, "prometheus_tsdb_compaction_populating_block", "1 while a merge writes a block.", func(s tsdb.Stats) float64 { return float64(min(s.Merges.Blocks, 1)) })
	add(counter, "tidemark_store_merges_total", "Merges of blocks.", func(s tsdb.Stats) float64 { return float64(s.Merges.Done) })
	add(counter, "tidemark_store_merges_waited_total", "Times that a merge was not begun for lack of disk space.", func(s tsdb.Stats) float64 { return float64(s.Merges.Skipped) })
	add(counter, "tidemark_store_merge_pause_seconds_total", "Time that merges waited for samples coming in or for memory.", func(s tsdb.Stats) float64 { return s.Merges.PauseSeconds })
	add(counter, "tidemark_store_merge_read_bytes_total", "Bytes of the blocks that were merged.", func(s tsdb.Stats) float64 { return float64(s.Merges.BytesRead) })
	add(counter, "tidemark_store_merge_written_bytes_total", "Bytes of the blocks that came of merges.", func(s tsdb.Stats) float64 { return float64(s.Merges.BytesWritten) })
	add(gauge, "tidemark_store_merges_due", "Merges that were due when the last one was chosen.", func(s tsdb.Stats) float64 { return float64(s.Merges.Waiting) })
	add(gauge, "tidemark_store_merge_progress_ratio", "Part of the series that the running merge has read.", func(s tsdb.Stats) float64 {
		return float64(s.Merges.Series) / float64(max(s.Merges.AllSeries, 1))
	})
}

func (c *storeCollector) addRetention(add adder) {
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(counter, "prometheus_tsdb_time_retentions_total", "The number of times that blocks were deleted because the maximum time limit was exceeded.", func(s tsdb.Stats) float64 { return float64(s.TimeRetentions) })
	add(counter, "prometheus_tsdb_size_retentions_total", "The number of times that blocks were deleted because the maximum number of bytes was exceeded.", func(s tsdb.Stats) float64 { return float64(s.SizeRetentions) })
	add(counter, "tidemark_store_full_disk_deletions_total", "Blocks that were deleted because the disk was full, as storage.on_full says.", func(s tsdb.Stats) float64 { return float64(s.FullDeletions) })
	add(gauge, "prometheus_tsdb_retention_limit_seconds", "How long to retain samples in storage.", func(tsdb.Stats) float64 { return c.db.Retention().Keep.Seconds() })
	add(gauge, "prometheus_tsdb_retention_limit_bytes", "Max number of bytes to be retained in the store, configured 0 means disabled.", func(tsdb.Stats) float64 { return float64(c.db.Retention().Bytes) })
	add(gauge, "tidemark_store_deletes", "Deletes of which something is left to purge.", func(tsdb.Stats) float64 { return float64(len(c.db.Deletes())) })
}

func (c *storeCollector) addScrub(add adder) {
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(counter, "tidemark_store_scrub_read_bytes_total", "Bytes that were read again to find damage.", func(tsdb.Stats) float64 { return float64(c.db.ScrubStats().Bytes) })
	add(counter, "tidemark_store_scrub_passes_total", "Times that all files were read again to find damage.", func(tsdb.Stats) float64 { return float64(c.db.ScrubStats().Passes) })
	add(counter, "tidemark_store_scrub_damages_total", "Damaged places that were found so.", func(tsdb.Stats) float64 { return float64(c.db.ScrubStats().Damages) })
	add(gauge, "tidemark_store_scrub_last_pass_timestamp_seconds", "When all files had last been read again, 0 while they have not.", func(tsdb.Stats) float64 {
		if last := c.db.ScrubStats().LastPass; !last.IsZero() {
			return float64(last.UnixMilli()) / 1000
		}
		return 0
	})
}

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
	ch <- c.samples
	ch <- c.rejected
	for _, d := range c.refused {
		ch <- d
	}
	ch <- c.merges
	c.restored.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.db.Stats()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
	ch <- prometheus.MustNewConstHistogram(c.merges, s.Merges.Done, s.Merges.Seconds, s.Merges.Buckets())
	counter := prometheus.CounterValue
	histograms := s.Head.Samples[sample.Histogram] + s.Head.Samples[sample.FloatHistogram]
	ch <- prometheus.MustNewConstMetric(c.samples, counter, float64(s.Head.Samples[sample.Float]), "float")
	ch <- prometheus.MustNewConstMetric(c.samples, counter, float64(histograms), "histogram")
	for r := range sample.Reasons {
		if reason := sample.Reason(r); reason != sample.Accepted {
			ch <- prometheus.MustNewConstMetric(c.rejected, counter, float64(s.Head.Reasons[r]), reason.String())
		}
	}
	for i, d := range c.refused {
		n := c.db.Refused(refusedMetrics[i].reason)
		ch <- prometheus.MustNewConstMetric(d, counter, float64(n.Floats), "float")
		ch <- prometheus.MustNewConstMetric(d, counter, float64(n.Histograms), "histogram")
	}
	c.restored.Set(c.db.Recovery().Took.Seconds())
	c.restored.Collect(ch)
}
