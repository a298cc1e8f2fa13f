// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remoteread

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/promslog"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// filled is a store of some series, written as `name{a="b"} time...`; the value of a sample is its time plus add.
func filled(t *testing.T, add float64, series ...string) *tsdb.DB {
	t.Helper()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: "/data", FS: fsx.NewCrashable(), MaxFuture: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, text := range series {
		name, times, _ := strings.Cut(text, " ")
		ls, err := parser.NewParser(parser.Options{}).ParseMetric(name)
		if err != nil {
			t.Fatal(err)
		}
		refs := make([]sample.Ref, 1)
		if err := db.Resolve([]labels.Labels{ls}, refs); err != nil {
			t.Fatal(err)
		}
		var b sample.Batch
		for at := range strings.FieldsSeq(times) {
			var ts int64
			if _, err := fmt.Sscan(at, &ts); err != nil {
				t.Fatal(err)
			}
			b.AppendFloat(refs[0], 0, ts, float64(ts)+add, 0)
		}
		if _, err := db.Commit(t.Context(), &b, &sample.Result{}); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// far is a server that answers remote read from a store.
type far struct {
	*httptest.Server
	requests atomic.Int64
	broken   atomic.Bool
	most     atomic.Int64 // how many requests are answered; 0: all
	header   atomic.Value
}

func newFar(t *testing.T, db *tsdb.DB) *far {
	t.Helper()
	h := remote.NewReadHandler(promslog.NewNopLogger(), nil, queryable.New(db), func() promconfig.Config { return promconfig.Config{} }, 1e6, 10, 500)
	f := &far{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, most := f.requests.Add(1), f.most.Load()
		f.header.Store(r.Header.Get("X-Mine"))
		if f.broken.Load() || most > 0 && n > most {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// over makes a source over a store and remotes; URL stands for that of f.
func over(t *testing.T, local *tsdb.DB, start int64, f *far, config string) *Source {
	t.Helper()
	s := New(local, func() int64 { return start })
	c, err := promconfig.Load(strings.ReplaceAll(config, "URL", f.URL), promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ApplyConfig(c); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask evaluates `text[1d]` at a time: a line for each series, then one for each warning.
func ask(t *testing.T, s *Source, text string, at int64) []string {
	t.Helper()
	e := query.NewEngine(s, query.Options{})
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	q, err := e.NewInstantQuery(t.Context(), nil, nil, text, time.UnixMilli(at))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	res := q.Exec(t.Context())
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	var out []string
	m, err := res.Matrix()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range m {
		line := x.Metric.String()
		for _, p := range x.Floats {
			line += fmt.Sprintf(" %v@%d", p.F, p.T)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	for _, w := range res.Warnings.AsErrors() {
		out = append(out, "warning: "+w.Error())
	}
	return out
}

func TestARangeHasWhatTheStoreAndTheRemoteHave(t *testing.T) {
	f := newFar(t, filled(t, 0.5, `m{i="1"} 1000 2000 3000`, `m{i="2"} 1500`, `other 1000`))
	local := filled(t, 0, `m{i="1"} 3000 4000 5000`, `m{i="3"} 4000`)
	check := func(name, config, text string, start int64, want ...string) {
		t.Helper()
		s := over(t, local, start, f, config)
		if diff := cmp.Diff(want, ask(t, s, text, 10_000)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	const one, three = `{__name__="m", i="1"} `, `{__name__="m", i="3"} 4000@4000`
	alone := []string{one + "3000@3000 4000@4000 5000@5000", three}
	check("all times", `remote_read: [{url: URL, read_recent: true}]`, `m[1d]`, 0,
		one+"1000.5@1000 2000.5@2000 3000@3000 4000@4000 5000@5000", `{__name__="m", i="2"} 1500.5@1500`, three)
	check("times before the store's", `remote_read: [{url: URL}]`, `m[1d]`, 1800,
		one+"1000.5@1000 3000@3000 4000@4000 5000@5000", `{__name__="m", i="2"} 1500.5@1500`, three)
	check("required matchers that are not there", `remote_read: [{url: URL, read_recent: true, required_matchers: {i: "1"}}]`, `m[1d]`, 0, alone...)
	check("required matchers", `remote_read: [{url: URL, read_recent: true, required_matchers: {i: "1"}}]`, `m{i="1"}[1d]`, 0,
		one+"1000.5@1000 2000.5@2000 3000@3000 4000@4000 5000@5000")
	check("external labels that the remote has not", "global: {external_labels: {dc: a}}\nremote_read: [{url: URL, read_recent: true}]", `m[1d]`, 0, alone...)
	check("external labels that are not asked for", "global: {external_labels: {dc: a}}\nremote_read: [{url: URL, read_recent: true, filter_external_labels: false, headers: {X-Mine: yes}}]", `m{i="2"}[1d]`, 0,
		`{__name__="m", i="2"} 1500.5@1500`)
	if got := f.header.Load(); got != "yes" {
		t.Errorf("header %q", got)
	}
	before := f.requests.Load()
	check("times that the store has", `remote_read: [{url: URL}]`, `m[6001ms]`, -400_000, one+"4000@4000 5000@5000", three)
	if f.requests.Load() != before {
		t.Error("a remote was asked for times that the store has")
	}
}

func TestARemoteThatFailsIsAWarning(t *testing.T) {
	f := newFar(t, filled(t, 0.5, `m{i="1"} 1000`))
	f.broken.Store(true)
	s := over(t, filled(t, 0, `m{i="1"} 3000`), 0, f, `remote_read: [{name: far, url: URL, read_recent: true}]`)
	got := ask(t, s, `m[1d]`, 10_000)
	if len(got) != 2 || got[0] != `{__name__="m", i="1"} 3000@3000` || !strings.HasPrefix(got[1], "warning: remote_read far: ") {
		t.Errorf("answer %q, want what the store has and a warning", got)
	}
	f.requests.Store(0)
	if got := ask(t, s, `(m or m offset 1ms)[1d:1s]`, 10_000); len(got) == 0 || f.requests.Load() > 2 {
		t.Errorf("answer %q after %d requests", got, f.requests.Load())
	}
}

func TestNoAnswerOfARemoteIsKept(t *testing.T) {
	f := newFar(t, filled(t, 0.5, `m{i="1"} 1000`))
	local := filled(t, 0, `m{i="1"} 3000`)
	ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")}
	s := over(t, local, 2000, f, `remote_read: [{url: URL}]`)
	if a, b := s.Stamp(ms, 1000, 9000), s.Stamp(ms, 1000, 9000); a == b {
		t.Errorf("a range that a remote has part of was given the stamp %d twice", a)
	}
	if a, b := s.Stamp(ms, 2001, 9000), s.Stamp(ms, 2001, 9000); a != b || a != local.Stamp(ms, 2001, 9000) {
		t.Errorf("a range that the store has was given the stamps %d and %d", a, b)
	}
}

func TestSeriesAreThoseOfAllAndLabelsThoseOfTheStore(t *testing.T) {
	f := newFar(t, filled(t, 0.5, `m{j="1"} 1000`))
	s := over(t, filled(t, 0, `m{i="1"} 3000`), 0, f, `remote_read: [{url: URL, read_recent: true}]`)
	q, err := queryable.New(s).Querier(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	var got []string
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	for set.Next() {
		got = append(got, set.At().Labels().String())
	}
	if set.Err() != nil || !slices.Equal(got, []string{`{__name__="m", i="1"}`, `{__name__="m", j="1"}`}) {
		t.Errorf("series %q (%v)", got, set.Err())
	}
	names, _, err := q.LabelNames(context.Background(), nil)
	if err != nil || !slices.Equal(names, []string{"__name__", "i"}) {
		t.Errorf("label names %q (%v)", names, err)
	}
}

func TestARemoteThatIsConfiguredTwiceIsRefused(t *testing.T) {
	c, err := promconfig.Load("remote_read: [{url: 'http://x'}, {url: 'http://x'}]", promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := New(filled(t, 0), func() int64 { return 0 }).ApplyConfig(c); err == nil {
		t.Error("it is accepted")
	}
}

func TestASeriesThatComesInSeveralFramesIsOne(t *testing.T) {
	text, want := `m{i="1"}`, `{__name__="m", i="1"}`
	for i := range 1000 {
		at := 1000 + i*7 + i%3
		text += fmt.Sprint(" ", at)
		want += fmt.Sprintf(" %v@%d", float64(at)+0.5, at)
	}
	f := newFar(t, filled(t, 0.5, text))
	s := over(t, filled(t, 0, `m{i="1"} 9000`), 0, f, `remote_read: [{url: URL, read_recent: true}]`)
	if diff := cmp.Diff([]string{want + " 9000@9000"}, ask(t, s, `m[1d]`, 10_000)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

// A query that remotes take part in has all that one of them has, or nothing of it.
func TestARemoteThatFailsLaterTakesBackWhatItHadAnswered(t *testing.T) {
	f := newFar(t, filled(t, 0.5, `m{i="1"} 1000`, `n{i="2"} 1000`))
	f.most.Store(1)
	s := over(t, filled(t, 0, `m{i="1"} 3000`, `n{i="2"} 3000`), 0, f, `remote_read: [{name: far, url: URL, read_recent: true}]`)
	got := ask(t, s, `(m or n)[9s:1s]`, 10_000)
	for _, line := range got[:len(got)-1] {
		if strings.Contains(line, "1000.5") {
			t.Errorf("%s has samples of a remote that failed", line)
		}
	}
	if len(got) != 3 || !strings.HasPrefix(got[2], "warning: remote_read far: ") {
		t.Errorf("answer %q, want two series and a warning", got)
	}
}

// packed answers remote read as servers do that know no chunks.
func packed(t *testing.T, samples int) *httptest.Server {
	t.Helper()
	s := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "m"}}}
	for i := range samples {
		s.Samples = append(s.Samples, prompb.Sample{Timestamp: int64(i), Value: 1})
	}
	raw, err := (&prompb.ReadResponse{Results: []*prompb.QueryResult{{Timeseries: []*prompb.TimeSeries{&s}}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body, err := compression.Encode(compression.Snappy, raw, compression.NewSyncEncodeBuffer())
	if err != nil {
		t.Fatal(err)
	}
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		if _, err := w.Write(body); err != nil {
			t.Log(err) // who asked has gone: it had no room
		}
	}))
	t.Cleanup(to.Close)
	return to
}

func TestAnswersOfRemotesAreChargedBeforeTheyAreHeld(t *testing.T) {
	const samples = 20_000
	var text strings.Builder
	text.WriteString("m")
	for i := range samples {
		fmt.Fprint(&text, " ", i*i)
	}
	for name, f := range map[string]*far{"chunks": newFar(t, filled(t, 0.5, text.String())), "samples": {Server: packed(t, samples)}} {
		t.Run(name, func(t *testing.T) {
			s := over(t, filled(t, 0, `m 3000`), 0, f, `remote_read: [{url: URL, read_recent: true}]`)
			ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")}
			v, err := s.View(0, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			}()
			small, large := budget.NewRoot("small", 20_000), budget.NewRoot("large", 0)
			var refused *budget.ExceededError
			if _, err := v.Series(t.Context(), ms, column.Hint{Account: small}); !errors.As(err, &refused) || small.Used() != 0 {
				t.Errorf("error %v, with %d bytes in use after it", err, small.Used())
			}
			v, err = s.View(0, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			set, err := v.Series(t.Context(), ms, column.Hint{Account: large})
			if err != nil {
				t.Fatal(err)
			}
			if set.Bytes != large.Used() || set.Bytes < samples {
				t.Errorf("the set has %d bytes of %d that are charged, for %d samples", set.Bytes, large.Used(), samples)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
