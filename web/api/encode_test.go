// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	promapi "github.com/prometheus/prometheus/web/api/v1"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func encode(tb testing.TB, v any) string {
	tb.Helper()
	var out bytes.Buffer
	e := newEncoder(&out)
	defer e.release()
	e.data(v)
	if err := e.flush(); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

// golden compares got with a file of testdata, which `go test -update` rewrites.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func sampleMatrix() promql.Matrix {
	odd := labels.FromStrings("__name__", "odd", "text", "a\"b\\c\n\r\t\x01<&>\u2028 中 \xff")
	return promql.Matrix{
		{Metric: odd, Floats: []promql.FPoint{
			{T: 0, F: 0},
			{T: 1, F: math.Copysign(0, -1)},
			{T: 10, F: 1},
			{T: 100, F: -1.5},
			{T: 1234, F: math.NaN()},
			{T: 12000, F: math.Inf(1)},
			{T: -1, F: math.Inf(-1)},
			{T: -1500, F: 1e-7},
			{T: 1e12, F: 1e21},
			{T: 1e15 + 7, F: 1e20},
			{T: 2, F: 1 << 53},
			{T: 3, F: 0.1},
			{T: 4, F: 1e-6},
			{T: 5, F: math.MaxFloat64},
			{T: 6, F: math.SmallestNonzeroFloat64},
			{T: math.MinInt64 + 1, F: 1<<53 - 1},
		}},
		{Metric: labels.EmptyLabels(), Histograms: []promql.HPoint{
			{T: 1000, H: tsdbutil.GenerateTestFloatHistogram(2)},
			{T: 2000, H: &histogram.FloatHistogram{}},
			{T: 3000, H: tsdbutil.GenerateTestCustomBucketsFloatHistogram(1)},
		}},
		{Metric: labels.FromStrings("a", "1", "b", "2"), Floats: []promql.FPoint{{T: 1, F: 2}}, Histograms: []promql.HPoint{{T: 2, H: tsdbutil.GenerateTestFloatHistogram(0)}}},
		{Metric: labels.FromStrings("none", "at all")},
	}
}

func TestResultsAreEncodedAsTheGoldenFilesSay(t *testing.T) {
	golden(t, "matrix.json", encode(t, &queryData{result: sampleMatrix()}))
	golden(t, "vector.json", encode(t, &queryData{result: promql.Vector{
		{Metric: labels.FromStrings("a", "1"), T: 1234, F: 5},
		{Metric: labels.EmptyLabels(), T: 1234, H: tsdbutil.GenerateTestFloatHistogram(1)},
	}, stats: json.RawMessage(`{"samples":1}`)}))
	golden(t, "scalar.json", encode(t, &queryData{result: promql.Scalar{T: 1500, V: 1e-9}}))
	golden(t, "string.json", encode(t, &queryData{result: promql.String{T: 1500, V: "a\"b"}}))
	golden(t, "exemplars.json", encode(t, []exemplar.QueryResult{{
		SeriesLabels: labels.FromStrings("a", "1"),
		Exemplars:    []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", "x"), Value: 0.5, Ts: 1001}, {Value: 2, Ts: 2000}},
	}}))
	golden(t, "strings.json", encode(t, []string{"", "a", "é"}))
	golden(t, "labels.json", encode(t, []labels.Labels{labels.EmptyLabels(), labels.FromStrings("a", "b")}))
	golden(t, "empty.json", encode(t, &queryData{result: promql.Matrix{}})+encode(t, &queryData{result: promql.Vector{}})+encode(t, []string{}))
}

