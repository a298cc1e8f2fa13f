// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package dedup

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

func (t *Tracker) register() error {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_ha_dedup_" + name, Help: help})
	}
	t.elections = counter("failovers_total", "Times that a replica was elected in the place of another.")
	t.unsaved = counter("save_failures_total", "Elections that could not be written to disk.")
	t.crowded = counter("untracked_series_total", "Series that were taken as they are because there are more replicas than are told apart, or their names are longer than 1024 bytes.")
	if t.opts.Registerer == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{t.elections, t.unsaved, t.crowded, &collector{
		tracker: t,
		heard: prometheus.NewDesc("tidemark_ha_dedup_elected_timestamp_seconds",
			"When the elected replica of a cluster last sent something.", []string{"cluster", "replica"}, nil),
	}} {
		if err := t.opts.Registerer.Register(c); err != nil {
			return fmt.Errorf("register the metrics of deduplication: %w", err)
		}
	}
	return nil
}

// collector shows who is elected.
type collector struct {
	tracker *Tracker
	heard   *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.heard }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	t := c.tracker
	if t.Roster() == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now, elapsed := t.opts.Now().UnixMilli(), t.elapsed()
	for _, x := range t.clusters {
		if e := x.elected.Load(); e != nil {
			at := now - (elapsed - x.heard.Load())
			ch <- prometheus.MustNewConstMetric(c.heard, prometheus.GaugeValue, float64(at)/1000, x.name, e.replica)
		}
	}
}
