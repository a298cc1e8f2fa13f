// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with the seed it printed")

// compare sees bits: NaN payloads and negative zero differ from what they are not.
var compare = cmp.Options{
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
	cmp.Comparer(labels.Equal),
	cmpopts.EquateEmpty(),
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func intHistogram() *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.NotCounterReset, Schema: -3, ZeroThreshold: 1e-128, ZeroCount: 3, Count: 20, Sum: -18.4,
		PositiveSpans: []histogram.Span{{Offset: -4, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{1, 1, -1},
		NegativeSpans: []histogram.Span{{Offset: 7, Length: 1}}, NegativeBuckets: []int64{math.MaxInt64},
	}
}

func floatHistogram() *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType, Schema: 8, ZeroThreshold: 0.5, ZeroCount: 0.25, Count: 1e300, Sum: math.Copysign(0, -1),
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{1.5, math.Inf(1)},
		NegativeSpans: []histogram.Span{{Offset: math.MinInt32, Length: math.MaxUint32}}, NegativeBuckets: []float64{2},
	}
}

// customHistogram has custom buckets and a sum that marks it as stale.
func customHistogram() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Sum: math.Float64frombits(value.StaleNaN),
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}}, PositiveBuckets: []int64{5}, CustomValues: []float64{0.1, 1, 10},
	}
}

var oddFloats = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.1, 5e-324, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN(),
	math.Float64frombits(value.StaleNaN), math.Float64frombits(0xfff8000000000001), math.Float64frombits(1), 1 << 53,
}

func fullBatch() *sample.Batch {
	b := &sample.Batch{}
	for i, v := range oddFloats {
		b.AppendFloat(sample.MakeRef(1, uint32(100-i)), 0, int64(1000+i*i), v, 0)
	}
	b.AppendFloat(sample.MakeRef(1, 7), -5, math.MinInt64, 1, sample.Scraped)
	b.AppendHistogram(sample.MakeRef(math.MaxUint32, math.MaxUint32), 12, math.MaxInt64, intHistogram(), nil, 0)
	b.AppendHistogram(sample.MakeRef(3, 8), 0, 12, nil, floatHistogram(), sample.RejectOutOfOrder)
	b.AppendHistogram(sample.MakeRef(3, 9), 0, 12, customHistogram(), nil, 0)
	b.Exemplars = []sample.Exemplar{
		{Ref: 3, Labels: labels.FromStrings("trace_id", "abc", "span_id", "ä"), V: math.NaN(), T: -4, HasT: true},
		{Ref: 4, V: 2},
	}
	b.Meta = []sample.Metadata{{Ref: 3, Type: "counter", Unit: "seconds", Help: "Time spent."}, {Ref: 4}}
	return b
}

func scrape(rows int) *sample.Batch {
	b := &sample.Batch{}
	for i := range rows {
		v := float64(i * 37 % 5000)
		if i%5 == 0 {
			v = math.Sqrt(float64(i))
		}
		b.AppendFloat(sample.MakeRef(1, uint32(5000+i)), 0, 1_700_000_000_000, v, sample.Scraped)
	}
	return b
}

// pushed is a batch in which neither refs nor times are in order.
func pushed(rows int) *sample.Batch {
	rng := rand.New(rand.NewPCG(1, 2))
	b := &sample.Batch{}
	for range rows {
		b.AppendFloat(sample.MakeRef(1, rng.Uint32N(1_000_000)), 0, 1_700_000_000_000+rng.Int64N(15_000), rng.Float64(), 0)
	}
	return b
}

func TestBatchComesBackBitForBit(t *testing.T) {
	check := func(b *sample.Batch) {
		t.Helper()
		p := wal.AppendBatch([]byte("prefix"), b)
		got := &sample.Batch{}
		for range 2 { // The second time into used memory.
			ok(t, wal.DecodeBatch(p[len("prefix"):], got))
			if diff := cmp.Diff(b, got, compare); diff != "" {
				t.Fatalf("batch differs (-want +got):\n%s", diff)
			}
		}
		if (b.ST == nil) != (got.ST == nil) || (b.Kind == nil) != (got.Kind == nil) || (b.Flags == nil) != (got.Flags == nil) {
			t.Error("an optional column came or went")
		}
	}
	check(&sample.Batch{})
	check(&sample.Batch{Meta: []sample.Metadata{{Ref: 1, Help: "x"}}})
	check(fullBatch())
	check(scrape(1))
	check(scrape(1000))
	check(pushed(1001))
	one := &sample.Batch{}
	one.AppendHistogram(1, 0, 5, &histogram.Histogram{}, nil, 0)
	check(one)
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		b := &sample.Batch{}
		for range rng.IntN(20) {
			v := math.Float64frombits(rng.Uint64() << (8 * rng.IntN(9)))
			b.AppendFloat(sample.Ref(rng.Uint64()), int64(rng.Uint64()), int64(rng.Uint64()), v, sample.Flag(rng.IntN(4)))
		}
		check(b)
	}
}