// theirEncoding is what Prometheus' codec makes of a result.
func theirEncoding(tb testing.TB, v parser.Value) []byte {
	tb.Helper()
	b, err := promapi.JSONCodec{}.Encode(&promapi.Response{Status: "success", Data: &promapi.QueryData{ResultType: v.Type(), Result: v}})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestResultsAreEncodedAsPrometheusDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		floats := rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Int64(), func(i int64) float64 { return float64(i) }),
			rapid.Map(rapid.Uint64(), math.Float64frombits), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.NaN(), 1e21, 1e-6, 1 << 53, 9007199254740991}))
		point := rapid.Custom(func(rt *rapid.T) promql.FPoint {
			return promql.FPoint{T: rapid.Int64Range(math.MinInt64+1, math.MaxInt64).Draw(rt, "t"), F: floats.Draw(rt, "f")}
		})
		m := promql.Matrix{{
			Metric: labels.FromStrings(rapid.String().Draw(rt, "name")+"n", rapid.String().Draw(rt, "value")),
			Floats: rapid.SliceOfN(point, 0, 20).Draw(rt, "points"),
		}}
		for i := range m[0].Floats { // some stand still
			if i > 0 && rapid.Bool().Draw(rt, "again") {
				m[0].Floats[i].F = m[0].Floats[i-1].F
			}
		}
		want := string(theirEncoding(t, m))
		got := `{"status":"success","data":` + encode(t, &queryData{result: m}) + `}`
		if got != want {
			rt.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestLargeResultsPassThroughASmallBuffer(t *testing.T) {
	m := benchMatrix(20, 2000)
	var out bytes.Buffer
	largest := 0
	e := newEncoder(writerFunc(func(p []byte) (int, error) {
		largest = max(largest, len(p))
		return out.Write(p)
	}))
	defer e.release()
	e.data(&queryData{result: m})
	if err := e.flush(); err != nil {
		t.Fatal(err)
	}
	if largest > flushAt+8192 {
		t.Errorf("a write of %d bytes", largest)
	}
	if !json.Valid(out.Bytes()) {
		t.Error("the result is no JSON")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestEncoderStopsAtTheFirstError(t *testing.T) {
	gone := errors.New("connection gone")
	writes := 0
	e := newEncoder(writerFunc(func([]byte) (int, error) {
		writes++
		return 0, gone
	}))
	defer e.release()
	e.data(&queryData{result: benchMatrix(20, 2000)})
	if err := e.flush(); !errors.Is(err, gone) || writes != 1 {
		t.Errorf("error %v after %d writes", err, writes)
	}
}

func benchMatrix(series, points int) promql.Matrix {
	m := make(promql.Matrix, series)
	now := time.Now().UnixMilli() / 15000 * 15000
	for i := range m {
		m[i].Metric = labels.FromStrings("__name__", "http_requests_total", "instance", fmt.Sprintf("host-%d:9100", i), "job", "node", "code", "200")
		m[i].Floats = make([]promql.FPoint, points)
		for k := range m[i].Floats {
			f := float64(i*k) / 60 // A rate: many digits.
			if i%2 == 0 {
				f = float64(i * k) // A counter.
			}
			m[i].Floats[k] = promql.FPoint{T: now + int64(k)*15000, F: f}
		}
	}
	return m
}

// reportCPU adds the CPU time of a run, which other load on the machine disturbs less than its duration.
func reportCPU(b *testing.B) func() {
	b.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := used()
	return func() { b.ReportMetric(float64((used()-began).Nanoseconds())/float64(b.N), "cpu-ns/op") }
}

// BenchmarkEncodeFloats writes floats of many digits: each another one, or the same again.
func BenchmarkEncodeFloats(b *testing.B) {
	for name, step := range map[string]float64{"moving": 1, "still": 0} {
		b.Run(name, func(b *testing.B) {
			e := newEncoder(io.Discard)
			defer e.release()
			f := 1.0
			for b.Loop() {
				e.buf = e.buf[:0]
				f += step
				e.float(f / 60)
			}
		})
	}
}

func BenchmarkEncodeMatrix(b *testing.B) {
	m := benchMatrix(1000, 1000)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		for b.Loop() {
			e := newEncoder(io.Discard)
			e.data(&queryData{result: m})
			if err := e.flush(); err != nil {
				b.Fatal(err)
			}
			e.release()
		}
	})
	b.Run("prometheus", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		for b.Loop() {
			theirEncoding(b, m)
		}
	})
}
