// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// fleetSeries is how many series a host of fleet has.
const fleetSeries = 400

// fleet returns the label sets of hosts with 400 series each.
func fleet(hosts int) []labels.Labels {
	var out []labels.Labels
	for h := range hosts {
		for i := range fleetSeries {
			out = append(out, labels.FromStrings(
				labels.MetricName, fmt.Sprintf("node_metric_%02d_total", i/10), "cluster", fmt.Sprintf("eu-west-%d", h%4),
				"device", fmt.Sprintf("dev%d", i%10), "env", "prod", "instance", fmt.Sprintf("host-%05d.example:9100", h),
				"job", "node", "rack", fmt.Sprintf("r%02d", h%40), "team", fmt.Sprintf("team-%02d", h%17),
			))
		}
	}
	return out
}

// fillAt writes one sample to each of ls.
func fillAt(b testing.TB, db *DB, ls []labels.Labels, at int64) {
	b.Helper()
	fill(b, db, ls, at, 1)
}

// fill writes steps samples to each of ls, 15 s apart, 2,000 to a batch.
func fill(b testing.TB, db *DB, ls []labels.Labels, start int64, steps int) {
	b.Helper()
	refs := make([]sample.Ref, len(ls))
	if err := db.Resolve(ls, refs); err != nil {
		b.Fatal(err)
	}
	var batch sample.Batch
	var r sample.Result
	for step := range steps {
		for from := 0; from < len(refs); from += 2000 {
			batch.Reset()
			for i, ref := range refs[from:min(from+2000, len(refs))] {
				batch.AppendFloat(ref, 0, start+int64(step)*15_000, float64((step*7+i)%1000), 0)
			}
			if _, err := db.Commit(context.Background(), &batch, &r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkReplay is the start of a store after kill -9: no checkpoint, all of the log.
func BenchmarkReplay(b *testing.B) {
	o := Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process, NoLock: true}
	db := openTest(b, o)
	ls := fleet(250)
	const steps = 30
	fill(b, db, ls, 0, steps)
	if err := db.Durable(b.Context(), db.journal.Last()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		again, err := Open(b.Context(), o) // beside the first, which writes nothing meanwhile
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(again.recovery.Took.Nanoseconds())/float64(again.recovery.Samples), "ns/sample")
		b.StopTimer()
		again.stop()
		<-again.done
		again.users.close()
		if err := again.release(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
