// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package jsonlines_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/jsonlines"
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
	return jsonlines.New(r)
}

func send(t *testing.T, store sample.Appender, body string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	newHandler(t, store).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	return rec
}

func stored(store *ingesttest.Recorder) []string {
	out := []string{}
	for _, r := range store.Rows() {
		v := fmt.Sprint(r.V)
		switch {
		case r.H != nil:
			v = r.H.String()
		case r.FH != nil:
			v = r.FH.String()
		case math.IsNaN(r.V):
			v = fmt.Sprintf("%x", math.Float64bits(r.V))
		}
		out = append(out, fmt.Sprintf("%s %s@%d/%d", r.Series, v, r.T, r.ST))
	}
	return out
}

func TestDocumentsAreStored(t *testing.T) {
	check := func(body string, want ...string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		if rec := send(t, store, body); rec.Code != http.StatusNoContent {
			t.Errorf("%q is answered %d %s", body, rec.Code, rec.Body)
		}
		if diff := cmp.Diff(append([]string{}, want...), stored(store)); diff != "" {
			t.Errorf("%q: %s", body, diff)
		}
	}
	check(`{"metric":{"__name__":"up","job":"a\u0062"},"values":[1,-2.5e3],"timestamps":[5,6]}`+"\n"+`{"metric":{"__name__":"x"},"values":[],"timestamps":[]}`+"\n{\"metric\":{}}\n\n",
		`{__name__="up", job="ab"} 1@5/0`, `{__name__="up", job="ab"} -2500@6/0`)
	check(` { "timestamps" : [ 5 , 6 ,7,8] , "other":{"a":[1,{"]":"}"}]}, "values" : [ null , "Infinity","-Infinity" , "NaN" ] , "metric" : {"__name__":"x"} } `,
		fmt.Sprintf(`{__name__="x"} %x@5/0`, value.NormalNaN), `{__name__="x"} +Inf@6/0`, `{__name__="x"} -Inf@7/0`, fmt.Sprintf(`{__name__="x"} %x@8/0`, value.NormalNaN))
	check(`{"metric":{"__name__":"x"},"values":[NaN,+Inf,-Inf],"timestamps":[5,6,7]}`,
		fmt.Sprintf(`{__name__="x"} %x@5/0`, value.NormalNaN), `{__name__="x"} +Inf@6/0`, `{__name__="x"} -Inf@7/0`)
	check(`{"metric":{"__name__":"x"},"nan":[[0,"7ff0000000000002"],[2,"fff8000000000003"]],"values":[null,1,null],"timestamps":[5,6,7],"starts":[1,2]}`,
		`{__name__="x"} 7ff0000000000002@5/1`, `{__name__="x"} 1@6/2`, `{__name__="x"} fff8000000000003@7/0`)
	check(`{"metric":{"__name__":"h"},"histograms":[{"schema":1,"count":3,"sum":2.5,"positive_spans":[[0,2]],"positive_deltas":[1,1]},{"float":true,"count_float":1.5,"sum":"7ff0000000000002","zero_threshold":0.1,"zero_count_float":1.5}],"histogram_timestamps":[5,6]}`,
		`{__name__="h"} {count:3, sum:2.5, (0.7071067811865475,1]:1, (1,1.414213562373095]:2}@5/0`, `{__name__="h"} {count:1.5, sum:NaN, [-0.1,0.1]:1.5}@6/0`)
}

func TestManyRowsOfOneLineAreStoredInSteps(t *testing.T) {
	var values, times strings.Builder
	const rows = 120_001
	for i := range rows {
		if i > 0 {
			values.WriteByte(',')
			times.WriteByte(',')
		}
		fmt.Fprint(&values, i)
		fmt.Fprint(&times, i+1000)
	}
	store := &ingesttest.Recorder{}
	rec := send(t, store, fmt.Sprintf(`{"metric":{"__name__":"x"},"values":[%s],"timestamps":[%s]}`, &values, &times))
	got := store.Rows()
	if rec.Code != http.StatusNoContent || len(got) != rows || got[rows-1].V != rows-1 || got[rows-1].T != rows+999 {
		t.Errorf("%d %s: %d rows", rec.Code, rec.Body, len(got))
	}
}

