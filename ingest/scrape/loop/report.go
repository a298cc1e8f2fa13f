// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"math"
	"time"
	"unique"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// How many series report about a target, always, and with extra_scrape_metrics.
const (
	usualReports = 5
	reportSeries = 8
)

// report is one of them. What is said of it is Prometheus' text.
type report struct{ name, unit, help string }

// reports returns them in the order of values.
func reports() [reportSeries]report {
	return [reportSeries]report{
		{"up", "targets", "Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed."},
		{"scrape_duration_seconds", "seconds", "Duration of the last scrape in seconds."},
		{"scrape_samples_scraped", "samples", "Number of samples last scraped."},
		{"scrape_samples_post_metric_relabeling", "samples", "Number of samples remaining after metric relabeling was applied."},
		{"scrape_series_added", "series", "Number of series in the last scrape."},
		{"scrape_timeout_seconds", "seconds", "The configured scrape timeout for a target."},
		{"scrape_sample_limit", "samples", "The configured sample limit for a target. Returns zero if there is no limit configured."},
		{"scrape_body_size_bytes", "bytes", "The uncompressed size of the last scrape response, if successful. Scrapes failing because body_size_limit is exceeded report -1, other scrape failures report 0."},
	}
}

// result is what a scrape came to.
type result struct {
	duration time.Duration
	bytes    int
	err      error
}

// values are those of the reports.
func (l *Loop) values(r *round, x result) [reportSeries]float64 {
	up := 0.0
	if x.err == nil {
		up = 1
	}
	return [reportSeries]float64{
		up, x.duration.Seconds(), float64(r.total), float64(r.added), float64(r.fresh),
		l.timeout.Seconds(), float64(l.set.sampleLimit), float64(x.bytes),
	}
}

// report adds the rows of the reports.
func (r *round) report(values [reportSeries]float64, flags sample.Flag) {
	n := usualReports
	if r.set.extraMetrics {
		n = reportSeries
	}
	r.firstReport = r.req.Len()
	for i := range n {
		if ref := r.c.reports[i]; ref != 0 {
			r.req.Known(ref)
		} else {
			r.define(r.end.reportLabels(reports()[i].name))
		}
		r.where = append(r.where, noEntry)
		r.req.Scrape(0, r.t, values[i], flags)
		if r.set.passMetadata && r.c.reports[i] == 0 {
			r.describeReport(i)
		}
	}
}

func (r *round) describeReport(i int) {
	x := reports()[i]
	d := described{metadata.Metadata{Type: model.MetricTypeGauge, Unit: x.unit, Help: x.help}, x.name}
	r.tellStore(noEntry, unique.Make(d))
}

// reportGone marks the reports stale.
func (r *round) reportGone() {
	var values [reportSeries]float64
	for i := range values {
		values[i] = math.Float64frombits(value.StaleNaN)
	}
	r.report(values, sample.RejectOutOfOrder)
}

// knowReports remembers the series of the reports, once they are committed.
func (r *round) knowReports() {
	for i := r.firstReport; i < r.req.Len(); i++ {
		r.c.reports[i-r.firstReport] = r.req.Ref(i)
	}
}
