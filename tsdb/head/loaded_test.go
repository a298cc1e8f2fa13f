// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"math"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// checkpointDuring writes a checkpoint with the epoch of now, a series of each shard at a time, and calls works, one
// after the other, before each of its frames.
func (x *bench) checkpointDuring(works ...func()) (file []byte, epoch sample.LSN) {
	x.h.snapshotRun = 1
	epoch = x.settle()
	f := busyFile{meanwhile: func() {
		if len(works) > 0 {
			works[0]()
			works = works[1:]
		}
	}}
	if err := x.h.Snapshot(epoch, &f); err != nil {
		x.tb.Fatal(err)
	}
	return f.Bytes(), epoch
}

// What came while a checkpoint was written is in it for the series whose turn had not come. A replay does not judge it
// again: a row that was refused then would be taken, and one that was taken would count twice.
func TestAReplayLeavesOutWhatTheCheckpointHasOfLaterWorks(t *testing.T) {
	x := &machine{bench: *newBench(t, Options{Shards: 1}), model: &oracle{series: map[sample.Ref]*modelSeries{}}}
	a, b := x.series(named(0)), x.series(named(1))
	add := func(rows ...Row) {
		t.Helper()
		batch := &sample.Batch{}
		for _, r := range rows {
			if r.H != nil {
				batch.AppendHistogram(r.Ref, 0, r.T, r.H, nil, 0)
			} else {
				batch.AppendFloat(r.Ref, 0, r.T, r.V, 0)
			}
		}
		lsn, _ := x.commit(batch, allTimes)
		x.log = append(x.log, record{lsn: lsn, batch: batch, limits: allTimes})
	}
	erase := func(mint, maxt int64) {
		x.seq.Lock()
		defer x.seq.Unlock()
		x.lsn++
		c := &change{refs: []sample.Ref{a, b}, mint: mint, maxt: maxt}
		x.h.applyChange(c, x.lsn)
		x.log = append(x.log, record{lsn: x.lsn, change: c})
	}
	nothing := func() {}
	add(Row{Ref: a, T: 10, V: 1}, Row{Ref: b, T: 10, V: 1})
	file, epoch := x.checkpointDuring(
		func() { // before the frame of the head: in the frames of both
			add(Row{Ref: a, T: 20, V: 2}, Row{Ref: b, T: 20, V: 2})
			add(Row{Ref: a, T: 15, V: 1.5}, Row{Ref: b, T: 15, V: 1.5})
			erase(15, 15)
			add(Row{Ref: a, T: 15, V: 7}, Row{Ref: b, T: 15, V: 7})
			add(Row{Ref: a, T: 30, H: modelHistograms[0]}, Row{Ref: b, T: 30, H: modelHistograms[0]})
		},
		nothing, nothing, nothing,
		func() { // behind the frames of a, before those of b
			add(Row{Ref: a, T: 40, V: 4}, Row{Ref: b, T: 40, V: 4})
			add(Row{Ref: a, T: 5, V: 5}, Row{Ref: b, T: 5, V: 5})
			erase(20, 20)
		},
	)
	add(Row{Ref: a, T: 50, V: 5}, Row{Ref: b, T: 50, V: 5})
	account := budget.NewRoot("head", 0)
	h := New(Options{Shards: 1, SlotMillis: testSlot, Account: account})
	if err := h.LoadSnapshot(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if got := h.LoadedTo(); got <= epoch || got >= x.lsn {
		t.Errorf("the checkpoint of epoch %d, now %d, has rows up to %d", epoch, x.lsn, got)
	}
	var changed []sample.LSN
	for _, ref := range []sample.Ref{a, b} {
		changed = append(changed, h.shards[0].headers.at(h.local(ref.ID())).changed)
	}
	if changed[0] <= epoch || changed[1] <= changed[0] {
		t.Fatalf("the series were written as of %v, epoch %d", changed, epoch)
	}
	y := &machine{bench: bench{tb: t, h: h}, log: x.log}
	y.replay(t, h, epoch)
	p, q := x.pin(), h.Pin()
	for _, ref := range []sample.Ref{a, b} {
		want := text(x.read(p, ref.ID(), math.MinInt64, math.MaxInt64))
		y.want(q, ref, want)
	}
	var r [2]uint64
	for i, s := range []Stats{x.h.Stats(), h.Stats()} {
		for _, n := range s.Reasons {
			r[i] += n
		}
	}
	if r[0] != 0 || r[1] != 0 {
		t.Errorf("%d rows were refused at first, %d in the replay", r[0], r[1])
	}
	p.Close()
	q.Close()
	if h.loadedTo != 0 || h.shards[0].loaded != nil {
		t.Error("what the checkpoint had is still known behind the replay")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if used := account.Used(); used != 0 {
		t.Errorf("%d bytes are left", used)
	}
}

// A pin costs a state of each series that gets a sample meanwhile: a checkpoint does without.
func TestACheckpointKeepsNothingForItself(t *testing.T) {
	x := newBench(t, Options{Shards: 2})
	var refs []sample.Ref
	for i := range 40 {
		refs = append(refs, x.series(named(i)))
	}
	tm := int64(0)
	round := func() {
		tm++
		var b sample.Batch
		for _, ref := range refs {
			b.AppendFloat(ref, 0, tm, float64(tm), 0)
		}
		x.commit(&b, allTimes)
		if st := x.h.Stats(); st.Pins != 0 || st.Versions != 0 {
			t.Fatalf("%d pins and %d states of series are held", st.Pins, st.Versions)
		}
	}
	round()
	x.checkpointDuring(round, round, round, round, round, round, round)
	if tm != 8 {
		t.Errorf("%d rounds", tm)
	}
}

// Rows that were in one chunk with those of a block come back as in-order ones; a part of the same slot and one of the
// next have what came behind them.
func TestRowsBetweenPartsComeInTheirOrder(t *testing.T) {
	x := &machine{bench: *newBench(t, Options{Shards: 1, SlotMillis: 100}), model: &oracle{series: map[sample.Ref]*modelSeries{}}}
	a := x.series(named(0))
	x.append(a, 100, 1, 0)
	p := x.pin()
	x.append(a, 101, 2, 0)
	file := x.snapshot(t)
	x.h.DropSlot(100, p.Epoch())
	flushed := p.Epoch()
	p.Close()
	x.append(a, 102, 3, 0)
	x.append(a, 200, 4, 0)
	parts := x.spillAll(0)
	h := New(x.h.opts)
	defer func() { _ = h.Close() }()
	h.Flushed(100, flushed)
	for _, part := range parts {
		h.AttachRecovered(part, part.info, part.series)
	}
	if err := h.LoadSnapshot(bytes.NewReader(file.text)); err != nil {
		t.Fatal(err)
	}
	if lost := h.Registered(); lost != 0 || len(parts) != 2 {
		t.Fatalf("%d parts, %d series lost", len(parts), lost)
	}
	h.Recovered()
	y := &bench{tb: t, h: h}
	q := h.Pin()
	defer q.Close()
	y.want(q, a, "100=1 101=2 102=3 200=4")
}
