// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// BenchmarkExport writes 200 series of 1,000 samples from memory. It reports CPU time per sample.
func BenchmarkExport(b *testing.B) {
	store := &columntest.Store{}
	for s := range 200 {
		ls := labels.FromStrings("__name__", "node_cpu_seconds_total", "cpu", fmt.Sprint(s), "instance", "host-00042.example:9100", "mode", "idle")
		for i := range 1000 {
			store.Append(ls, columntest.Sample{T: 1_700_000_000_000 + int64(i)*15_000, V: float64(s*i) * 0.37})
		}
	}
	csv := exportCSV{columns: []csvColumn{{label: "__name__"}, {label: "cpu"}, {}, {time: csvTime("unix_ms")}}, values: make([]string, 4)}
	for name, to := range map[string]exportWriter{"JSONLines": exportLines{}, "CSV": &csv} {
		b.Run(name, func(b *testing.B) {
			var before, after unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				e := newEncoder(io.Discard)
				x := &export{span: span{math.MinInt64, math.MaxInt64}, to: to, sets: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "__name__", "node_cpu_seconds_total")}}}
				if err := x.run(b.Context(), store, e); err != nil {
					b.Fatal(err)
				}
				e.release()
			}
			if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(used)/float64(b.N)/200_000, "cpu-ns/sample")
		})
	}
}
