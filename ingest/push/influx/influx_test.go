// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package influx_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/influx"
)

func newHandler(t testing.TB, store *ingesttest.Recorder) http.Handler {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store})
	if err != nil {
		t.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		t.Fatal(err)
	}
	return influx.New(r, "/influx")
}

func send(h http.Handler, path, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return rec
}

// stored returns what a store holds, a line for each sample.
func stored(store *ingesttest.Recorder) []string {
	out := []string{}
	for _, r := range store.Rows() {
		out = append(out, fmt.Sprintf("%s %v@%d", r.Series, r.V, r.T))
	}
	return out
}

func TestPointsBecomeSamplesOfTheirFields(t *testing.T) {
	check := func(body string, want ...string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := send(newHandler(t, store), "/influx/write?precision=ms", body)
		if rec.Code != http.StatusNoContent {
			t.Errorf("%q is answered %d %s", body, rec.Code, rec.Body)
		}
		if diff := cmp.Diff(append([]string{}, want...), stored(store)); diff != "" {
			t.Errorf("%q: %s", body, diff)
		}
	}
	check("cpu usage=1.5 1000", `{__name__="cpu_usage"} 1.5@1000`)
	check("cpu,host=a,zone=b usage=1,idle=99 1000\n",
		`{__name__="cpu_usage", host="a", zone="b"} 1@1000`, `{__name__="cpu_idle", host="a", zone="b"} 99@1000`)
	check("m a=12i,b=7u,c=t,d=TRUE,e=f,g=False,h=-3i 5", `{__name__="m_a"} 12@5`, `{__name__="m_b"} 7@5`, `{__name__="m_c"} 1@5`,
		`{__name__="m_d"} 1@5`, `{__name__="m_e"} 0@5`, `{__name__="m_g"} 0@5`, `{__name__="m_h"} -3@5`)
	check(`m s="text, with = and \" signs",v=2 5`, `{__name__="m_v"} 2@5`)
	check("m s=\"two\nlines\",v=2 5\nn v=3 6", `{__name__="m_v"} 2@5`, `{__name__="n_v"} 3@6`)
	check(`my\ m\,x,t\=1=a\ b f\ 1=1 5`, `{__name__="my m,x_f 1", "t=1"="a b"} 1@5`)
	check(`m,path=C:\dir v=1 5`, `{__name__="m_v", path="C:\\dir"} 1@5`)
	check(`m,quote="a" v=1 5`, `{__name__="m_v", quote="\"a\""} 1@5`)
	check("# a comment\n\n\r\nm v=1 5\r\n", `{__name__="m_v"} 1@5`)
	check("m,empty= v=1e3 5", `{__name__="m_v"} 1000@5`)
	check("m v=-1.5e-3 -5", `{__name__="m_v"} -0.0015@-5`)
	check(`m only="text" 5`)
}

func TestPrecisionsAndDatabases(t *testing.T) {
	check := func(path, line, want string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := send(newHandler(t, store), path, line)
		if got := strings.Join(stored(store), "; "); got != want || rec.Code != http.StatusNoContent {
			t.Errorf("%s: %d, stored %s, want %s", path, rec.Code, got, want)
		}
	}
	check("/influx/write", "m v=1 1999999", `{__name__="m_v"} 1@1`)
	check("/influx/write?precision=n", "m v=1 -1", `{__name__="m_v"} 1@-1`)
	check("/influx/api/v2/write?precision=ns", "m v=1 2000000", `{__name__="m_v"} 1@2`)
	check("/influx/api/v2/write?precision=us", "m v=1 2000", `{__name__="m_v"} 1@2`)
	check("/influx/write?precision=u", "m v=1 2999", `{__name__="m_v"} 1@2`)
	check("/influx/write?precision=%C2%B5", "m v=1 2999", `{__name__="m_v"} 1@2`)
	check("/influx/write?precision=s", "m v=1 2", `{__name__="m_v"} 1@2000`)
	check("/influx/write?precision=m", "m v=1 2", `{__name__="m_v"} 1@120000`)
	check("/influx/write?precision=h", "m v=1 2", `{__name__="m_v"} 1@7200000`)
	check("/influx/write?precision=ms&db=tele", "m v=1 2", `{__name__="m_v", db="tele"} 1@2`)
	check("/influx/write?precision=ms&db=tele", "m,db=own v=1 2", `{__name__="m_v", db="own"} 1@2`)
	check("/influx/api/v2/write?precision=ms&org=o&bucket=b/autogen", "m v=1 2", `{__name__="m_v", db="b/autogen"} 1@2`)
	check("/influx/write?precision=ms&extra_label=dc=x&extra_label=host=h", "m,host=a v=1 2", `{__name__="m_v", dc="x", host="h"} 1@2`)
}

