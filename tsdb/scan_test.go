// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// scanned decodes ids of a set, with as many scans as it takes.
func scanned(t *testing.T, v column.View, set *column.SeriesSet, ids []uint32) (rows [][]point) {
	var b column.Block
	for len(ids) > 0 {
		n, err := v.Scan(t.Context(), set, ids, column.Need{}, &b)
		if err != nil || n < 1 || n != b.Series() {
			t.Errorf("scan: %d series, %d decoded, %v", n, b.Series(), err)
			return nil
		}
		for i := range n {
			from, to := b.Rows(i)
			var ps []point
			for r := from; r < to; r++ {
				ps = append(ps, point{b.T[r], uint64(b.V[r])})
			}
			rows = append(rows, ps)
		}
		ids = ids[n:]
	}
	return rows
}

func TestScansOfOneViewOnSeveralGoroutinesReadWhatOneReads(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := make([]labels.Labels, 700) // more than two runs
	for i := range ls {
		ls[i] = seriesName(i)
	}
	const steps = 120
	for step := range int64(steps) {
		commit(t, db, ls[:len(ls)-int(step)], step*1000, func(i int) float64 { return float64(i) + float64(step)*1000 })
		if step == 60 {
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	v, set := wholeView(t, db)
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i*37) % uint32(set.N) // in no order
	}
	want := scanned(t, v, set, ids)
	for i, id := range ids {
		rows := want[i]
		if n := min(steps, len(ls)-int(id)); len(rows) != n || rows[n-1] != (point{int64(n-1) * 1000, uint64(n-1)*1000 + uint64(id)}) {
			t.Fatalf("series %d has %d rows, want %d", id, len(rows), n)
		}
	}
	const workers = 4
	parts := make([][][]point, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			parts[w] = scanned(t, v, set, ids[w*len(ids)/workers:(w+1)*len(ids)/workers])
		})
	}
	wg.Go(func() {
		for step := range int64(10) {
			if _, err := tryCommit(db, ls, (steps+step)*1000, one(1)); err != nil {
				t.Errorf("commit: %v", err)
			}
		}
	})
	wg.Wait()
	if got := slices.Concat(parts...); !slices.EqualFunc(got, want, func(a, b []point) bool { return slices.Equal(a, b) }) {
		t.Error("several goroutines read other rows than one")
	}
}

// TestScansGoOnInTheStripesWhereTheLastEnded reads a set scan by scan with a cache that keeps nothing.
func TestScansGoOnInTheStripesWhereTheLastEnded(t *testing.T) {
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	o := small(faulty)
	o.BlockCache = 1
	db := openTest(t, o)
	ls := make([]labels.Labels, 900)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	for step := range int64(100) { // in two slots
		commit(t, db, ls, step*1000, one(float64(step%7)))
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, set := wholeView(t, db)
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	reads, scans := 0, 0
	faulty.Observe(func(op fsx.Op, _ string) {
		if op == fsx.OpRead {
			reads++
		}
	})
	b := column.Block{Budget: budget.NewRoot("query", 0)}
	for len(ids) > 0 {
		n, err := v.Scan(t.Context(), set, ids, column.Need{}, &b)
		if err != nil {
			t.Fatal(err)
		}
		if columns := int64(16 * cap(b.T)); b.Budget.Used() <= columns {
			t.Errorf("scan %d: nothing is charged for what the cache does not keep", scans)
		}
		ids = ids[n:]
		scans++
	}
	b.Free()
	if want := 4; reads != want || scans < 5 { // a stripe, and one of times, of two blocks
		t.Errorf("%d reads in %d scans, want %d", reads, scans, want)
	}
	if b.Budget.Used() != 0 {
		t.Errorf("%d bytes left", b.Budget.Used())
	}
}
