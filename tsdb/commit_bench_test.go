// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// BenchmarkCommit is the storage alone: batches of floats to known series, ours and Prometheus' with its server's
// options. Both write their logs; neither waits for the disk. Making the values is not measured.
func BenchmarkCommit(b *testing.B) {
	for _, x := range []commitShape{
		{name: "17k", hosts: 40, batch: 2000},
		{name: "100k", hosts: 250, batch: 2000},
		{name: "100k-any-order", hosts: 250, batch: 2000, shuffle: true},
		{name: "200k-at-once", hosts: 500, batch: 200_000},
	} {
		b.Run(x.name+"/tidemark", func(b *testing.B) { benchCommit(b, x, ourCommit(b, fleet(x.hosts))) })
		b.Run(x.name+"/prometheus", func(b *testing.B) { benchCommit(b, x, theirCommit(b, fleet(x.hosts))) })
	}
}

// commitShape is series that get a sample each in turns, so many at a time.
type commitShape struct {
	name         string
	hosts, batch int
	shuffle      bool
}

// order returns which series come one after the other.
func (x commitShape) order() []int {
	n := x.hosts * fleetSeries
	if x.shuffle {
		return rand.New(rand.NewPCG(1, 2)).Perm(n)
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// commitFunc appends a value at t to each of the series.
type commitFunc func(series []int, t int64, values []float64) error

func ourCommit(b *testing.B, ls []labels.Labels) commitFunc {
	db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1})
	refs := make([]sample.Ref, len(ls))
	if err := db.Resolve(ls, refs); err != nil {
		b.Fatal(err)
	}
	var batch sample.Batch
	var r sample.Result
	return func(series []int, t int64, values []float64) error {
		batch.Reset()
		for i, k := range series {
			batch.AppendFloat(refs[k], 0, t, values[i], 0)
		}
		_, err := db.Commit(b.Context(), &batch, &r)
		return err
	}
}

func theirCommit(b *testing.B, ls []labels.Labels) commitFunc {
	db := openPrometheus(b)
	refs := make([]storage.SeriesRef, len(ls))
	app := db.Appender(b.Context())
	for i, l := range ls {
		var err error
		if refs[i], err = app.Append(0, l, time.Now().UnixMilli()-60_000, 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		b.Fatal(err)
	}
	return func(series []int, t int64, values []float64) error {
		app := db.Appender(b.Context())
		for i, k := range series {
			var err error
			if refs[k], err = app.Append(refs[k], ls[k], t, values[i]); err != nil {
				return err
			}
		}
		return app.Commit()
	}
}

// benchCommit commits to all series in turns, once beforehand. It tells the time of committing, the CPU time of the
// goroutine that does it, and that of the process, in which are making the values and what goes on in the background. quick
// is what the quickest tenth of commits takes at most of the goroutine's time: they had the core and its caches for themselves.
func benchCommit(b *testing.B, x commitShape, commit commitFunc) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	order, from, step, start := x.order(), 0, 0, time.Now().UnixMilli()
	values := make([]float64, x.batch)
	var took, own time.Duration
	var each []time.Duration
	next := func() {
		series := order[from : from+x.batch]
		for i, k := range series {
			values[i] = movingValue(k, step)
		}
		at, before := time.Now(), threadTime()
		if err := commit(series, start+int64(step)*15_000, values); err != nil {
			b.Fatal(err)
		}
		each = append(each, threadTime()-before)
		took, own = took+time.Since(at), own+each[len(each)-1]
		if from += x.batch; from == len(order) {
			from, step = 0, step+1
		}
	}
	for step == 0 {
		next()
	}
	took, own, each = 0, 0, each[:0]
	b.ReportAllocs()
	before := processTime(b)
	for b.Loop() {
		next()
	}
	samples := float64(b.N * x.batch)
	b.ReportMetric(float64(took.Nanoseconds())/samples, "ns/sample")
	b.ReportMetric(float64(own.Nanoseconds())/samples, "own-CPU-ns/sample")
	slices.Sort(each)
	b.ReportMetric(float64(each[len(each)/10].Nanoseconds())/float64(x.batch), "quick-CPU-ns/sample")
	b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/samples, "CPU-ns/sample")
	b.ReportMetric(0, "ns/op")
}

// movingValue is a third constants, a third counters and a third seconds with two decimals.
func movingValue(series, step int) float64 {
	noise := float64((uint64(series)*0x9e3779b97f4a7c15+uint64(step)*0xbf58476d1ce4e5b9)>>40) / (1 << 24)
	switch series % 3 {
	case 0:
		return float64(series % 7)
	case 1:
		return math.Floor((float64(step) + noise) * 1000)
	}
	return math.Round((float64(step)+noise)*1500) / 100
}

// openPrometheus opens Prometheus' storage, the log compressed as its server does by default.
func openPrometheus(tb testing.TB) *promtsdb.DB {
	tb.Helper()
	o := promtsdb.DefaultOptions()
	o.WALCompression = compression.Snappy
	db, err := promtsdb.Open(tb.TempDir(), nil, nil, o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// processTime is the CPU time of this process so far: on a machine that does other things, too, the clock says little.
func processTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fillPrometheus writes one sample to each of ls.
func fillPrometheus(tb testing.TB, db *promtsdb.DB, ls []labels.Labels, at int64) {
	tb.Helper()
	for from := 0; from < len(ls); from += 10_000 {
		app := db.Appender(context.Background())
		for _, l := range ls[from:min(from+10_000, len(ls))] {
			if _, err := app.Append(0, l, at, 1); err != nil {
				tb.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			tb.Fatal(err)
		}
	}
}
