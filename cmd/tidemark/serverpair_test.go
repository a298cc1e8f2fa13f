// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// transport is how answers travel. Tidemark compresses for other machines only, Prometheus for everyone, so a client
// on the same machine that offers to take gzip would compare different things.
type transport struct {
	name   string
	header http.Header
}

func transports() []transport {
	return []transport{
		{"plain", http.Header{"Accept-Encoding": {"identity"}}},
		{"gzip", http.Header{"Accept-Encoding": {"gzip"}, "X-Forwarded-For": {"192.0.2.1"}}}, // as from behind a proxy
	}
}

// serverPair is the two servers with the same data.
type serverPair struct {
	prometheus, tidemark *benchedServer
	start, end           time.Time // of the data
}

type benchedServer struct {
	*peers.Process

	base   string
	client *http.Client
	body   bytes.Buffer // of the last answer, as it came
	packed bool         // whether that is compressed
	told   []byte       // the last body that was taken apart
	answer answerText   // what it said
}

// answerText is an answer as it was written, in an order that does not depend on the server's.
type answerText struct {
	kind        string
	notes, rows []string // notes: warnings and infos
}

// startPair starts both servers and loads them, up to now.
func startPair(tb testing.TB, hosts, scrapes int) *serverPair {
	tb.Helper()
	p := &serverPair{end: time.Now().Truncate(time.Second)}
	p.start = p.end.Add(-time.Duration(scrapes) * scrapeMillis * time.Millisecond)
	p.prometheus = startBenched(tb, peers.Build(tb).Prometheus)
	p.tidemark = startBenched(tb, peers.BuildServer(tb))
	f := newFleet(hosts, families())
	began := time.Now()
	for s := range scrapes {
		requests := f.scrape(p.start.UnixMilli() + int64(s)*scrapeMillis)
		for _, server := range p.both() {
			send(tb, server.client, server.base, requests)
		}
		if tb.Failed() {
			tb.FailNow()
		}
	}
	tb.Logf("%d series, %d samples, loaded in %s", len(f.series), len(f.series)*scrapes, time.Since(began).Round(time.Second))
	return p
}

func startBenched(tb testing.TB, path string) *benchedServer {
	tb.Helper()
	empty := emptyServer(tb, path)
	return &benchedServer{Process: peers.Start(tb, empty.spec), base: empty.base, client: newClient(tb)}
}

func (p *serverPair) both() []*benchedServer { return []*benchedServer{p.prometheus, p.tidemark} }

// request returns path and form of a query. Prometheus does not know nocache.
func (p *serverPair) request(q benchQuery) (path string, form url.Values) {
	form = url.Values{"query": {q.expr}, "nocache": {"1"}}
	if q.kind == "instant" {
		form.Set("time", seconds(p.end))
		return "/api/v1/query", form
	}
	form.Set("start", seconds(p.start))
	form.Set("end", seconds(p.end))
	form.Set("step", q.kind)
	return "/api/v1/query_range", form
}

// compare asks both servers and fails if their answers differ.
func (p *serverPair) compare(tb testing.TB, q benchQuery, way transport) {
	tb.Helper()
	for _, s := range p.both() {
		p.ask(tb, s, q, way)
	}
	p.requireSame(tb, q)
}

// ask sends a query, reads its answer and returns how long that took.
func (p *serverPair) ask(tb testing.TB, s *benchedServer, q benchQuery, way transport) time.Duration {
	tb.Helper()
	path, form := p.request(q)
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, s.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header = maps.Clone(way.header)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.body.Reset()
	start := time.Now()
	resp, err := s.client.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = s.body.ReadFrom(resp.Body)
	took := time.Since(start)
	if err != nil {
		tb.Fatalf("%s: %s: %v", s.base, q.expr, err)
	}
	s.packed = resp.Header.Get("Content-Encoding") == "gzip"
	return took
}

// requireSame fails if the last answers of the two servers differ or are empty, or if only one of them is compressed.
func (p *serverPair) requireSame(tb testing.TB, q benchQuery) {
	tb.Helper()
	size := 0
	for _, s := range p.both() {
		if err := s.takeApart(); err != nil {
			tb.Fatalf("%s: %s: %v", s.base, q.expr, err)
		}
		size = max(size, len(s.told))
	}
	const large = 16 << 10 // whatever each takes for too small to compress
	if size > large && p.prometheus.packed != p.tidemark.packed {
		tb.Errorf("%s: compressed by Prometheus %t, by Tidemark %t", q.expr, p.prometheus.packed, p.tidemark.packed)
	}
	if diff := p.tidemark.answer.diff(p.prometheus.answer, q.tolerance()); diff != "" {
		tb.Fatalf("%s: Tidemark's answer is not Prometheus': %.1500s", q.expr, diff)
	}
	if len(p.prometheus.answer.rows) == 0 {
		tb.Errorf("%s: the answer is empty", q.expr)
	}
}

