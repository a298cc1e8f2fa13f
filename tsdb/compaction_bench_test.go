// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// hostSeries is how many series a host of the benchmark has: of every ten four constants, two counters, two that change
// seldom, one of decimals, one of pages.
const hostSeries = 420

// slotOfHosts yields what hosts send in a slot of two hours, every 15 s within 3 ms, in label order.
func slotOfHosts(hosts int, start int64) block.Source {
	const n = 480
	return block.Source{Series: func(yield func(block.Series, error) bool) {
		times := make([][]int64, hosts)
		for h := range times {
			rng := rand.New(rand.NewPCG(uint64(h), uint64(start)))
			for i := range int64(n) {
				times[h] = append(times[h], start+int64(h)*7919%14_000+i*15_000+rng.Int64N(7))
			}
		}
		v := make([]float64, n)
		for k := range hostSeries * hosts {
			// In the order of labels: metric, host, part.
			m, h := k/(20*hosts)*20+k%20, k/20%hosts
			rng := rand.New(rand.NewPCG(uint64(m)<<32|uint64(h), uint64(start)))
			x := math.Floor(rng.Float64()*1e6) + float64(start/15_000)
			for i := range v {
				switch m % 10 {
				case 4, 5:
					x += float64(rng.IntN(20 + m))
				case 6, 7:
					if rng.IntN(30) == 0 {
						x++
					}
				case 8:
					x = math.Round(x*100+float64(rng.IntN(600)-300)) / 100
				case 9:
					if rng.IntN(10) < 6 {
						x += 4096 * float64(rng.IntN(200)-100)
					}
				}
				v[i] = x
			}
			s := block.Series{Rows: &column.Block{T: times[h], V: v}, To: n, Labels: labels.FromStrings(
				labels.MetricName, fmt.Sprintf("metric_%02d_total", m/20), "host", fmt.Sprintf("%05d", h),
				"instance", fmt.Sprintf("host-%05d.example:9100", h), "job", "node", "part", fmt.Sprintf("%02d", m%20))}
			if !yield(s, nil) {
				return
			}
		}
	}}
}

// BenchmarkMerge merges the blocks of the slots of a day: CPU time of the process, bytes, and the most memory that the
// merge held at a time beside what open blocks take. They are as they come from the head, or as merges write them.
// MERGE_HOSTS sets the number of hosts, of 420 series each.
func BenchmarkMerge(b *testing.B) {
	b.Run("first", func(b *testing.B) { benchmarkMerge(b, 0) })
	b.Run("again", func(b *testing.B) { benchmarkMerge(b, 1) })
}

func benchmarkMerge(b *testing.B, level int) {
	hosts, err := strconv.Atoi(os.Getenv("MERGE_HOSTS"))
	if err != nil {
		hosts = 4
	}
	const slot, day = int64(2 * time.Hour / time.Millisecond), int64(24 * time.Hour / time.Millisecond)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		blocks := path.Join(dir, "tidemark", "blocks")
		if err := fsx.OS().MkdirAll(blocks); err != nil {
			b.Fatal(err)
		}
		samples, before := 0.0, int64(0)
		for start := 20_000 * day; start <= 20_001*day; start += slot {
			of := hosts
			if start == 20_001*day {
				of = 1 // it says that the day is over
			}
			m, err := block.Write(fsx.OS(), blocks, block.Meta{SlotStart: start, SlotEnd: start + slot, Level: level}, slotOfHosts(of, start))
			if err != nil {
				b.Fatal(err)
			}
			if start < 20_001*day {
				info, err := fsx.OS().Stat(block.Path(blocks, m.ULID))
				if err != nil {
					b.Fatal(err)
				}
				samples, before = samples+float64(m.Floats), before+info.Size
			}
		}
		root := budget.NewRoot("bench", 0)
		db, err := Open(b.Context(), Options{Dir: dir, Budget: root})
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		idle := db.upkeep.Used()
		b.StartTimer()
		start := cpuTime()
		if err := db.Compact(b.Context()); err != nil {
			b.Fatal(err)
		}
		took := cpuTime() - start
		b.StopTimer()
		s := db.Stats().Merges
		if s.Done != 1 {
			b.Fatalf("%d merges", s.Done)
		}
		b.ReportMetric(float64(took.Nanoseconds())/samples, "cpu-ns/sample")
		b.ReportMetric(float64(before)/samples, "B/sample-before")
		b.ReportMetric(float64(s.BytesWritten)/samples, "B/sample-after")
		b.ReportMetric(float64(db.upkeep.Peak()-idle)/(1<<20), "peak-MiB")
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