func TestLimitsComeBack(t *testing.T) {
	for _, l := range []wal.Limits{{}, {math.MinInt64, math.MaxInt64, -1, 1}, {1, 2, 3, 4}} {
		p := wal.AppendBatch(wal.AppendLimits(nil, l), scrape(3))
		got, rest, err := wal.DecodeLimits(p)
		ok(t, err)
		if got != l {
			t.Errorf("got %+v, want %+v", got, l)
		}
		ok(t, wal.DecodeBatch(rest, &sample.Batch{}))
	}
}

func manySeries(n int) ([]sample.Ref, []labels.Labels) {
	refs, ls := make([]sample.Ref, n), make([]labels.Labels, n)
	for i := range n {
		refs[i] = sample.MakeRef(1, uint32(i))
		ls[i] = labels.FromStrings(
			"__name__", fmt.Sprintf("metric_%d_total", i%50), "instance", fmt.Sprintf("host-%d:9100", i/50),
			"job", "node", "mode", []string{"idle", "user", "system"}[i%3], "cpu", strconv.Itoa(i%16),
		)
	}
	return refs, ls
}

func TestSeriesComeBack(t *testing.T) {
	check := func(refs []sample.Ref, ls []labels.Labels) {
		t.Helper()
		p := wal.AppendSeries(nil, refs, ls)
		i := 0
		err := wal.DecodeSeries(p, func(ref sample.Ref, l labels.Labels) error {
			if ref != refs[i] || !labels.Equal(l, ls[i]) {
				t.Fatalf("series %d is %d %s, want %d %s", i, ref, l, refs[i], ls[i])
			}
			i++
			return nil
		})
		ok(t, err)
		if i != len(refs) {
			t.Errorf("%d series, want %d", i, len(refs))
		}
	}
	check(nil, nil)
	check([]sample.Ref{math.MaxUint64, 1}, []labels.Labels{labels.FromStrings("a", "b"), labels.EmptyLabels()})
	check([]sample.Ref{5}, []labels.Labels{labels.FromStrings("ünï", "\x00\xff", "x", "ünï")})
	refs, ls := manySeries(2000)
	check(refs, ls)
	stop := errors.New("stop")
	if err := wal.DecodeSeries(wal.AppendSeries(nil, refs, ls), func(sample.Ref, labels.Labels) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}

func TestDeleteAndFreeComeBack(t *testing.T) {
	for _, d := range []wal.Delete{{}, {Refs: []sample.Ref{9, 3, math.MaxUint64}, MinT: math.MinInt64, MaxT: math.MaxInt64}} {
		got, err := wal.DecodeDelete(wal.AppendDelete(nil, d))
		ok(t, err)
		if diff := cmp.Diff(d, got, compare); diff != "" {
			t.Error(diff)
		}
		refs, err := wal.DecodeFree(wal.AppendFree(nil, d.Refs))
		ok(t, err)
		if diff := cmp.Diff(d.Refs, refs, compare); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDeleteComesBackWithWhatItWasAskedFor(t *testing.T) {
	d := wal.Delete{Refs: []sample.Ref{7}, MinT: -1, MaxT: 5, At: 99, Match: []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "job", "a"), labels.MustNewMatcher(labels.MatchNotRegexp, "i", "x|y.*"),
	}}
	got, err := wal.DecodeDelete(wal.AppendDelete(nil, d))
	ok(t, err)
	text := func(ms []*labels.Matcher) (out []string) {
		for _, m := range ms {
			out = append(out, m.String())
		}
		return out
	}
	if diff := cmp.Diff(text(d.Match), text(got.Match)); diff != "" || got.At != 99 || len(got.Refs) != 1 {
		t.Errorf("got %+v (-want +got):\n%s", got, diff)
	}
	for n, p := 0, wal.AppendDelete(nil, d); n < len(p); n++ {
		if _, err := wal.DecodeDelete(p[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}

// decodeAny runs every decoder over p.
func decodeAny(p []byte) []error {
	l, rest, lerr := wal.DecodeLimits(p)
	if lerr == nil {
		_ = l
		lerr = wal.DecodeBatch(rest, &sample.Batch{})
	}
	_, derr := wal.DecodeDelete(p)
	_, ferr := wal.DecodeFree(p)
	serr := wal.DecodeSeries(p, func(sample.Ref, labels.Labels) error { return nil })
	return []error{lerr, wal.DecodeBatch(p, &sample.Batch{}), derr, ferr, serr}
}

func records() map[string][]byte {
	refs, ls := manySeries(3)
	return map[string][]byte{
		"series": wal.AppendSeries(nil, refs, ls),
		"batch":  wal.AppendBatch(nil, fullBatch()),
		"packed": wal.AppendBatch(nil, scrape(800)),
		"delete": wal.AppendDelete(nil, wal.Delete{
			Refs: refs, MinT: -5, MaxT: 1 << 40, At: 3, Match: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "a", "b.+")},
		}),
		"free": wal.AppendFree(nil, refs),
	}
}

func TestDamagedRecordsAreErrors(t *testing.T) {
	index := map[string]int{"batch": 1, "packed": 1, "delete": 2, "free": 3, "series": 4}
	for name, p := range records() {
		for n := range len(p) {
			var corrupt *wal.CorruptError
			if err := decodeAny(p[:n])[index[name]]; !errors.As(err, &corrupt) {
				t.Errorf("%s cut at byte %d: error %v", name, n, err)
			}
		}
		if err := decodeAny(append(slices.Clip(p), 0))[index[name]]; err == nil {
			t.Errorf("%s: a byte too many is no error", name)
		}
		for i := range p {
			for bit := range 8 {
				q := append([]byte(nil), p...)
				q[i] ^= 1 << bit
				decodeAny(q) // must neither panic nor take memory without bounds
			}
		}
		newer := append([]byte{99}, p[1:]...)
		if err := decodeAny(newer)[index[name]]; err == nil {
			t.Errorf("%s of format 99 is no error", name)
		}
	}
}

func TestCountsAreCheckedBeforeMemoryIsTaken(t *testing.T) {
	check := func(huge ...byte) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, err := range decodeAny(huge) {
			if err == nil {
				t.Errorf("% x: a count beyond the record is no error", huge)
			}
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("% x: %d bytes allocated", huge, n)
		}
	}
	check(1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)                            // rows, or symbols
	check(1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f)                         // exemplars
	check(1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f)                      // descriptions
	check(1, 1, 2, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // a histogram cut short
	check(2, 0x80, 0x80, 0x80, 0x80, 0x04, 0)                               // 1 GiB unpacked
}

func TestSmallAndDenseBatchesStayUnpacked(t *testing.T) {
	check := func(b *sample.Batch, packed bool) {
		t.Helper()
		if got := wal.AppendBatch(nil, b)[0] == 2; got != packed {
			t.Errorf("%d rows packed: %t, want %t", b.Len(), got, packed)
		}
	}
	check(scrape(100), false)
	check(scrape(2000), true)
	check(pushed(2000), false)
}

func FuzzDecode(f *testing.F) {
	for _, p := range records() {
		f.Add(p)
	}
	f.Add(wal.AppendBatch(wal.AppendLimits(nil, wal.Limits{}), scrape(20)))
	f.Fuzz(func(t *testing.T, p []byte) {
		decodeAny(p)
		var b, again sample.Batch
		if wal.DecodeBatch(p, &b) != nil {
			return
		}
		ok(t, wal.DecodeBatch(wal.AppendBatch(nil, &b), &again))
		if diff := cmp.Diff(b, again, compare); diff != "" {
			t.Errorf("a second round differs:\n%s", diff)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(uint64(1), uint64(2), int64(3), uint64(4), int64(5), byte(6))
	f.Fuzz(func(t *testing.T, ref, ref2 uint64, ts int64, bits uint64, st int64, flags byte) {
		b := &sample.Batch{}
		b.AppendFloat(sample.Ref(ref), st, ts, math.Float64frombits(bits), sample.Flag(flags))
		b.AppendFloat(sample.Ref(ref2), 0, ts+st, math.Float64frombits(bits<<8), 0)
		got := &sample.Batch{}
		ok(t, wal.DecodeBatch(wal.AppendBatch(nil, b), got))
		if diff := cmp.Diff(b, got, compare); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkAppendBatch(b *testing.B) {
	run := func(name string, batch *sample.Batch) {
		b.Run(name, func(b *testing.B) {
			var dst []byte
			for b.Loop() {
				dst = wal.AppendBatch(dst[:0], batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch.Len()), "ns/sample")
			b.ReportMetric(float64(len(dst))/float64(batch.Len()), "B/sample")
		})
	}
	run("scrape", scrape(2000))
	run("pushed", pushed(2000))
}

func BenchmarkDecodeBatch(b *testing.B) {
	run := func(name string, batch *sample.Batch) {
		p := wal.AppendBatch(nil, batch)
		b.Run(name, func(b *testing.B) {
			var got sample.Batch
			for b.Loop() {
				if err := wal.DecodeBatch(p, &got); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch.Len()), "ns/sample")
		})
	}
	run("scrape", scrape(2000))
	run("pushed", pushed(2000))
}

func BenchmarkSeries(b *testing.B) {
	refs, ls := manySeries(2000)
	p := wal.AppendSeries(nil, refs, ls)
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			wal.AppendSeries(nil, refs, ls)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(refs)), "ns/series")
		b.ReportMetric(float64(len(p))/float64(len(refs)), "B/series")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if err := wal.DecodeSeries(p, func(sample.Ref, labels.Labels) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(refs)), "ns/series")
	})
}