func TestMalformedLinesAreNamedAndTheRestStored(t *testing.T) {
	check := func(line, want string) {
		t.Helper()
		const good = `{"metric":{"__name__":"%s"},"values":[1],"timestamps":[5]}`
		store := &ingesttest.Recorder{}
		rec := send(t, store, fmt.Sprintf(good, "a")+"\n"+line+"\n"+fmt.Sprintf(good, "b"))
		if got := strings.ReplaceAll(rec.Body.String(), `\"`, `"`); rec.Code != http.StatusBadRequest || !strings.Contains(got, want) || !strings.Contains(got, "1 of 3 lines") {
			t.Errorf("%q is answered %d %s, want %s", line, rec.Code, got, want)
		}
		if diff := cmp.Diff([]string{`{__name__="a"} 1@5/0`, `{__name__="b"} 1@5/0`}, stored(store)); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	check("[]", "line 2, column 1: a document begins with an opening brace")
	check("{}", `line 2, column 1: the member "metric" is missing`)
	check(`{"metric"`, "line 2, column 10: a colon is missing")
	check(`{"metric":`, "line 2, column 11: the line ends within a value")
	check(`{"metric":{"a`, "line 2, column 14: the closing quote is missing")
	check(`{"metric":{}`, "line 2, column 13: a comma or a closing brace is missing")
	check(`{metric:{}}`, "line 2, column 2: the name of a member stands in quotes")
	check(`{"metric":{}} 1`, "line 2, column 15: there is something behind")
	check(`{"metric":[],"values":[1],"timestamps":[1]}`, "line 2, column 11: the labels are no object")
	check(`{"metric":{"a":1},"values":[1],"timestamps":[1]}`, "line 2, column 11: the labels are no object")
	check(`{"metric":{"a":"b"},"values":[1],"timestamps":[1]}`, "line 2: metric name is missing")
	check(`{"metric":{"__name__":"x"},"values":[1,2],"timestamps":[1]}`, "column 56: there are not as many timestamps")
	check(`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1,2]}`, "there are not as many timestamps")
	check(`{"metric":{"__name__":"x"},"values":[one],"timestamps":[1]}`, "column 38: a value is not a number")
	check(`{"metric":{"__name__":"x"},"values":["1"],"timestamps":[1]}`, "column 38: a value is not a number, null")
	check(`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1.5]}`, "column 55: a timestamp is not a number")
	check(`{"metric":{"__name__":"x"},"values":[,],"timestamps":[,]}`, "column 39: a value is missing")
	check(`{"metric":{"__name__":"x"},"values":1,"timestamps":[1]}`, "column 37: a list begins with an opening bracket")
	check(`{"metric":{"__name__":"x"},"nan":[[0,"1"]],"values":[null],"timestamps":[1]}`, "column 35: these are not the bits of a NaN")
	check(`{"metric":{"__name__":"x"},"nan":[[0,"7ff0000000000002"]],"values":[5],"timestamps":[1]}`, "column 69: the bits of a NaN are given for a value that is not null")
	check(`{"metric":{"__name__":"x","a":"1","a":"2"},"values":[1],"timestamps":[1]}`, `line 2: label name "a" is there twice`)
	check(`{"metric":{"__name__":"x","a":"1",},"values":[1],"timestamps":[1]}`, "column 11: the labels are no object")
	check(`{"metric":{"__name__":"x","a":{}},"values":[1],"timestamps":[1]}`, `column 11: the labels are no object of texts: the value of "a" is none`)
	check(`{"metric":null,"values":[1],"timestamps":[1]}`, "column 11: the labels are no object")
	check(`{"metric":{"__name__":"x"},"histograms":[{"count":1}],"histogram_timestamps":[1]}`, "column 42: invalid histogram")
	check(`{"metric":{"__name__":"x"},"histograms":[{"count":1}],"histogram_timestamps":[]}`, "there are not as many timestamps as histograms")
	check("{\"metric\":{\"__name__\":\"\xff\"},\"values\":[1],\"timestamps\":[1]}", "column 11: the labels are not UTF-8")
}