func TestSameBytesInAnotherDatabaseAreAnotherSeries(t *testing.T) {
	store := &ingesttest.Recorder{}
	h := newHandler(t, store)
	for i, path := range []string{"db=a", "db=b", "db=a", "extra_label=db=a", "", "extra_label=x=y"} {
		send(h, "/influx/write?precision=ms&"+path, fmt.Sprintf("m v=1 %d", i))
	}
	want := []string{
		`{__name__="m_v", db="a"} 1@0`, `{__name__="m_v", db="b"} 1@1`, `{__name__="m_v", db="a"} 1@2`,
		`{__name__="m_v", db="a"} 1@3`, `{__name__="m_v"} 1@4`, `{__name__="m_v", x="y"} 1@5`,
	}
	if diff := cmp.Diff(want, stored(store)); diff != "" {
		t.Error(diff)
	}
}

func TestSeriesThatLeftTheStoreAreFoundAgain(t *testing.T) {
	store := &ingesttest.Recorder{}
	h := newHandler(t, store)
	for i := range 2 {
		rec := send(h, "/influx/write?precision=ms&db=d", fmt.Sprintf("m,t=1 a=%d,s=\"x\ny\",b=%d 5\r\nn c=%d 6\n", i, i, i))
		if rec.Code != http.StatusNoContent {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		if i == 0 {
			store.Forget()
		}
	}
	want := []string{
		`{__name__="m_a", db="d", t="1"} 0@5`, `{__name__="m_b", db="d", t="1"} 0@5`, `{__name__="n_c", db="d"} 0@6`,
		`{__name__="m_a", db="d", t="1"} 1@5`, `{__name__="m_b", db="d", t="1"} 1@5`, `{__name__="n_c", db="d"} 1@6`,
	}
	if diff := cmp.Diff(want, stored(store)); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedLinesAreNamedAndTheOthersStored(t *testing.T) {
	check := func(line, position string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := send(newHandler(t, store), "/influx/write?precision=ms", "a v=1 1\n"+line+"\nb v=2 2\n")
		if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), position) ||
			!strings.Contains(rec.Body.String(), "2 samples were stored; 1 of 3 lines could not be read") {
			t.Errorf("%q is answered %d %s, want %s", line, rec.Code, rec.Body, position)
		}
		if diff := cmp.Diff([]string{`{__name__="a_v"} 1@1`, `{__name__="b_v"} 2@2`}, stored(store)); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	check("m", "line 2, column 2: the fields are missing")
	check("m ", "line 2, column 3: the fields are missing")
	check(",t=1 v=1", "line 2, column 1: the measurement is missing")
	check("m,t v=1", "line 2, column 3: the tag has no equals sign")
	check("m,=x v=1", "line 2, column 3: the tag has no name")
	check("m, v=1", "line 2, column 3: a tag is missing")
	check("m =1", "line 2, column 3: the field has no name")
	check("m v", "line 2, column 4: the field has no equals sign")
	check("m v=", "line 2, column 5: the value is missing")
	check("m v=abc", "line 2, column 5: the value is neither")
	check("m v=1_000", "line 2, column 5: the value is neither")
	check("m v=NaN", "line 2, column 5: the value is neither")
	check("m v=-1u", "line 2, column 5: the value is neither")
	check("m v=1.5i", "line 2, column 5: the value is neither")
	check("m v=1,w=2,x=? 7", "line 2, column 13: the value is neither")
	check("m v=1 12.5", "line 2, column 7: the time is no whole number")
	check("m v=1 99999999999999999999", "line 2, column 7: the time is no whole number")
	check(`m s="open 7`, "line 2, column 5: the text has no closing quote")
	check(`m s="x"y 7`, "line 2, column 8: a comma or a space is missing")
	check("m,t=\xff v=1 7", "line 2: value of label")
	check("m "+strings.Repeat("v=1,", push.DefaultMaxLine/4)+"v=1 7", "line 2, column 262145: the line is longer than 262144 bytes")
}

func TestATextWithoutAnEndSpoilsOnlyItsLine(t *testing.T) {
	store := &ingesttest.Recorder{}
	rec := send(newHandler(t, store), "/influx/write?precision=ms", "a s=\"open 1\nb s=\"x\",v=2 2\nc v=3 3\n")
	if diff := cmp.Diff([]string{`{__name__="b_v"} 2@2`, `{__name__="c_v"} 3@3`}, stored(store)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(rec.Body.String(), "1 of 3 lines could not be read: line 1, column 5: the text has no closing quote") {
		t.Errorf("answer %s", rec.Body)
	}
}

func TestATextWithoutAnEndSpoilsOnlyItsLineHoweverFarTheNextQuoteIs(t *testing.T) {
	for _, lines := range []int{100, 12_000, 13_500, 20_000, 60_000} { // of about 20 bytes: below a line's limit, at it, beyond a piece
		var b strings.Builder
		b.WriteString("m text=\"unclosed 1\n")
		for i := range lines {
			fmt.Fprintf(&b, "m,i=x v=%d %d\n", i, i+1)
		}
		b.WriteString("m t=\"x\",v=7 99999999\n")
		store := &ingesttest.Recorder{}
		rec := send(newHandler(t, store), "/influx/write?precision=ms", b.String())
		want := fmt.Sprintf("1 of %d lines could not be read: line 1, column 8: the text has no closing quote", lines+2)
		if len(store.Rows()) != lines+1 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%d lines in %d bytes: %d rows are stored, answer %d %.300s", lines, b.Len(), len(store.Rows()), rec.Code, rec.Body)
		}
	}
}

func TestClientsFindWhatTheyProbe(t *testing.T) {
	check := func(method, path string, code int, body string) {
		t.Helper()
		rec := httptest.NewRecorder()
		newHandler(t, &ingesttest.Recorder{}).ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		if rec.Code != code || !strings.Contains(rec.Body.String(), body) || rec.Header().Get("X-Influxdb-Version") == "" {
			t.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
		}
	}
	check("GET", "/influx/ping", 204, "")
	check("HEAD", "/influx/ping", 204, "")
	check("GET", "/influx/ping?verbose=true", 200, `"version"`)
	check("GET", "/influx/health", 200, `"status":"pass"`)
	check("GET", "/influx/ready", 200, `"ready"`)
	check("POST", "/influx/query?q=CREATE+DATABASE+x", 200, `{"results":[{"statement_id":0}]}`)
	check("GET", "/influx/query?q=show%20%20databases", 200, `"databases"`)
	check("GET", "/influx/query?q=SHOW+RETENTION+POLICIES+ON+x", 200, `"shardGroupDuration"`)
	check("GET", "/influx/query?q=SELECT+1", 400, "PromQL")
	check("POST", "/influx/write?precision=d", 400, "precision")
	check("GET", "/influx/write", 405, "POST")
	check("POST", "/influx/other", 404, "")
}
