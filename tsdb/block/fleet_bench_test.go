// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// fleets are what the figures of docs/benchmarks.md are about: an hour of scrapes, and twelve hours of jittered ones.
var fleets = []struct {
	name string
	fleet
}{
	{"hour", fleet{hosts: 100, samples: 240, step: 15_000}},
	{"jittered12h", fleet{hosts: 20, samples: 2880, step: 15_000, jitter: 3}},
}

func fleetMeta() block.Meta {
	const slot = 7_200_000
	start := int64(fleetStart / slot * slot)
	return block.Meta{SlotStart: start, SlotEnd: start + slot, LSN: 1}
}

// cpuTime is what the process has used: on a machine that others use too, the clock says little.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFleetWrite reports the processor time of a write without that of making the samples, and the bytes of the samples
// alone (page-B/sample) and with everything else.
func BenchmarkFleetWrite(b *testing.B) {
	for _, f := range fleets {
		b.Run(f.name, func(b *testing.B) {
			samples := float64(f.series() * f.samples)
			begin := cpuTime(b)
			for range f.source().Series { // the source alone, to be taken off
			}
			source := cpuTime(b) - begin
			dir := b.TempDir()
			var info fsx.Info
			var index int64
			var took time.Duration
			b.ReportAllocs()
			for b.Loop() {
				begin := cpuTime(b)
				m, err := block.Write(fsx.OS(), dir, fleetMeta(), f.source())
				if err != nil {
					b.Fatal(err)
				}
				took += cpuTime(b) - begin - source
				name := block.Path(dir, m.ULID)
				if info, err = fsx.OS().Stat(name); err != nil {
					b.Fatal(err)
				}
				blk, err := block.Open(fsx.OS(), name, nil, block.Options{})
				if err != nil {
					b.Fatal(err)
				}
				index = blk.IndexBytes()
				if err := blk.Delete(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(took.Nanoseconds())/(float64(b.N)*samples), "ns/sample")
			b.ReportMetric(float64(info.Size)/samples, "B/sample")
			b.ReportMetric(float64(info.Size-index)/samples, "page-B/sample")
		})
	}
}

// BenchmarkFleetRead reads every seventh run of a hundred series, whole and a narrow part of it, through a cache that
// holds everything and through none.
func BenchmarkFleetRead(b *testing.B) {
	for _, f := range fleets {
		dir := b.TempDir()
		m, err := block.Write(fsx.OS(), dir, fleetMeta(), f.source())
		if err != nil {
			b.Fatal(err)
		}
		for _, cache := range []int64{1 << 30, 0} {
			blk, err := block.Open(fsx.OS(), block.Path(dir, m.ULID), block.NewCache(cache, nil), block.Options{})
			if err != nil {
				b.Fatal(err)
			}
			for _, part := range []int64{1, 12} {
				span := (m.MaxT - m.MinT) / part
				b.Run(fmt.Sprintf("%s/cached=%v/part=%d", f.name, cache > 0, part), func(b *testing.B) {
					benchRead(b, blk, m.MaxT-span, m.MaxT)
				})
			}
			if err := blk.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchRead(b *testing.B, blk *block.Block, mint, maxt int64) {
	rows, series := 0, 0
	var dst column.Block
	b.ReportAllocs()
	begin := cpuTime(b)
	for b.Loop() {
		for first := 0; first+100 < blk.Index().N(); first += 700 {
			r := blk.Reader()
			for id := first; id < first+100; id++ {
				dst.Reset()
				if err := r.Read(b.Context(), uint32(id), mint, maxt, false, &dst); err != nil {
					b.Fatal(err)
				}
				rows += len(dst.T)
				series++
			}
		}
	}
	took := float64((cpuTime(b) - begin).Nanoseconds())
	b.ReportMetric(took/float64(rows), "ns/sample")
	b.ReportMetric(took/float64(series), "ns/series")
}
