// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// memoryPart is a part without a file.
type memoryPart struct {
	tb        failer
	info      PartInfo
	series    PartSeries
	rows      map[uint32]*column.Block
	damaged   error
	discarded bool

	reads, lockedReads int
	locked             func() bool // whether the shard is locked; nil: does not matter
}

// partOf makes the part of a spill.
func partOf(tb failer, x *Spill) *memoryPart {
	p := &memoryPart{tb: tb, rows: map[uint32]*column.Block{}}
	for r, err := range x.Rows(x.shard.head.IDs(x.Info().Shard)) {
		if err != nil {
			tb.Fatal(err)
		}
		if p.rows[r.Local] != nil {
			tb.Errorf("series %d is twice in a part", r.Local)
		}
		b := &column.Block{}
		b.Reset()
		appendRows(b, r.Rows, math.MinInt64, math.MaxInt64)
		p.rows[r.Local] = b
		s, first, last := &p.series, int64(0), int64(0)
		if n := len(b.T); n > 0 {
			first, last = b.T[0], b.T[n-1]
		}
		s.Local, s.Gen = append(s.Local, r.Local), append(s.Gen, r.Gen)
		s.First, s.Last = append(s.First, first), append(s.Last, last)
	}
	p.info = x.Info()
	return p
}

func appendRows(dst, src *column.Block, mint, maxt int64) {
	for i, t := range src.T {
		switch {
		case t < mint || t > maxt:
		case src.KindAt(i) == sample.Float:
			dst.AppendFloat(t, src.STAt(i), src.V[i])
		default:
			c := copyHist(src.H.Int[i], src.H.Float[i])
			dst.AppendHistogram(t, src.STAt(i), c.h, c.fh)
		}
	}
}

func (p *memoryPart) Ahead(local uint32) uint32 { return local }

func (p *memoryPart) Reader(bool) PartReader { return memoryReader{p} }
func (p *memoryPart) Close() error           { return nil }

func (p *memoryPart) Discard() {
	if p.discarded {
		p.tb.Errorf("a part is discarded twice")
	}
	p.discarded = true
}

func (p *memoryPart) Read(local uint32, mint, maxt int64, _ bool, dst *column.Block) error {
	if p.discarded {
		p.tb.Errorf("a part is read that was discarded")
	}
	p.reads++
	if p.locked != nil && p.locked() {
		p.lockedReads++
	}
	if p.damaged != nil {
		return &DamageError{p.damaged}
	}
	if b := p.rows[local]; b != nil {
		appendRows(dst, b, mint, maxt)
	}
	return nil
}

// memoryReader lets a part be closed without its readers.
type memoryReader struct{ *memoryPart }

func (memoryReader) Close() {}

func (memoryReader) ChargeTo(*column.Block) error { return nil }

// spillAll seals a shard and makes parts of what it holds.
func (x *bench) spillAll(shard uint32) (parts []*memoryPart) {
	x.tb.Helper()
	x.h.Seal(shard, 1)
	for _, y := range x.h.Spills(x.settle(), shard, 0) {
		part := partOf(x.tb, y)
		y.Attach(part)
		parts = append(parts, part)
	}
	return parts
}

func (x *bench) settle() sample.LSN {
	x.tb.Helper()
	lsn, err := x.h.Settle(context.Background())
	if err != nil {
		x.tb.Fatal(err)
	}
	return lsn
}

// spill is the machine's: rows and deletes come between all its steps.
func (x *machine) spill(t *rapid.T) {
	meanwhile := func() {
		for range rapid.IntRange(0, 1).Draw(t, "meanwhile") {
			x.commitBatch(t)
		}
		if rapid.IntRange(0, 7).Draw(t, "deletes") == 0 {
			x.delete(t)
		}
	}
	shard := rapid.Uint32Range(0, 3).Draw(t, "shard")
	x.h.Seal(shard, rapid.IntRange(0, 3).Draw(t, "least"))
	meanwhile()
	if rapid.Bool().Draw(t, "pin") {
		x.takePin()
	}
	lsn := x.settle()
	meanwhile()
	for _, y := range x.h.Spills(lsn, shard, rapid.Int64Range(0, 40).Draw(t, "bytes")) {
		part := partOf(t, y)
		meanwhile()
		y.Attach(part)
		x.parts = append(x.parts, part)
	}
}

