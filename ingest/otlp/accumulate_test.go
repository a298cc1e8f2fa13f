// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// feed adds points of one stream.
type feed struct {
	*accumulators
	t   *testing.T
	key ingest.Key
	at  time.Time
}

func newFeed(t *testing.T, account *budget.Account) *feed {
	t.Helper()
	f := &feed{accumulators: newAccumulators(account), t: t, key: ingest.Key{Lo: 1}, at: time.Unix(1000, 0)}
	f.now = func() time.Time { return f.at }
	return f
}

// add expects the sum v that began at start, or a refusal.
func (f *feed) check(p point, start uint64, v float64, refusal string) {
	f.t.Helper()
	p.kind = sum
	got := f.accumulators.add(f.key, &p, &attempt{})
	if got == "" && refusal == "" && p.number() == v && p.start == start {
		return
	}
	if refusal == "" || !strings.Contains(got, refusal) {
		f.t.Errorf("sum %g from %d on, refused %q; want %g from %d on, refused %q", p.number(), p.start, got, v, start, refusal)
	}
}

func double(start, t uint64, v float64) point {
	return point{start: start, t: t, measure: measure{v: v}}
}

func TestDeltasAreSummedUpInOrder(t *testing.T) {
	f := newFeed(t, nil)
	f.check(double(10, 20, 1.5), 10, 1.5, "")
	f.check(double(20, 30, 2), 10, 3.5, "")
	f.check(double(20, 30, 2), 10, 3.5, "") // sent again
	f.check(double(15, 25, 2), 0, 0, "older than the last")
	f.check(double(5, 40, 2), 0, 0, "start before")
	f.check(double(40, 50, 1), 10, 4.5, "") // after a gap
	f.check(point{start: 50, t: 60, measure: measure{isInt: true, i: 2}}, 10, 6.5, "")
	f.check(double(60, 70, 0.25), 10, 6.75, "")

	f.key = ingest.Key{Lo: 2}
	big := int64(1) << 60
	f.check(point{start: 1, t: 2, measure: measure{isInt: true, i: big}}, 1, float64(big), "")
	f.check(point{start: 2, t: 3, measure: measure{isInt: true, i: -big}}, 1, 0, "")
	if f.Len() != 2 {
		t.Errorf("%d streams", f.Len())
	}
}

func TestAnAttemptIsTakenBackOnlyWhereNobodyElseAdded(t *testing.T) {
	f := newFeed(t, nil)
	f.check(double(10, 20, 1), 10, 1, "")
	var one attempt
	for _, at := range []uint64{30, 40, 50} {
		p := double(at-10, at, 1)
		p.kind = sum
		f.accumulators.add(f.key, &p, &one)
	}
	f.check(double(50, 60, 1), 10, 5, "") // of another request
	f.accumulators.end(&one, false)
	f.check(double(60, 70, 1), 10, 6, "")
	f.check(double(30, 40, 1), 0, 0, "older than the last")
}

func TestAStreamEndsWhenItIsIdleOrSaysSo(t *testing.T) {
	account := budget.NewRoot("deltas", 1<<20)
	f := newFeed(t, account)
	f.check(double(10, 20, 1), 10, 1, "")
	used := account.Used()
	f.at = f.at.Add(streamIdle)
	f.check(double(20, 30, 1), 10, 2, "")
	f.at = f.at.Add(streamIdle + time.Second)
	f.check(double(40, 50, 1), 40, 1, "")
	stale := double(50, 60, 0)
	stale.stale = true
	f.check(stale, 50, 0, "")
	if used == 0 || account.Used() != 0 || f.Len() != 0 {
		t.Errorf("%d bytes were charged for a stream, %d are left for %d", used, account.Used(), f.Len())
	}
	f.check(double(60, 70, 1), 60, 1, "")
}

func TestStreamsStayWithinTheirBudget(t *testing.T) {
	account := budget.NewRoot("deltas", 10*streamBytes)
	f := newFeed(t, account)
	for i := range uint64(20) {
		f.key.Lo = i
		refusal := ""
		if i >= 10 {
			refusal = "no room"
		}
		f.check(double(1, 2, 1), 1, 1, refusal)
	}
	f.key.Lo = 3
	f.check(double(2, 3, 1), 1, 2, "") // a known stream goes on
	h := point{kind: histograms, start: 1, t: 9, measure: measure{counts: make([]uint64, 100), bounds: make([]float64, 99)}}
	if got := f.accumulators.add(f.key, &h, &attempt{}); !strings.Contains(got, "no room") {
		t.Errorf("a growing stream is refused with %q", got)
	}
}

// brute is an exponential histogram as counts by the index of the bucket at a coarse scale.
func brute(m *measure, scale int32) (positive, negative map[int64]uint64) {
	read := func(s side) map[int64]uint64 {
		out := map[int64]uint64{}
		for i, c := range s.counts {
			if c > 0 {
				out[(int64(s.offset)+int64(i))>>(m.scale-scale)] += c
			}
		}
		return out
	}
	return read(m.positive), read(m.negative)
}

