// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// walk is a series that moves as those of real exporters do.
type walk struct {
	kind int
	v    float64
	rate float64
}

// fleetLabels returns the labels of the i-th series of a fleet: per host 427 series of a node exporter's names.
func fleetLabels(i int) labels.Labels {
	host, n := i/427, i%427
	return labels.FromStrings(
		labels.MetricName, fmt.Sprintf("node_metric_%d_total", n/8),
		"device", fmt.Sprintf("dev%d", n%8), "mode", "user",
		"instance", fmt.Sprintf("host%04d.example.com:9100", host), "job", "node", "cluster", "prod-1",
		"region", fmt.Sprintf("region-%d", host%4), "env", "production", "team", fmt.Sprintf("team-%d", host%12))
}

func newWalk(rng *rand.Rand) walk {
	return walk{kind: rng.IntN(20), v: math.Floor(rng.Float64() * 1e6), rate: math.Exp(rng.Float64()*8 + 1)}
}

// next is a mix: 45 % constant, 25 % mostly flat, 15 % integer counters, 10 % two decimals, 5 % full doubles.
func (w *walk) next(rng *rand.Rand) float64 {
	switch {
	case w.kind < 9:
	case w.kind < 14:
		if rng.IntN(30) == 0 {
			w.v += float64(1 + rng.IntN(3))
		}
	case w.kind < 17:
		w.v += math.Floor(w.rate * (0.7 + 0.6*rng.Float64()))
	case w.kind < 19:
		w.v = math.Round((w.v+15*rng.Float64())*100) / 100
	default:
		w.v += (rng.Float64() - 0.5) * w.rate
	}
	return w.v
}

func newFleet(tb testing.TB, series int, account *budget.Account) (*bench, []sample.Ref, []walk) {
	x := newBench(tb, Options{SlotMillis: 2 * 3600 * 1000, Account: account})
	rng := rand.New(rand.NewPCG(1, 2))
	refs, walks := make([]sample.Ref, series), make([]walk, series)
	for i := range refs {
		refs[i], walks[i] = x.series(fleetLabels(i)), newWalk(rng)
	}
	return x, refs, walks
}

// BenchmarkAppend measures the time per sample of batches of 2,000 in-order floats. pins=1 keeps a pin open that
// is renewed with each round, so that each append saves a version.
func BenchmarkAppend(b *testing.B) {
	for _, series := range []int{2_000, 200_000} {
		for _, pins := range []int{0, 1} {
			b.Run(fmt.Sprintf("series=%d/pins=%d", series, pins), func(b *testing.B) { benchmarkAppend(b, series, pins) })
		}
	}
}

func benchmarkAppend(b *testing.B, series, pins int) {
	const rows = 2000
	x, refs, walks := newFleet(b, series, nil)
	rng := rand.New(rand.NewPCG(3, 4))
	batch := &sample.Batch{}
	var pin *Pin
	at, tm := 0, int64(1_700_000_000_000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		if at == 0 {
			tm += 15_000
			if pin != nil {
				pin.Close()
			}
			if pins > 0 {
				pin = x.pin()
			}
		}
		batch.Reset()
		for i := at; i < at+rows; i++ {
			batch.AppendFloat(refs[i], 0, tm, walks[i].next(rng), 0)
		}
		at = (at + rows) % series
		b.StartTimer()
		w := x.h.Prepare(batch, allTimes)
		x.lsn++
		x.h.Enqueue(w, x.lsn)
		var r sample.Result
		x.h.Apply(w, &r)
		if r.Reason != nil {
			b.Fatal(r.Reason[0])
		}
	}
	b.StopTimer()
	if pin != nil {
		pin.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/sample")
}

// fill appends n samples to each series, 15 s apart.
func fill(x *bench, refs []sample.Ref, walks []walk, n int) {
	rng := rand.New(rand.NewPCG(5, 6))
	batch := &sample.Batch{}
	tm := int64(1_700_000_000_000)
	for range n {
		tm += 15_000
		for at := 0; at < len(refs); at += 2000 {
			batch.Reset()
			for i := at; i < min(at+2000, len(refs)); i++ {
				batch.AppendFloat(refs[i], 0, tm, walks[i].next(rng), 0)
			}
			x.commit(batch, allTimes)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	x, refs, walks := newFleet(b, 20_000, nil)
	fill(x, refs, walks, 60)
	p := x.pin()
	defer p.Close()
	ids := make([]uint32, len(refs))
	for i, r := range refs {
		ids[i] = r.ID()
	}
	for _, group := range []int{1, 256} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			b.ReportAllocs()
			dst, at, rows := &column.Block{}, 0, 0
			for b.Loop() {
				dst.Reset()
				if err := p.ReadMany(ids[at:at+group], 0, math.MaxInt64, false, dst, nil); err != nil {
					b.Fatal(err)
				}
				rows += len(dst.T)
				at = (at + group) % (len(ids) - group)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/sample")
		})
	}
}

// BenchmarkSnapshot writes and loads a checkpoint of 100,000 series with 60 samples.
func BenchmarkSnapshot(b *testing.B) {
	x, refs, walks := newFleet(b, 100_000, nil)
	fill(x, refs, walks, 60)
	p := x.pin()
	defer p.Close()
	file := snapshotOf(b, x.h, p)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := x.h.Snapshot(p.Epoch(), io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(file))/float64(len(refs)), "B/series")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(refs)), "ns/series")
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			h := New(x.h.opts)
			if err := h.LoadSnapshot(bytes.NewReader(file)); err != nil {
				b.Fatal(err)
			}
			_ = h.Close()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(refs)), "ns/series")
	})
}

