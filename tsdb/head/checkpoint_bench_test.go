// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// busyWriter is the file of a checkpoint, and a client that writes a batch whenever a frame is written.
type busyWriter struct {
	tb     testing.TB
	x      *bench
	refs   []sample.Ref
	at     int
	tm     int64
	bytes  int64
	frames int
	batch  sample.Batch
}

func (w *busyWriter) Write(p []byte) (int, error) {
	w.bytes += int64(len(p))
	w.frames++
	if w.frames%8 != 0 {
		return len(p), nil
	}
	w.batch.Reset()
	for range 2_000 {
		if w.at == len(w.refs) {
			w.at, w.tm = 0, w.tm+15_000
		}
		w.batch.AppendFloat(w.refs[w.at], 0, w.tm, float64(w.tm%1000), 0)
		w.at++
	}
	if _, r := w.x.commit(&w.batch, allTimes); r.Reason != nil {
		w.tb.Fatal("rows were refused")
	}
	return len(p), nil
}

// BenchmarkSnapshotUnderLoad writes a checkpoint of 213,500 series with 25 samples while all of them get more, and
// reports by how much the head grows for each of them until the checkpoint is written and afterwards.
func BenchmarkSnapshotUnderLoad(b *testing.B) {
	const series = 213_500
	for b.Loop() {
		b.StopTimer()
		account := budget.NewRoot("head", 0)
		x, refs, walks := newFleet(b, series, account)
		fill(x, refs, walks, 25)
		settle(x.h)
		before := account.Used()
		first := x.h.maxT.Load()
		w := &busyWriter{tb: b, x: x, refs: refs, tm: first + 15_000}
		epoch := x.settle()
		b.StartTimer()
		if err := x.h.Snapshot(epoch, w); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		during := account.Used()
		settle(x.h)
		after := account.Used()
		b.ReportMetric(float64(during-before)/series, "grown-B/series")
		b.ReportMetric(float64(after-before)/series, "kept-B/series")
		b.ReportMetric(float64(x.h.maxT.Load()-first)/15_000, "rounds")
		b.ReportMetric(float64(w.bytes)/series, "file-B/series")
		b.StartTimer()
	}
}