func TestASpillTakesSealedChunksOutOfMemoryAndPinsSeeEachRowOnce(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a, b := x.series(named(0)), x.series(named(1))
	for i := range 5 {
		x.append(a, int64(i), float64(i), 0)
	}
	x.append(b, 1, 10, 0)
	before := x.pin()
	defer before.Close()
	parts := x.spillAll(0)
	if len(parts) != 1 || parts[0].info.Rows != 6 || parts[0].info.MaxT != 4 {
		t.Fatalf("parts %+v, want one of 6 rows up to 4", parts)
	}
	x.append(a, 5, 5, 0)
	x.append(a, 6, 6, 0)
	x.want(before, a, "0=0 1=1 2=2 3=3 4=4")
	if parts[0].reads > 0 {
		t.Error("a pin from before reads the part")
	}
	after := x.pin()
	defer after.Close()
	x.want(after, a, "0=0 1=1 2=2 3=3 4=4 5=5 6=6")
	x.want(after, b, "1=10")
	if parts[0].reads == 0 {
		t.Error("a pin from after does not read the part")
	}
	before.Close()
	if n := x.h.Stats().Chunks; n != 0 {
		t.Errorf("%d closed chunks are left in memory", n)
	}
	if n := x.h.Stats().Held; n != 8 {
		t.Errorf("the head holds %d samples, want 8", n)
	}
}

func TestChunksOfAnEarlierSlotStayBeforePartsOfALaterOne(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a, b := x.series(named(0)), x.series(named(1))
	x.append(a, 1, 1, 0)
	x.append(b, 1, 1, 0)
	x.append(b, testSlot+1, 2, 0)
	for i := range int64(40) {
		x.append(a, testSlot+i, float64(i*i)*math.Pi, 0)
	}
	x.h.Seal(0, 2)
	for _, y := range x.h.Spills(x.settle(), 0, 40) { // the slot before has less
		y.Attach(partOf(t, y))
	}
	p := x.pin()
	defer p.Close()
	got := x.read(p, a.ID(), 0, testSlot+2)
	if text(got) != fmt.Sprintf("1=1 10000=0 10001=%g 10002=%g", math.Pi, 4*math.Pi) {
		t.Errorf("rows %s", text(got))
	}
}

func TestALateRowIsComparedWithTheRowsOfParts(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	for i := range int64(5) {
		x.append(a, 10*i, float64(i), 0)
	}
	x.spillAll(0)
	x.append(a, 100, 1, 0)
	for _, c := range []struct {
		t    int64
		v    float64
		want sample.Reason
	}{{20, 2, sample.Same}, {20, 3, sample.Conflict}, {25, 7, sample.Accepted}, {25, 7, sample.Same}, {40, 4, sample.Same}} {
		if got := x.append(a, c.t, c.v, 0); got != c.want {
			t.Errorf("%g at %d: %s, want %s", c.v, c.t, got, c.want)
		}
	}
	p := x.pin()
	defer p.Close()
	x.want(p, a, "0=0 10=1 20=2 25=7 30=3 40=4 100=1")
}

// Late rows are compared with parts before any lock of a shard is taken, and what came between is seen all the same.
func TestPartsAreReadOutsideOfTheLocksOfTheShards(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	for i := range int64(5) {
		x.append(a, 10*i, float64(i), 0)
	}
	part := x.spillAll(0)[0]
	x.append(a, 100, 1, 0)
	part.locked = func() bool {
		if x.h.shards[0].mu.TryLock() {
			x.h.shards[0].mu.Unlock()
			return false
		}
		return true
	}
	if got := x.append(a, 20, 2, 0); got != sample.Same {
		t.Errorf("a row that is in a part: %s", got)
	}
	if got := x.h.Check(Row{Ref: a, T: 20, V: 3}, allTimes); got != sample.Conflict {
		t.Errorf("a check of another value at the time of one in a part: %s", got)
	}
	if part.reads == 0 || part.lockedReads > 0 {
		t.Errorf("%d reads of the part, %d under a lock; want some and none", part.reads, part.lockedReads)
	}
	part.locked = nil
	var rows sample.Batch
	rows.AppendFloat(a, 0, 100, 1, 0)
	rows.AppendFloat(a, 0, 30, 7, 0)
	rows.AppendFloat(a, 0, 100, 2, 0)
	w := x.h.Prepare(&rows, allTimes)
	x.spillAll(0) // a part with the row at 100
	x.lsn++
	x.h.Enqueue(w, x.lsn)
	var r sample.Result
	x.h.Apply(w, &r)
	if r.At(0) != sample.Same || r.At(1) != sample.Conflict || r.At(2) != sample.Conflict {
		t.Errorf("rows are %s, %s, %s; want %s and twice %s", r.At(0), r.At(1), r.At(2), sample.Same, sample.Conflict)
	}
}

