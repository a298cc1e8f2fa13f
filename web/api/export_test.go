// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/jsonlines"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// exported asks for an export; the arguments are encoded as they stand behind their first equals sign.
func exportOf(t *testing.T, h http.Handler, path string, args ...string) *httptest.ResponseRecorder {
	t.Helper()
	q := url.Values{}
	for _, a := range args {
		name, v, _ := strings.Cut(a, "=")
		q.Add(name, v)
	}
	return do(h, httptest.NewRequest(http.MethodGet, "/api/v1/"+path+"?"+q.Encode(), nil))
}

// exportStore has the series a, b and c, with 1, 2 and 3 samples.
func exportStore(store *columntest.Store) {
	for i, name := range []string{"a", "b", "c"} {
		for j := range i + 1 {
			store.Append(labels.FromStrings("__name__", name, "l", `x"y,z`), columntest.Sample{T: int64(1000 * j), V: float64(i) + 0.5})
		}
	}
}

func TestExportWritesALineForEachSeries(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	exportStore(store)
	store.Append(labels.FromStrings("__name__", "odd"), columntest.Sample{T: 1, V: math.Inf(1)})
	store.Append(labels.FromStrings("__name__", "odd"), columntest.Sample{T: 2, V: math.Float64frombits(value.StaleNaN)})
	store.Append(labels.FromStrings("__name__", "odd"), columntest.Sample{T: 3, V: math.Float64frombits(value.NormalNaN), ST: 2})
	check := func(want string, args ...string) {
		t.Helper()
		rec := exportOf(t, h, "export", args...)
		if rec.Code != 200 || rec.Body.String() != strings.ReplaceAll(want, "L", `"l":"x\"y,z"`) || !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/stream+json") {
			t.Errorf("%q: %d %s", args, rec.Code, rec.Body)
		}
	}
	const (
		a = `{"metric":{"__name__":"a",L},"values":[0.5],"timestamps":[0]}` + "\n"
		b = `{"metric":{"__name__":"b",L},"values":[1.5,1.5],"timestamps":[0,1000]}` + "\n"
	)
	check(a+b, `match[]={__name__=~"a|b"}`)
	check(a+b, `match[]=b`, `match[]={l!="",__name__!="c"}`, `match[]=a`)
	check(a, `match=a`)
	check(`{"metric":{"__name__":"c",L},"values":[2.5,2.5],"timestamps":[1000,2000]}`+"\n", `match[]=c`, "start=1", "end=2")
	check(`{"metric":{"__name__":"c",L},"values":[2.5,2.5],"timestamps":[0,1000]}`+"\n"+`{"metric":{"__name__":"c",L},"values":[2.5],"timestamps":[2000]}`+"\n", `match[]=c`, "max_rows_per_line=2")
	check(`{"metric":{"__name__":"odd"},"nan":[[1,"7ff0000000000002"]],"values":["Infinity",null,null],"timestamps":[1,2,3],"starts":[0,0,2]}`+"\n", "match[]=odd")
	check("", "match[]=none")
}

func TestExportWritesNoLineThatIsDearToImport(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	for i := range 2*defaultRowsPerLine + 1 {
		store.Append(labels.FromStrings("__name__", "long"), columntest.Sample{T: int64(i), V: 1})
	}
	check := func(lines int, args ...string) {
		t.Helper()
		rec := exportOf(t, h, "export", append(args, "match[]=long")...)
		if n := strings.Count(rec.Body.String(), "\n"); n != lines {
			t.Errorf("%q: %d lines, want %d", args, n, lines)
		}
	}
	check(3)
	check(1, "max_rows_per_line=0")
	check(5, "max_rows_per_line=5000")
}

func TestExportWritesTables(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	exportStore(store)
	store.Append(labels.FromStrings("__name__", "b", "l", `x"y,z`), columntest.Sample{T: 5, H: tsdbutil.GenerateTestHistogram(1)})
	check := func(want string, args ...string) {
		t.Helper()
		rec := exportOf(t, h, "export/csv", args...)
		if rec.Code != 200 || rec.Body.String() != want {
			t.Errorf("%q: %d %s", args, rec.Code, rec.Body)
		}
	}
	check("b,\"x\"\"y,z\",1.5,0,\nb,\"x\"\"y,z\",1.5,1000,\n", "match[]=b", "format=__name__,l,__value__,__timestamp__,none")
	check("1,1970-01-01T00:00:01Z,1000000000,1000,00:00:01,2.5\n", "match[]=c", "start=1", "end=1",
		"format=__timestamp__:unix_s,__timestamp__:rfc3339,__timestamp__:unix_ns,__timestamp__:unix_ms,__timestamp__:custom:15:04:05,__value__")
}

