// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestPinsAtDifferentEpochsSeeTheirOwnState(t *testing.T) {
	x := newBench(t, Options{})
	ref := x.series(named(0))
	p0 := x.pin()
	x.append(ref, 1, 1, 0)
	p1 := x.pin()
	x.append(ref, 20_001, 2, 0) // closes the chunk
	x.append(ref, 5, 1.5, 0)    // late
	p2 := x.pin()
	x.append(ref, 20_002, 3, 0)
	p3 := x.pin()
	x.append(ref, 20_003, 4, 0)
	for range 2 { // once more after others are closed
		x.want(p0, ref, "")
		x.want(p1, ref, "1=1")
		x.want(p2, ref, "1=1 5=1.5 20001=2")
		x.want(p3, ref, "1=1 5=1.5 20001=2 20002=3")
	}
	p1.Close()
	x.append(ref, 20_004, 5, 0)
	x.want(p0, ref, "")
	x.want(p2, ref, "1=1 5=1.5 20001=2")
	p0.Close()
	p2.Close()
	p3.Close()
	x.append(ref, 20_005, 6, 0)
	if st := x.h.Stats(); st.Versions != 0 || st.Pins != 0 {
		t.Errorf("%d versions and %d pins are left", st.Versions, st.Pins)
	}
}

func TestRowsAreJudgedAsTheStoreSays(t *testing.T) {
	x := newBench(t, Options{})
	ref := x.series(named(0))
	lim := Limits{MinT: -50, MaxT: 1000, MinPush: 20, MinScrape: NoLate}
	check := func(tm int64, v float64, flags sample.Flag, want sample.Reason) {
		t.Helper()
		row := Row{Ref: ref, T: tm, V: v, Flags: flags}
		if got := x.h.Check(row, lim); got != want {
			t.Errorf("check t=%d: %s, want %s", tm, got, want)
		}
		var b sample.Batch
		b.AppendFloat(ref, 0, tm, v, flags)
		_, r := x.commit(&b, lim)
		if r.At(0) != want {
			t.Errorf("t=%d: %s, want %s", tm, r.At(0), want)
		}
	}
	check(-51, 1, 0, sample.TooOld)
	check(1001, 1, 0, sample.TooNew)
	check(100, 1, 0, sample.Accepted)
	check(100, 1, 0, sample.Same)
	check(100, 2, 0, sample.Conflict)
	check(50, 3, sample.RejectOutOfOrder, sample.OutOfOrder)
	check(50, 3, sample.Scraped, sample.OutOfOrder)
	check(19, 3, 0, sample.TooOld)
	check(20, 3, 0, sample.Accepted)
	check(20, 3, 0, sample.Same)
	check(20, 4, 0, sample.Conflict)
	check(-51, 1, sample.Scraped, sample.TooOld)
	check(101, 1, 0, sample.Accepted)
	check(100, 1, 0, sample.Same) // in the open chunk
	lim.MinScrape = 90
	check(95, 1, sample.Scraped, sample.Accepted)
	check(89, 1, sample.Scraped, sample.TooOld)
	p := x.pin()
	defer p.Close()
	x.want(p, ref, "20=3 95=1 100=1 101=1")
}
