// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import "github.com/prometheus/client_golang/prometheus"

func newHits() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tidemark_series_limit_hits_total",
		Help: "New series that came while a series limit was reached, by what the limit does; one that is refused counts each time it comes.",
	}, []string{"limit", "action"})
}

// collector shows how far limits are used at the time of the scrape.
type collector struct {
	limiter              *Limiter
	most, series, values *prometheus.Desc
}

func newCollector(l *Limiter) *collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("tidemark_series_limit_"+name, help, []string{"limit", "per"}, nil)
	}
	return &collector{
		limiter: l,
		most:    desc("max", "Series that a limit allows."),
		series:  desc("series", "Series of the head; for a limit per value of a label those of the value that has the most."),
		values:  desc("reached", "Values, of those that were refused or told of, that have as many series as a limit allows."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.most
	ch <- c.series
	ch <- c.values
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.limiter.Status() {
		reached := 0
		for _, o := range s.Offenders {
			if o.Series >= s.Max {
				reached++
			}
		}
		gauge := func(d *prometheus.Desc, v int) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), s.Name, s.Per)
		}
		gauge(c.most, s.Max)
		gauge(c.series, s.Series)
		gauge(c.values, reached)
	}
}