// BenchmarkDropSlot marks and gives back a slot of 100,000 series.
func BenchmarkDropSlot(b *testing.B) {
	x, refs, walks := newFleet(b, 100_000, nil)
	for b.Loop() {
		b.StopTimer()
		fill(x, refs, walks, 10)
		p := x.pin()
		slot := x.h.Slots()[0].Start
		b.StartTimer()
		x.h.DropSlot(slot, p.Epoch())
		p.Close()
		b.StopTimer()
		// The next round's samples would be late.
		for _, s := range x.h.shards {
			for local := range s.headers.len() {
				s.headers.at(local).lastT = 0
			}
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(refs)), "ns/series")
}

func BenchmarkCreate(b *testing.B) {
	x := newBench(b, Options{})
	ls := make([]labels.Labels, b.N)
	for i := range ls {
		ls[i] = fleetLabels(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, l := range ls {
		x.series(l)
	}
}

func BenchmarkLookup(b *testing.B) {
	x, _, _ := newFleet(b, 20_000, nil)
	i := 0
	ls := make([]labels.Labels, 20_000)
	for i := range ls {
		ls[i] = fleetLabels(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := x.h.Lookup(ls[i]); !ok {
			b.Fatal("not found")
		}
		i = (i + 7919) % len(ls)
	}
}

// A series of the fleet with 60 samples is to take at most 450 bytes, index and all.
func TestMemoryPerSeriesStaysInBounds(t *testing.T) {
	const series, limit = 50_000, 450
	account := budget.NewRoot("head", 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x, refs, walks := newFleet(t, series, account)
	fill(x, refs, walks, 60)
	runtime.GC()
	runtime.ReadMemStats(&after)
	st := x.h.Stats()
	heap := float64(after.HeapAlloc) - float64(before.HeapAlloc) - float64(len(walks)*24+len(refs)*8)
	per := float64(st.Bytes) / series
	t.Logf("%.0f B per series: charged %.0f, Go heap %.0f", per, float64(account.Used())/series, heap/series)
	if per > limit || float64(account.Used())/series > limit {
		t.Errorf("a series takes %.0f B, %.0f charged, want at most %d", per, float64(account.Used())/series, limit)
	}
	runtime.KeepAlive(walks)
}

// BenchmarkMemory reports what the head takes for each of 213,500 series with 25 samples, and what that is for.
func BenchmarkMemory(b *testing.B) {
	const series = 213_500
	for b.Loop() {
		account := budget.NewRoot("head", 0)
		x, refs, walks := newFleet(b, series, account)
		fill(x, refs, walks, 25)
		settle(x.h)
		m := memoryOf(x.h)
		b.ReportMetric(m.records/series, "records-B/series")
		b.ReportMetric(m.samples/series, "samples-B/series")
		b.ReportMetric(m.labels/series, "labels-B/series")
		b.ReportMetric(m.index/series, "index-B/series")
		b.ReportMetric(float64(account.Used())/series, "B/series")
	}
	b.ReportMetric(0, "ns/op")
}

// settle has a head give back what it does without after some seconds.
func settle(h *Head) {
	for range 3 {
		h.Gather()
	}
}

// memory is what a head takes, in bytes.
type memory struct{ records, samples, labels, index float64 }

func memoryOf(h *Head) (m memory) {
	for _, s := range h.shards {
		m.records += float64(s.headers.records.Bytes() + s.footers.records.Bytes())
		m.samples += float64(s.bytes.Stats().Committed)
	}
	d := &h.dir
	m.labels = float64(d.entries.records.Bytes() + d.bytes.Stats().Committed + d.table.bytes())
	m.index = float64(d.index.Bytes())
	return m
}

func TestSeriesTakesLittleMemory(t *testing.T) {
	const series = 40_000
	account := budget.NewRoot("head", 0)
	x, refs, walks := newFleet(t, series, account)
	fill(x, refs, walks, 20)
	settle(x.h)
	if per := float64(account.Used()) / series; per > 350 {
		t.Errorf("a series takes %.0f bytes: %+v", per, memoryOf(x.h))
	}
}