func TestExponentialSumsHaveTheBucketsOfTheirParts(t *testing.T) {
	check := func(wantScale int32, parts ...measure) {
		t.Helper()
		var total measure
		var parted []map[int64]uint64
		for _, p := range parts {
			pos, neg := brute(&p, wantScale)
			parted = append(parted, pos, neg)
			p.counts, p.bounds = nil, nil
			if len(parted) == 2 {
				total.set(&p)
			} else {
				total.add(exponential, &p)
			}
		}
		if total.scale != wantScale {
			t.Errorf("scale %d, want %d", total.scale, wantScale)
		}
		pos, neg := brute(&total, total.scale)
		for i, part := range parted {
			for at, c := range part {
				if into := []map[int64]uint64{pos, neg}[i%2]; into[at] < c {
					t.Errorf("bucket %d has %d observations, one part has %d", at, into[at], c)
				} else if into[at] -= c; into[at] == 0 {
					delete(into, at)
				}
			}
		}
		if len(pos)+len(neg) > 0 {
			t.Errorf("observations that no part has: %v %v", pos, neg)
		}
	}
	m := func(scale, offset int32, counts ...uint64) measure {
		return measure{scale: scale, positive: side{offset, counts}, negative: side{-offset, append([]uint64(nil), counts...)}}
	}
	check(0, m(0, 0, 1, 2, 3), m(0, 0, 4, 5))
	check(0, m(0, -3, 1, 0, 3), m(0, 7, 4, 5))
	check(1, m(3, -5, 1, 2, 3, 4, 5, 6, 7), m(1, 2, 9))
	check(1, m(1, 2, 9), m(3, -5, 1, 2, 3, 4, 5, 6, 7), m(20, 1<<19, 1))
	check(4, m(5, 0, 1), m(5, 200, 1))
	check(5, m(5, 0, 1), m(5, 159, 1))
	check(2, m(2, 3), m(2, -1, 0, 0, 0), m(2, 8, 7))
	check(-5, m(20, math.MaxInt32-4, 1), m(20, math.MinInt32+1, 2))
}

func TestObservationsBelowAWiderZeroBucketMoveThere(t *testing.T) {
	m := measure{scale: 0, zeros: 1, positive: side{-2, []uint64{1, 2, 3, 4}}} // (1/4, 1/2], (1/2, 1], (1, 2], (2, 4]
	m.add(exponential, &measure{scale: 0, zeroThreshold: 1, zeros: 5})
	if m.zeros != 9 || m.positive.offset != 0 || len(m.positive.counts) != 2 || m.zeroThreshold != 1 {
		t.Errorf("%+v", m)
	}
}

func TestHistogramsWithOtherBoundsBeginAnew(t *testing.T) {
	m := measure{counts: []uint64{1, 2}, bounds: []float64{5}, count: 3, hasSum: true, sum: 4}
	m.add(histograms, &measure{counts: []uint64{3, 4}, bounds: []float64{5}, count: 7, hasSum: true, sum: 5})
	if m.counts[0] != 4 || m.counts[1] != 6 || m.count != 10 || m.sum != 9 {
		t.Errorf("%+v", m)
	}
	m.add(histograms, &measure{counts: []uint64{1, 1, 1}, bounds: []float64{5, 6}, count: 3})
	if len(m.counts) != 3 || m.count != 3 || m.hasSum {
		t.Errorf("%+v", m)
	}
	m.add(histograms, &measure{counts: []uint64{1, 1, 1}, bounds: []float64{5, 6}, count: 3, hasSum: true, sum: 1})
	if m.hasSum || m.count != 6 {
		t.Errorf("a sum came from nowhere: %+v", m)
	}
}

// Prometheus' converter puts observations into the wrong bucket where finer resolutions are reduced and there are empty
// buckets in front. Here every observation is held against the bucket it belongs to.
func TestFinerResolutionsAreReducedBucketByBucket(t *testing.T) {
	check := func(p point) {
		t.Helper()
		h, err := p.native(false)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := brute(&p.measure, h.Schema)
		for it := h.PositiveBucketIterator(); it.Next(); {
			b := it.At()
			if b.Count > 0 && want[int64(b.Index)-1] != b.Count {
				t.Errorf("scale %d to %d: bucket %d has %d observations, want %d", p.scale, h.Schema, b.Index, b.Count, want[int64(b.Index)-1])
			}
			delete(want, int64(b.Index)-1)
		}
		if len(want) > 0 {
			t.Errorf("observations are missing: %v", want)
		}
	}
	for _, scale := range []int32{8, 9, 10, 14, 20} {
		for offset := int32(-9); offset < 9; offset++ {
			counts := []uint64{0, 0, 5, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0}
			check(point{kind: exponential, measure: measure{scale: scale, count: 15, positive: side{offset, counts}}})
		}
	}
}

func TestStreamsAreTheSameInAnyOrderOfAttributes(t *testing.T) {
	a, b := appendMessage(nil, 7, []byte("a")), appendMessage(nil, 7, []byte("b"))
	both, other := append(append([]byte(nil), a...), b...), append(append([]byte(nil), b...), a...)
	if string(canonical(both)) != string(canonical(other)) || string(canonical(both)) == string(canonical(a)) {
		t.Error("the order matters")
	}
}
