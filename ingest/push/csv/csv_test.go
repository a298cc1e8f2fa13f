// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package csv_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/csv"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func newHandler(t testing.TB, store sample.Appender) http.Handler {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store})
	if err != nil {
		t.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		t.Fatal(err)
	}
	return csv.New(r)
}

func send(t *testing.T, store sample.Appender, format, body string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	newHandler(t, store).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/?format="+url.QueryEscape(format), strings.NewReader(body)))
	return rec
}

func stored(store *ingesttest.Recorder) []string {
	out := []string{}
	for _, r := range store.Rows() {
		out = append(out, fmt.Sprintf("%s %v@%d", r.Series, r.V, r.T))
	}
	return out
}

func TestTablesAreStored(t *testing.T) {
	check := func(format, body string, want ...string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		if rec := send(t, store, format, body); rec.Code != http.StatusNoContent {
			t.Errorf("%q is answered %d %s", body, rec.Code, rec.Body)
		}
		if diff := cmp.Diff(append([]string{}, want...), stored(store)); diff != "" {
			t.Errorf("%s of %q: %s", format, body, diff)
		}
	}
	check("2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_ms", "GOOG,1.5,2,5\r\nAMZN,,3,6\n",
		`{__name__="ask", ticker="GOOG"} 1.5@5`, `{__name__="bid", ticker="GOOG"} 2@5`, `{__name__="bid", ticker="AMZN"} 3@6`)
	check("1:time:unix_s,3:metric:x,2:label:l", `5,"a, ""b""",1,ignored,"`, `{__name__="x", l="a, \"b\""} 1@5000`)
	check("1:time:unix_ns,2:metric:x", "-1,NaN", `{__name__="x"} NaN@-1`)
	check("1:time:rfc3339,2:metric:my metric", "2024-01-02T03:04:05.006Z,-1e3", `{__name__="my metric"} -1000@1704164645006`)
	check("1:time:custom:2006-01-02 15:04,2:metric:x", "1970-01-01 00:01,7", `{__name__="x"} 7@60000`)
	check("1:metric:x,2:label:a,3:label:b,4:time:unix_ms", "1,a,,5\n2,,a,5", `{__name__="x", a="a"} 1@5`, `{__name__="x", b="a"} 2@5`)
}

func TestSeriesThatLeftTheStoreAreFoundAgain(t *testing.T) {
	store := &ingesttest.Recorder{}
	h := newHandler(t, store)
	for i := range 2 {
		rec := httptest.NewRecorder()
		body := fmt.Sprintf("\"a\"\"\",%d,%d,5\r\nb,,%d,6\n", i, i, i)
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/?format=1:label:l,2:metric:x,3:metric:y,4:time:unix_ms", strings.NewReader(body)))
		if rec.Code != http.StatusNoContent {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		if i == 0 {
			store.Forget()
		}
	}
	want := []string{
		`{__name__="x", l="a\""} 0@5`, `{__name__="y", l="a\""} 0@5`, `{__name__="y", l="b"} 0@6`,
		`{__name__="x", l="a\""} 1@5`, `{__name__="y", l="a\""} 1@5`, `{__name__="y", l="b"} 1@6`,
	}
	if diff := cmp.Diff(want, stored(store)); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedLinesAreNamedAndTheRestStored(t *testing.T) {
	check := func(line, want string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := send(t, store, "1:label:l,2:metric:x,3:time:unix_ms", "a,1,1\n"+line+"\nb,2,2\n")
		if got := rec.Body.String(); rec.Code != http.StatusBadRequest || !strings.Contains(got, want) || !strings.Contains(got, "1 of 3 lines") {
			t.Errorf("%q is answered %d %s, want %s", line, rec.Code, got, want)
		}
		if diff := cmp.Diff([]string{`{__name__="x", l="a"} 1@1`, `{__name__="x", l="b"} 2@2`}, stored(store)); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	check("c,1", "line 2, column 4: there are 2 columns, and 3 are to be read")
	check("c,x,1", "line 2, column 3: the value is not a number")
	check("c,1,x", "line 2, column 5: the time is not a number")
	check("c,1,9999999999999999999999", "line 2, column 5: the time is out of range")
	check(`"c,1,1`, "line 2, column 1: the closing quote is missing")
	check(`"c"d,1,1`, "line 2, column 4: a comma is missing")
	check("\xff,1,1", "line 2: value of label")
}

func TestALongFormatIsNotRepeatedToItsSender(t *testing.T) {
	store := &ingesttest.Recorder{}
	rec := send(t, store, "1:metric:x,2:time:custom:"+strings.Repeat("\xff", 20_000), strings.Repeat("1,2\n", 20))
	if rec.Code != http.StatusBadRequest || rec.Body.Len() > 20_000 || !strings.Contains(rec.Body.String(), "20 of 20 lines") {
		t.Errorf("answer %d with %d bytes: %.300s", rec.Code, rec.Body.Len(), rec.Body)
	}
}

func TestFormatsThatSayNothingAreRefused(t *testing.T) {
	check := func(format, want string) {
		t.Helper()
		if rec := send(t, &ingesttest.Recorder{}, format, "1,2"); rec.Code != 400 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%q: %d %s", format, rec.Code, rec.Body)
		}
	}
	check("", "three parts are wanted")
	check("1:metric", "three parts are wanted")
	check("0:metric:x", "the number is not one")
	check("1001:metric:x", "the number is not one")
	check("1:metric:x,1:label:y", "the number is not one")
	check("1:metric:", "no name of a metric")
	check("1:label:", "no name of a label")
	check("1:thing:x", "is not metric, label or time")
	check("1:time:noon,2:metric:x", "is not unix_s")
	check("1:time:unix_s,2:time:unix_s,3:metric:x", "there is another time")
	check("1:label:x", "names no metric")
}