func TestPartsGoWithTheirSlotWhenNoPinSeesThem(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	x.append(a, 1, 1, 0)
	part := x.spillAll(0)[0]
	old := x.pin()
	flushed := x.pin()
	x.h.DropSlot(0, flushed.Epoch())
	flushed.Close()
	x.want(old, a, "1=1")
	p := x.pin()
	x.want(p, a, "")
	p.Close()
	if part.discarded {
		t.Fatal("the part is gone that a pin sees")
	}
	if idle := x.h.Idle(2); len(idle) != 1 {
		t.Errorf("idle series: %v, want the one whose part is dead", idle)
	}
	old.Close()
	x.h.Reclaim()
	if !part.discarded {
		t.Error("the part of a dropped slot stays")
	}
	if len(x.h.Slots()) != 0 {
		t.Errorf("slots %v are left", x.h.Slots())
	}
}

func TestTheNewestSampleIsKnownAfterASpillUntilItsSlotIsDropped(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	x.append(a, 1, 1, 0)
	x.append(a, 2, 7, 0)
	latest := func(p *Pin) string {
		dst := column.Latest{Known: make([]bool, 1), T: make([]int64, 1), V: make([]float64, 1)}
		p.Latest([]uint32{a.ID()}, 1000, &dst)
		return fmt.Sprint(dst.Known[0], dst.T[0], dst.V[0])
	}
	x.spillAll(0)
	p := x.pin()
	if got := latest(p); got != "true 2 7" {
		t.Errorf("after a spill: %s", got)
	}
	x.append(a, 3, 8, 0) // the pin sees the state before
	if got := latest(p); got != "true 2 7" {
		t.Errorf("of a pin from before an append: %s", got)
	}
	p.Close()
	x.spillAll(0)
	p = x.pin()
	x.h.DropSlot(0, p.Epoch())
	p.Close()
	p = x.pin()
	defer p.Close()
	if got := latest(p); got[:5] != "false" {
		t.Errorf("after the drop: %s", got)
	}
}

func TestDamageOfAPartComesWithTheOtherRows(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	x.append(a, 1, 1, 0)
	part := x.spillAll(0)[0]
	x.append(a, 2, 2, 0)
	part.damaged = fmt.Errorf("rot")
	p := x.pin()
	defer p.Close()
	b := &column.Block{}
	b.Reset()
	err := p.Read(a.ID(), 0, 10, false, b)
	if err == nil || text(b) != "2=2" {
		t.Errorf("rows %s, error %v; want the row in memory and an error", text(b), err)
	}
}

