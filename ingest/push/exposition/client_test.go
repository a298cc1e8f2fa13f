// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/expfmt"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// registry holds a metric of each kind.
func registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs that ended."}, []string{"state"})
	counter.WithLabelValues("done").Add(3)
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "Time.", NativeHistogramBucketFactor: 2})
	native.Observe(1.5)
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "size_bytes", Help: "Size.", Buckets: []float64{1}})
	classic.Observe(0.5)
	r.MustRegister(counter, native, classic)
	return r
}

func TestClientOfAPushgatewayPushes(t *testing.T) {
	classic := []string{
		`{__name__="jobs_total", batch="1/2", job="nightly", state="done"} 3`,
		`{__name__="size_bytes_bucket", batch="1/2", job="nightly", le="+Inf"} 1`, `{__name__="size_bytes_bucket", batch="1/2", job="nightly", le="1.0"} 1`,
		`{__name__="size_bytes_count", batch="1/2", job="nightly"} 1`, `{__name__="size_bytes_sum", batch="1/2", job="nightly"} 0.5`,
	}
	for format, more := range map[expfmt.FormatType][]string{
		expfmt.TypeProtoDelim: {`{__name__="took_seconds", batch="1/2", job="nightly"} {count:1, sum:1.5, (1,2]:1}`},
		expfmt.TypeTextPlain: {
			`{__name__="took_seconds_bucket", batch="1/2", job="nightly", le="+Inf"} 1`,
			`{__name__="took_seconds_count", batch="1/2", job="nightly"} 1`, `{__name__="took_seconds_sum", batch="1/2", job="nightly"} 1.5`,
		},
	} {
		store := &ingesttest.Recorder{}
		srv := httptest.NewServer(newHandler(t, store).Gateway("/pushgateway"))
		p := push.New(srv.URL+"/pushgateway", "nightly").Grouping("batch", "1/2").Gatherer(registry()).Format(expfmt.NewFormat(format))
		if err := p.Push(); err != nil {
			t.Errorf("push: %v", err)
		}
		got := []string{}
		for _, line := range stored(store) {
			if !strings.Contains(line, "push_time_seconds") {
				got = append(got, line[:strings.LastIndexByte(line, '@')])
			}
		}
		want := append(slices.Clone(classic), more...)
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("format %v: %s", format, diff)
		}
		if m := store.Metadata(`{__name__="jobs_total", batch="1/2", job="nightly", state="done"}`); m.Type != "counter" || m.Help != "Jobs that ended." {
			t.Errorf("format %v: described as %+v", format, m)
		}
		if err := p.Add(); err != nil {
			t.Errorf("add: %v", err)
		}
		if err := p.Delete(); err != nil {
			t.Errorf("delete: %v", err)
		}
		srv.Close()
	}
}
