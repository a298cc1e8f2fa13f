// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The samples of a run of series take several frames: each must come back with its own series.
func TestCheckpointOfManySamplesKeepsThemWithTheirSeries(t *testing.T) {
	const series, rows = 600, 400
	x := newBench(t, Options{Shards: 4, SlotMillis: 1000 * testSlot})
	refs := make([]sample.Ref, series)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for tm := range int64(rows) {
		var b sample.Batch
		for _, ref := range refs {
			b.AppendFloat(ref, 0, tm, rng.NormFloat64(), 0)
		}
		x.commit(&b, allTimes)
	}
	p := x.pin()
	defer p.Close()
	y := &bench{tb: t, h: New(Options{Shards: 4, SlotMillis: 1000 * testSlot}), lsn: x.lsn}
	defer func() { _ = y.h.Close() }()
	if err := y.h.LoadSnapshot(bytes.NewReader(snapshotOf(t, x.h, p))); err != nil {
		t.Fatal(err)
	}
	q := y.pin()
	defer q.Close()
	for i, ref := range refs {
		want := text(x.read(p, ref.ID(), math.MinInt64, math.MaxInt64))
		if got := text(y.read(q, ref.ID(), math.MinInt64, math.MaxInt64)); got != want {
			t.Fatalf("series %d came back with other samples: %.40s… instead of %.40s…", i, got, want)
		}
	}
}

// A series that is reserved when its body is written and given up before its labels are looked up is none.
func TestCheckpointLeavesOutSeriesGivenUpMeanwhile(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	p := x.pin()
	defer p.Close()
	ref, err := x.h.Reserve(named(0))
	if err != nil {
		t.Fatal(err)
	}
	w := snapshotWriter{head: x.h, epoch: p.Epoch(), upTo: make([]sample.LSN, 1)}
	w.copyBodies(0, 1)
	if body := w.spans[0]; body[0] == body[1] {
		t.Fatal("the reserved series is not there")
	}
	x.h.Unreserve(ref)
	gen := w.record(ref.ID(), true)
	if want := []byte{byte(ref.Generation()), idVacant}; gen != 0 || !bytes.Equal(w.ids, want) {
		t.Errorf("the record of the id is %v, want %v", w.ids, want)
	}
}

// What is read ahead of a checkpoint is charged, as much as there is of it, until it is loaded.
func TestFramesOnTheirWayAreCharged(t *testing.T) {
	x := newBench(t, Options{Shards: 4, SlotMillis: 1000 * testSlot})
	refs := make([]sample.Ref, 400)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	for tm := range int64(100) {
		var b sample.Batch
		for i, ref := range refs {
			b.AppendFloat(ref, 0, tm, float64(tm)*1.1+float64(i), 0)
		}
		x.commit(&b, allTimes)
	}
	p := x.pin()
	defer p.Close()
	file := snapshotOf(t, x.h, p)
	account := budget.NewRoot("head", 0)
	h := New(Options{Shards: 4, SlotMillis: 1000 * testSlot, Account: account})
	if err := h.LoadSnapshot(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if loaded := account.Used(); account.Peak() < loaded+int64(len(file))/4 {
		t.Errorf("%d bytes at the most, %d of them stay: a file of %d bytes was not charged", account.Peak(), loaded, len(file))
	}
	h.Recovered()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if used := account.Used(); used != 0 {
		t.Errorf("%d bytes are left", used)
	}
}
