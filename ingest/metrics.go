// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// metrics are those that all protocols share.
type metrics struct {
	rows       *prometheus.CounterVec // by reason
	byReason   [sample.Reasons]prometheus.Counter
	invalid    prometheus.Counter // refused before the store saw them
	refused    prometheus.Counter // of new series beyond a limit on their number
	leftOut    prometheus.Counter // of a replica that is not elected
	exemplars  prometheus.Counter
	lookups    prometheus.Counter
	misses     prometheus.Counter
	staleRefs  prometheus.Counter
	collectors []prometheus.Collector
}

func newMetrics(keys *KeyTable) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_ingest_" + name, Help: help})
	}
	m := &metrics{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_ingest_samples_total",
			Help: "Samples and histograms received by push, by what became of them; accepted and same ones are stored.",
		}, []string{"result"}),
		exemplars: counter("exemplars_stored_total", "Exemplars received by push and stored."),
		lookups:   counter("key_lookups_total", "Series of requests that were looked up by the hash of their label bytes."),
		misses:    counter("key_misses_total", "Series of requests whose labels had to be parsed."),
		staleRefs: counter("stale_refs_total", "Samples whose series had left the store since it was looked up, and which were tried again."),
	}
	for r := range sample.Reasons {
		m.byReason[r] = m.rows.WithLabelValues(sample.Reason(r).String())
	}
	m.leftOut = m.rows.WithLabelValues("deduplicated")
	m.invalid, m.refused = m.rows.WithLabelValues("malformed"), m.rows.WithLabelValues("series_limit")
	m.collectors = []prometheus.Collector{
		m.rows, m.exemplars, m.lookups, m.misses, m.staleRefs,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tidemark_ingest_keys", Help: "Hashes of label bytes that are known.",
		}, func() float64 { return float64(keys.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tidemark_ingest_keys_bytes", Help: "Memory of the table of known hashes.",
		}, func() float64 { return float64(keys.Bytes()) }),
	}
	return m
}