// A checkpoint from before a part, one from after it, and the log alone come to the same head.
func TestPartsHoldTheirRowsInARecovery(t *testing.T) {
	x := &machine{bench: *newBench(t, Options{Shards: 2}), model: &oracle{series: map[sample.Ref]*modelSeries{}}}
	a, b := x.series(named(0)), x.series(named(1))
	for i, ref := range []sample.Ref{a, b} {
		x.log = append(x.log, record{lsn: sample.LSN(i + 1), ref: ref, labels: named(i)})
	}
	add := func(ref sample.Ref, at int64, v float64) {
		rows := &sample.Batch{}
		rows.AppendFloat(ref, 0, at, v, 0)
		lsn, _ := x.commit(rows, allTimes)
		x.log = append(x.log, record{lsn: lsn, batch: rows, limits: allTimes})
	}
	for i := range int64(4) {
		add(a, 10*i, float64(i))
		add(b, 10*i, float64(-i))
	}
	before := x.snapshot(t)
	add(a, 40, 4)
	parts := x.spillAll(a.ID() % 2)
	add(a, 50, 5)
	add(a, 15, 1.5) // late
	after := x.snapshot(t)
	add(a, 60, 6)
	for name, file := range map[string]snapshot{"before": before, "after": after, "none": {}} {
		h := New(x.h.opts)
		for _, p := range parts {
			if !h.AttachRecovered(p, p.info, p.series) {
				t.Errorf("%s: a part is not wanted", name)
			}
		}
		if file.text != nil {
			if err := h.LoadSnapshot(bytes.NewReader(file.text)); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range x.log {
			switch {
			case r.lsn <= file.epoch:
			case r.batch != nil:
				w := h.Prepare(r.batch, r.limits)
				h.Enqueue(w, r.lsn)
				h.Apply(w, nil)
			default:
				if err := h.Restore(r.ref, r.labels); err != nil {
					t.Fatal(err)
				}
				h.Skip(r.lsn)
			}
		}
		if lost := h.Registered(); lost != 0 {
			t.Errorf("%s: %d series are lost", name, lost)
		}
		h.Recovered()
		p := h.Pin()
		y := &bench{tb: t, h: h}
		y.want(p, a, "0=0 10=1 15=1.5 20=2 30=3 40=4 50=5 60=6")
		y.want(p, b, "0=0 10=-1 20=-2 30=-3")
		if n := h.Stats().Held; n != 12 {
			t.Errorf("%s: %d samples are held, want 12", name, n)
		}
		p.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

type snapshot struct {
	text  []byte
	epoch sample.LSN
}

func (x *bench) snapshot(tb testing.TB) snapshot {
	tb.Helper()
	p := x.pin()
	defer p.Close()
	var out bytes.Buffer
	if err := x.h.Snapshot(p.Epoch(), &out); err != nil {
		tb.Fatal(err)
	}
	return snapshot{out.Bytes(), p.Epoch()}
}

func TestRowsOfASeriesThatTheLogLostAreNotThoseOfAnother(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	x.append(a, 1, 1, 0)
	part := x.spillAll(0)[0]
	h := New(x.h.opts)
	h.AttachRecovered(part, part.info, part.series)
	if lost := h.Registered(); lost != 1 {
		t.Errorf("%d series are lost, want 1", lost)
	}
	h.Recovered()
	y := &bench{tb: t, h: h}
	defer func() { _ = h.Close() }()
	b := y.series(named(5))
	if b == a {
		t.Fatalf("the lost series and a new one are both %#x", uint64(a))
	}
	y.append(b, 2, 2, 0)
	p := y.pin()
	defer p.Close()
	y.want(p, b, "2=2")
}

func TestHistogramsAndStartTimesGoThroughASpill(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	a := x.series(named(0))
	var rows sample.Batch
	for i := range int64(3) {
		h := &histogram.Histogram{Schema: 1, Count: uint64(7 + i), Sum: 3.5, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{7 + i}}
		rows.AppendHistogram(a, 5, 10+i, h, nil, 0)
	}
	rows.AppendFloat(a, 6, 20, 1, 0)
	if _, r := x.commit(&rows, allTimes); r.Reason != nil {
		t.Fatal(r.Reason)
	}
	p := x.pin()
	want := blockText(x.read(p, a.ID(), 0, 100))
	p.Close()
	x.spillAll(0)
	p = x.pin()
	defer p.Close()
	if got := blockText(x.read(p, a.ID(), 0, 100)); got != want {
		t.Errorf("after a spill\n%swant\n%s", got, want)
	}
	if got := x.append(a, 10, 1, 0); got != sample.Conflict {
		t.Errorf("a late float at the time of a spilled histogram: %s", got)
	}
	if i := slices.Index(x.read(p, a.ID(), 0, 100).ST, 6); i != 3 {
		t.Errorf("start time 6 is at row %d, want 3", i)
	}
}