// diff says what is wrong with an answer, or nothing. Values may be off by a tolerance, a part of the value wanted; with
// 0 rows have to be equal as text.
func (a answerText) diff(want answerText, tolerance float64) string {
	if a.kind != want.kind || len(a.rows) != len(want.rows) {
		return fmt.Sprintf("%s of %d rows, want %s of %d", a.kind, len(a.rows), want.kind, len(want.rows))
	}
	for i := range a.rows {
		if a.rows[i] != want.rows[i] && !nearRow(a.rows[i], want.rows[i], tolerance) {
			diff := cmp.Diff(strings.Split(want.rows[i], "],"), strings.Split(a.rows[i], "],"))
			return fmt.Sprintf("row %d of %d (-want +got):\n%s", i, len(a.rows), diff)
		}
	}
	return cmp.Diff(want.notes, a.notes)
}

// takeApart reads the last answer, unless it is the same bytes as the one before.
func (s *benchedServer) takeApart() error {
	if s.told != nil && bytes.Equal(s.body.Bytes(), s.told) {
		return nil
	}
	text := bytes.Clone(s.body.Bytes())
	s.told = text
	if s.packed {
		zr, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return err
		}
		if text, err = io.ReadAll(zr); err != nil {
			return err
		}
	}
	var err error
	s.answer, err = readAnswer(text)
	return err
}

// nearRow tells whether two rows have the same labels and times, and values that differ by a tolerance at most.
func nearRow(got, want string, tolerance float64) bool {
	var rows [2]struct {
		Metric map[string]string
		Values []point
	}
	for i, text := range []string{got, want} {
		if err := json.Unmarshal([]byte(text), &rows[i]); err != nil {
			return false
		}
	}
	return tolerance > 0 && maps.Equal(rows[0].Metric, rows[1].Metric) &&
		slices.EqualFunc(rows[0].Values, rows[1].Values, func(a, b point) bool {
			x, err1 := strconv.ParseFloat(a.V, 64)
			y, err2 := strconv.ParseFloat(b.V, 64)
			return a.T == b.T && err1 == nil && err2 == nil && (a.V == b.V || math.Abs(x-y) <= tolerance*math.Abs(y))
		})
}

// readAnswer takes an answer apart.
func readAnswer(text []byte) (answerText, error) {
	var body struct {
		Status, Error   string
		Warnings, Infos []string
		Data            struct {
			ResultType string
			Result     []json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return answerText{}, fmt.Errorf("%w in %.300s", err, text)
	}
	if body.Status != "success" {
		return answerText{}, fmt.Errorf("%s: %s", body.Status, body.Error)
	}
	a := answerText{kind: body.Data.ResultType, notes: slices.Concat(body.Warnings, body.Infos)}
	for _, row := range body.Data.Result {
		a.rows = append(a.rows, string(row))
	}
	slices.Sort(a.rows)
	slices.Sort(a.notes)
	return a, nil
}

func TestDifferentAnswersAreSeen(t *testing.T) {
	read := func(result string) answerText {
		t.Helper()
		a, err := readAnswer([]byte(`{"status":"success","data":{"resultType":` + result + `}`))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	near := func(same bool, a, b string, tolerance float64) {
		t.Helper()
		if diff := read(a).diff(read(b), tolerance); (diff == "") != same {
			t.Errorf("%s and %s: the difference is %q", a, b, diff)
		}
	}
	c := func(same bool, a, b string) { t.Helper(); near(same, a, b, 0) }
	x, y := `{"metric":{"a":"x"},"values":[[1,"1"],[2,"2"]]}`, `{"metric":{"a":"y"},"values":[[1,"1"],[2,"2"]]}`
	c(true, `"matrix","result":[`+x+`,`+y+`]}`, `"matrix","result":[`+y+`,`+x+`]}`)
	c(true, `"matrix","result":[]}`, `"matrix","result":[]}`)
	c(false, `"matrix","result":[]}`, `"vector","result":[]}`)
	c(false, `"matrix","result":[`+x+`,`+y+`]}`, `"matrix","result":[`+x+`]}`)
	c(false, `"matrix","result":[`+x+`]}`, `"matrix","result":[`+y+`]}`)
	c(false, `"matrix","result":[`+x+`]}`, `"matrix","result":[{"metric":{"a":"x"},"values":[[1,"1"],[2,"2.0000000000000004"]]}]}`)
	c(false, `"matrix","result":[]},"infos":["one"]`, `"matrix","result":[]},"infos":["another"]`)
	row := func(label, at, value string) string {
		return `"matrix","result":[{"metric":{"a":"` + label + `"},"values":[[` + at + `,"` + value + `"]]}]}`
	}
	near(true, row("x", "1", "2"), row("x", "1", "2.0000000000000004"), 1e-15)
	near(false, row("x", "1", "2"), row("x", "1", "2.000000000000004"), 1e-15)
	near(false, row("x", "1", "2"), row("x", "1", "NaN"), 1e-15)
	near(false, row("x", "1", "2"), row("y", "1", "2"), 1e-15)
	near(false, row("x", "1", "2"), row("x", "2", "2"), 1e-15)
	for _, text := range []string{`{"status":"error","error":"e"}`, `{"status":"success"`, `{"status":"success","data":{"resultType":"vector","result":{}}}`} {
		if _, err := readAnswer([]byte(text)); err == nil {
			t.Errorf("%s is taken for an answer", text)
		}
	}
}
