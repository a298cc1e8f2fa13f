// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// fillFleet writes steps samples, 15 s apart, that move as those of real exporters do: 45 % constant, 25 % mostly flat,
// 15 % integer counters, 10 % two decimals, 5 % full doubles.
func fillFleet(b *testing.B, db *DB, ls []labels.Labels, start int64, steps int) {
	b.Helper()
	refs := make([]sample.Ref, len(ls))
	if err := db.Resolve(ls, refs); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	vs := make([]float64, len(ls))
	var batch sample.Batch
	var r sample.Result
	for step := range steps {
		for from := 0; from < len(refs); from += 2000 {
			batch.Reset()
			for i := from; i < min(from+2000, len(refs)); i++ {
				switch kind := i % 20; {
				case kind < 9:
				case kind < 14:
					if rng.IntN(30) == 0 {
						vs[i] += float64(1 + rng.IntN(3))
					}
				case kind < 17:
					vs[i] += math.Floor(1000 * (0.7 + 0.6*rng.Float64()))
				case kind < 19:
					vs[i] = math.Round((vs[i]+15*rng.Float64())*100) / 100
				default:
					vs[i] += (rng.Float64() - 0.5) * 100
				}
				batch.AppendFloat(refs[i], 0, start+int64(step)*15_000, vs[i], 0)
			}
			if _, err := db.Commit(context.Background(), &batch, &r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkScan decodes 100,000 series in label order: 60 samples of the head, 20 of which a range of 5 minutes wants,
// and 120 of a block.
func BenchmarkScan(b *testing.B) {
	const steps = 60
	db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process, Slot: 2 * steps * 15 * time.Second, BlockCache: 1 << 30})
	ls := fleet(250)
	fillFleet(b, db, ls, 0, 2*steps)
	if err := db.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	const headStart = 2 * steps * 15_000
	fillFleet(b, db, ls, headStart, steps)
	for _, x := range []struct {
		name       string
		mint, maxt int64
	}{
		{"head", headStart, maxTime},
		{"head/5m", headStart + (steps-20)*15_000, maxTime},
		{"block", 0, headStart - 1},
		{"block+head", 0, maxTime},
	} {
		for _, workers := range []int{1, 2} {
			b.Run(x.name+map[int]string{1: "", 2: "/2workers"}[workers], func(b *testing.B) {
				benchmarkScan(b, db, column.Need{MinT: x.mint, MaxT: x.maxt}, workers)
			})
		}
	}
}

func benchmarkScan(b *testing.B, db *DB, need column.Need, workers int) {
	v, err := db.View(need.MinT, need.MaxT)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(b.Context(), nil, column.Hint{})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	rows := make([]int, workers)
	blocks := make([]column.Block, workers)
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				mine, dst := ids[w*len(ids)/workers:(w+1)*len(ids)/workers], &blocks[w]
				for len(mine) > 0 {
					n, err := v.Scan(context.Background(), set, mine, need, dst)
					if err != nil {
						b.Error(err)
						return
					}
					mine = mine[n:]
					rows[w] += len(dst.T)
				}
			})
		}
		wg.Wait()
	}
	total := 0
	for _, n := range rows {
		total += n
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(total), "ns/sample")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*set.N), "ns/series")
}

// BenchmarkLatest asks for the newest samples of 100,000 series in label order, which the head knows.
func BenchmarkLatest(b *testing.B) {
	db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process})
	fillFleet(b, db, fleet(250), 0, 20)
	v, err := db.View(0, maxTime)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(b.Context(), nil, column.Hint{})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	dst := column.Latest{Known: make([]bool, set.N), T: make([]int64, set.N), V: make([]float64, set.N)}
	b.ReportAllocs()
	for b.Loop() {
		if err := v.(column.LatestReader).Latest(b.Context(), set, ids, maxTime, &dst); err != nil || !dst.Known[set.N-1] {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*set.N), "ns/series")
}
