// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// BenchmarkSelectOfSeriesThatLeft selects series that have left while an older pin is open.
func BenchmarkSelectOfSeriesThatLeft(b *testing.B) {
	const series = 50_000
	x := newBench(b, Options{})
	refs := make([]sample.Ref, series)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	old := x.pin()
	defer old.Close()
	x.seq.Lock()
	x.lsn++
	x.h.Free(refs, x.lsn)
	x.seq.Unlock()
	p := x.pin()
	defer p.Close()
	for b.Loop() {
		if ids, err := p.Select(budget.NewTask(b.Context(), nil), nil); err != nil || len(ids) > 0 {
			b.Fatalf("%d series, %v", len(ids), err)
		}
	}
}

// The exemplars of a series that has left, and that only a pin keeps, must not show up under the next series of its id.
func TestCheckpointForgetsExemplarsOfSeriesThatLeft(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	ref := x.series(named(0))
	b := sample.Batch{Exemplars: []sample.Exemplar{{Ref: ref, T: 5, HasT: true, Labels: labels.FromStrings("trace", "a")}}}
	x.commit(&b, allTimes)
	old := x.pin()
	defer old.Close()
	x.seq.Lock()
	x.lsn++
	x.h.Free([]sample.Ref{ref}, x.lsn)
	x.seq.Unlock()
	p := x.pin()
	defer p.Close()
	y := &bench{tb: t, h: New(Options{Shards: 1, SlotMillis: testSlot}), lsn: x.lsn}
	defer func() { _ = y.h.Close() }()
	if err := y.h.LoadSnapshot(bytes.NewReader(snapshotOf(t, x.h, p))); err != nil {
		t.Fatal(err)
	}
	next := y.series(named(1))
	if next.ID() != ref.ID() {
		t.Fatalf("the next series has id %d, want %d again", next.ID(), ref.ID())
	}
	q := y.pin()
	defer q.Close()
	if got := q.Exemplars(next.ID(), 0, 10); len(got) > 0 {
		t.Errorf("the series came to exemplars %v", got)
	}
	if got := old.Exemplars(ref.ID(), 0, 10); len(got) != 1 {
		t.Errorf("the pin from before sees exemplars %v, want one", got)
	}
}

// While a log is replayed ids are asked for by number, in any order.
func TestIDsAreTakenByNumberHoweverManyAreFree(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	x.series(named(0))
	want := sample.MakeRef(3, 100)
	if err := x.h.Restore(want, named(1)); err != nil {
		t.Fatal(err)
	}
	x.lsn++
	x.h.Skip(x.lsn)
	taken := map[uint32]bool{0: true, 100: true}
	for _, id := range []uint32{50, 99, 1, 51} {
		taken[id] = true
		if err := x.h.Restore(sample.MakeRef(1, id), named(int(id)+1000)); err != nil {
			t.Fatal(err)
		}
		x.lsn++
		x.h.Skip(x.lsn)
	}
	if ref, ok := x.h.Lookup(named(1)); !ok || ref != want {
		t.Errorf("the series restored first is %#x", uint64(ref))
	}
	for i := range 101 - len(taken) {
		id := x.series(named(2000 + i)).ID()
		if taken[id] || id > 100 {
			t.Fatalf("series %d got id %d, which is taken or new", i, id)
		}
		taken[id] = true
	}
	if id := x.series(named(3000)).ID(); id != 101 {
		t.Errorf("the first series after all free ids has id %d", id)
	}
}

// BenchmarkRestore gives ids out again in an order that has nothing to do with that in which they came free.
func BenchmarkRestore(b *testing.B) {
	const series = 100_000
	all := make([]labels.Labels, series)
	for i := range all {
		all[i] = named(i)
	}
	for b.Loop() {
		x := newBench(b, Options{})
		if err := x.h.Restore(sample.MakeRef(1, series), named(series)); err != nil {
			b.Fatal(err)
		}
		x.h.Skip(1)
		for i, id := range rand.New(rand.NewPCG(1, 2)).Perm(series) {
			if err := x.h.Restore(sample.MakeRef(1, uint32(id)), all[i]); err != nil {
				b.Fatal(err)
			}
			x.h.Skip(sample.LSN(i + 2))
		}
	}
}