func TestExportSaysWhatIsWrongWithItsArguments(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	check := func(want, path string, args ...string) {
		t.Helper()
		if rec := exportOf(t, h, path, args...); rec.Code != 400 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s %q: %d %s", path, args, rec.Code, rec.Body)
		}
	}
	check("no match[]", "export")
	check("match[]", "export", "match[]={}")
	check("match[]", "export", "match[]=(")
	check("start", "export", "match[]=a", "start=x")
	check("max_rows_per_line", "export", "match[]=a", "max_rows_per_line=x")
	check("format", "export/csv", "match[]=a")
	check("no name", "export/csv", "match[]=a", "format=a,,b")
	check("a time is", "export/csv", "match[]=a", "format=__timestamp__:noon")
	store.ScanErr = errors.New("bad checksum")
	if rec := exportOf(t, h, "export", "match[]=m"); rec.Code != 422 || !strings.Contains(rec.Body.String(), "bad checksum") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestExportTellsOfWhatItMisses(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	for i := range 20_000 {
		store.Append(labels.FromStrings("__name__", "long"), columntest.Sample{T: int64(i), V: rand.Float64()})
	}
	store.Warning = errors.New("a block is put aside")
	srv := httptest.NewServer(h)
	defer srv.Close()
	check := func(metric string, warnings func(*http.Response) http.Header) {
		t.Helper()
		resp, err := http.Get(srv.URL + "/api/v1/export?match[]=" + metric)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if got := warnings(resp).Get("Tidemark-Warnings"); !strings.Contains(got, "put aside") {
			t.Errorf("%s: header %v, trailer %v", metric, resp.Header, resp.Trailer)
		}
	}
	check("m", func(r *http.Response) http.Header { return r.Header })
	check("long", func(r *http.Response) http.Header { return r.Trailer })
}

func TestExportChargesWhatItHolds(t *testing.T) {
	account := budget.NewRoot("exports", 1<<20)
	h, store := serving(t, Options{}, func(s *Sources) { s.Exports = account })
	exportStore(store)
	if rec := exportOf(t, h, "export", `match[]={__name__!=""}`); rec.Code != 200 || account.Used() != 0 {
		t.Errorf("%d, %d bytes are still charged", rec.Code, account.Used())
	}
	account.SetLimit(8)
	if rec := exportOf(t, h, "export", `match[]={__name__!=""}`); rec.Code != 422 || account.Used() != 0 || !strings.Contains(rec.Body.String(), "exports") {
		t.Errorf("%d %s, %d bytes are still charged", rec.Code, rec.Body, account.Used())
	}
}

// oddSample returns one of any kind.
func oddSample(r *rand.Rand, t int64) columntest.Sample {
	x := columntest.Sample{T: t}
	if r.IntN(3) == 0 {
		x.ST = t - 1
	}
	switch r.IntN(8) {
	case 0:
		x.H = tsdbutil.GenerateTestHistogram(r.Int64N(100))
	case 1:
		x.FH = tsdbutil.GenerateTestFloatHistogram(r.Int64N(100))
	case 2:
		x.H = tsdbutil.GenerateTestCustomBucketsHistogram(r.Int64N(100))
	case 3:
		x.H = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	case 4:
		x.V = math.Float64frombits(0x7ff0000000000001 + r.Uint64N(1<<51))
	default:
		x.V = math.Float64frombits(r.Uint64())
	}
	return x
}

func TestWhatIsExportedIsImportedBitForBit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	h, store := serving(t, Options{}, nil)
	type row struct {
		Series string
		ST, T  int64
		Bits   uint64
		H, FH  string
	}
	var want []row
	for s := range 20 {
		ls := labels.FromStrings("__name__", "x", "l", fmt.Sprintf("%02d \"\\\n\u2028é", s))
		var floats, histograms []row // of a line, floats come first
		for i := range r.IntN(100) {
			x := oddSample(r, int64(i)*1000-5000)
			store.Append(ls, x)
			w := row{Series: ls.String(), ST: x.ST, T: x.T}
			switch {
			case x.H != nil:
				w.H = fmt.Sprintf("%+v", *x.H)
				histograms = append(histograms, w)
			case x.FH != nil:
				w.FH = fmt.Sprintf("%+v", *x.FH)
				histograms = append(histograms, w)
			default:
				w.Bits = math.Float64bits(x.V)
				floats = append(floats, w)
			}
		}
		want = append(append(want, floats...), histograms...)
	}
	body := exportOf(t, h, "export", "match[]=x", "start=-100").Body

	to := &ingesttest.Recorder{}
	in, err := ingest.New(ingest.Options{Appender: to})
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := push.New(push.Options{Intake: in})
	if err != nil {
		t.Fatal(err)
	}
	if rec := do(jsonlines.New(receiver), httptest.NewRequest(http.MethodPost, "/", body)); rec.Code != http.StatusNoContent {
		t.Fatalf("import: %d %s", rec.Code, rec.Body)
	}
	var got []row
	for _, x := range to.Rows() {
		g := row{Series: x.Series, ST: x.ST, T: x.T}
		switch {
		case x.H != nil:
			g.H = fmt.Sprintf("%+v", *x.H)
		case x.FH != nil:
			g.FH = fmt.Sprintf("%+v", *x.FH)
		default:
			g.Bits = math.Float64bits(x.V)
		}
		got = append(got, g)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
