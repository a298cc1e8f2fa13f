// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/exposition"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func newHandler(t testing.TB, store sample.Appender) *exposition.Handler {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store})
	if err != nil {
		t.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		t.Fatal(err)
	}
	return exposition.New(r)
}

// importText sends a body to the import route.
func importText(t *testing.T, store sample.Appender, contentType, args, body string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodPost, "/api/v1/import/prometheus?"+args, strings.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	newHandler(t, store).Import(rec, req)
	return rec
}

// stored returns what a store holds, a line for each sample.
func stored(store *ingesttest.Recorder) []string {
	out := []string{}
	for _, r := range store.Rows() {
		if r.H != nil {
			out = append(out, fmt.Sprintf("%s %s@%d", r.Series, r.H, r.T))
			continue
		}
		out = append(out, fmt.Sprintf("%s %v@%d", r.Series, r.V, r.T))
	}
	return out
}

func TestTextIsStored(t *testing.T) {
	check := func(body string, want ...string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		if rec := importText(t, store, "", "", body); rec.Code != http.StatusNoContent {
			t.Errorf("%q is answered %d %s", body, rec.Code, rec.Body)
		}
		if diff := cmp.Diff(append([]string{}, want...), stored(store)); diff != "" {
			t.Errorf("%q: %s", body, diff)
		}
	}
	check("up 1 5", `{__name__="up"} 1@5`)
	check("up{} 1 5\nup{job=\"a\"}2 6\n", `{__name__="up"} 1@5`, `{__name__="up", job="a"} 2@6`)
	check("  up { job = \"a\" , b=\"c\", } \t -1.5e3 \t 7 \r\n", `{__name__="up", b="c", job="a"} -1500@7`)
	check(`{"my.metric","my label"="x"} NaN 5`, `{__name__="my.metric", "my label"="x"} NaN@5`)
	check(`x{path="C:\\d\n\"q\""} +Inf 5`, `{__name__="x", path="C:\\d\n\"q\""} +Inf@5`)
	check("x{a=\"}\"} 1 -5", `{__name__="x", a="}"} 1@-5`)
	check("# a comment\n#\n\n# HELP x Text \\n of \\\\ it\n# TYPE x counter\nx 1 5", `{__name__="x"} 1@5`)
	check("# TYPE h histogram\nh_bucket{le=\"1\"} 1 5\nh_bucket{le=\"+Inf\"} 2 5\n# TYPE q summary\nq{quantile=\"0.50\"} 3 5\nz{le=\"1\"} 4 5",
		`{__name__="h_bucket", le="1.0"} 1@5`, `{__name__="h_bucket", le="+Inf"} 2@5`, `{__name__="q", quantile="0.5"} 3@5`, `{__name__="z", le="1"} 4@5`)
}

func TestMalformedTextIsNamedAndTheRestStored(t *testing.T) {
	check := func(line, want string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := importText(t, store, "text/plain; version=0.0.4", "", "a 1 1\n"+line+"\nb 2 2\n")
		if got := rec.Body.String(); rec.Code != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), want) || !strings.Contains(got, "1 of 3 lines") {
			t.Errorf("%q is answered %d %s, want %s", line, rec.Code, got, want)
		}
		if diff := cmp.Diff([]string{`{__name__="a"} 1@1`, `{__name__="b"} 2@2`}, stored(store)); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	check("x", "line 2, column 2: the value is missing")
	check("x abc", "line 2, column 3: the value is not a number")
	check("x 1_0", "line 2, column 3: the value is not a number")
	check("x 1 2.5", "line 2, column 5: the time is no number")
	check("x 1 2 3", "line 2, column 7: there is something behind the time")
	check(`x{a="b" 1`, "line 2, column 10: the closing brace is missing")
	check(`x{a="b} 1`, "line 2, column 10: the closing quote is missing")
	check(`x{a} 1`, "line 2, column 4: an equals sign is missing")
	check(`x{a=b} 1`, "line 2, column 5: the value of a label stands in quotes")
	check(`x{="b"} 1`, "line 2, column 3: the name of a label is missing")
	check(`x{a="b";c="d"} 1`, "line 2, column 8: a comma or a closing brace is missing")
	check(`x{a="b",a="c"} 1`, `line 2: label name "a" is there twice`)
	check(`x{"y"} 1`, "line 2, column 3: the name of the metric is there twice")
	check(`{a="b"} 1`, "line 2, column 1: the name of the metric is missing")
	check("x-y 1", `line 2, column 1: "x-y" is no name of a metric`)
	check("x{a=\"\xff\"} 1", "line 2, column 6: the text is not UTF-8")
	check("# TYPE x thing", `line 2, column 10: "thing" is no type`)
	check("# HELP", "line 2, column 7: the name of the metric is missing")
}

func TestLongMistakesAreNotRepeatedToTheirSender(t *testing.T) {
	check := func(contentType, line string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := importText(t, store, contentType, "", strings.Repeat(line+"\n", 20)+"a 1 1\n# EOF\n")
		if rec.Code != http.StatusBadRequest || rec.Body.Len() > 20_000 || len(store.Rows()) != 1 {
			t.Errorf("%.20q is answered %d with %d bytes, %d rows", line, rec.Code, rec.Body.Len(), len(store.Rows()))
		}
	}
	long := strings.Repeat("\x01", 100<<10)
	check("", "# TYPE x"+long)
	check("", "# TYPE x "+long)
	check("", "x"+long+" 1")
	check("", `x{a="b",a="`+long+`"} 1 1`)
	check("application/openmetrics-text", "x"+long+" 1")
}

func TestMetadataOfTextIsKept(t *testing.T) {
	store := &ingesttest.Recorder{}
	importText(t, store, "", "", "# HELP x About x.\n# TYPE x histogram\nx_bucket{le=\"+Inf\"} 1 1\nx_sum 1 1\nxy 2 1\n")
	want := sample.Metadata{Type: "histogram", Help: "About x."}
	for _, name := range []string{`{__name__="x_bucket", le="+Inf"}`, `{__name__="x_sum"}`} {
		if got := store.Metadata(name); got != want {
			t.Errorf("%s is described as %+v", name, got)
		}
	}
	if got := store.Metadata(`{__name__="xy"}`); got != (sample.Metadata{}) {
		t.Errorf("xy is described as %+v", got)
	}
}

const openMetrics = `# TYPE a counter
# HELP a About a.
a_total{x="1"} 7 0.005 # {trace="t"} 0.5
broken{ 3
# TYPE b gauge
b 8 0.006
# EOF
`

func TestOpenMetricsIsStored(t *testing.T) {
	store := &ingesttest.Recorder{}
	rec := importText(t, store, "application/openmetrics-text; version=1.0.0", "", openMetrics)
	if rec.Code != 400 || !strings.Contains(rec.Body.String(), "1 of 7 lines could not be read: line 4: ") {
		t.Errorf("answer %d %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff([]string{`{__name__="a_total", x="1"} 7@5`, `{__name__="b"} 8@6`}, stored(store)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{`{__name__="a_total", x="1"} # {trace="t"}`}, store.Exemplars()); diff != "" {
		t.Error(diff)
	}
	if got := store.Metadata(`{__name__="a_total", x="1"}`); got.Type != "counter" || got.Help != "About a." {
		t.Errorf("a is described as %+v", got)
	}
}

func TestASeriesThatCannotBeStoredTakesNoOtherWithIt(t *testing.T) {
	check := func(contentType, body, want string, rows ...string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := importText(t, store, contentType, "", body)
		if got := strings.ReplaceAll(rec.Body.String(), `\"`, `"`); rec.Code != 400 || !strings.Contains(got, want) {
			t.Errorf("answer %d %s, want %s", rec.Code, got, want)
		}
		if diff := cmp.Diff(rows, stored(store)); diff != "" {
			t.Error(diff)
		}
	}
	check("application/openmetrics-text; version=1.0.0", "# TYPE a gauge\na 1 0.005\nb{x=\"1\",x=\"2\"} 1 0.005\nc 1 0.005\nd{x=\"1\",x=\"2\"} 1 0.005\ne 1 0\n# EOF\n",
		`2 of 7 lines could not be read: line 3: label name "x" is there twice: {__name__="b", x="1", x="2"}; line 5: label name "x" is there twice: {__name__="d"`,
		`{__name__="a"} 1@5`, `{__name__="c"} 1@5`, `{__name__="e"} 1@0`)

	pair := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	number := func(v float64, labels ...*dto.LabelPair) *dto.Metric {
		t := int64(5)
		return &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: &v}, TimestampMs: &t}
	}
	name, gauge := "m", dto.MetricType_GAUGE
	var body bytes.Buffer
	_, err := protodelim.MarshalTo(&body, &dto.MetricFamily{Name: &name, Type: &gauge, Metric: []*dto.Metric{
		number(1), number(2, pair("x", "1"), pair("x", "2")), number(3, pair("x", "3")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	check("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", body.String(),
		`series 2 of the body: label name "x" is there twice`, `{__name__="m"} 1@5`, `{__name__="m", x="3"} 3@5`)
}

// TestLabelsThatAreReadOnceMoreArePaidFor has a store that lost its series once, so that a body's labels are needed again.
func TestLabelsThatAreReadOnceMoreArePaidFor(t *testing.T) {
	store := &ingesttest.Recorder{}
	account := budget.NewRoot("requests", 64<<20)
	in, err := ingest.New(ingest.Options{Appender: store, Requests: account})
	if err != nil {
		t.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		t.Fatal(err)
	}
	h := exposition.New(r)
	var body strings.Builder
	long := strings.Repeat("x", 1000)
	for i := range 500 {
		fmt.Fprintf(&body, "m{l=\"%s\",n=\"%d\"} 1 0.005\n", long, i)
	}
	body.WriteString("# EOF\n")
	send := func(want int) {
		t.Helper()
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body.String()))
		req.Header.Set("Content-Type", "application/openmetrics-text; version=1.0.0")
		h.Import(rec, req)
		if rec.Code != want {
			t.Errorf("answer %d %s, want %d", rec.Code, rec.Body, want)
		}
	}
	send(http.StatusNoContent)
	unknown := account.Peak() // the labels are there twice then: here, and in the request
	store.Forget()
	send(http.StatusNoContent)
	if again := account.Peak(); again <= unknown || unknown < 2*500*1000 {
		t.Errorf("%d bytes were reserved for new series, %d for lost ones", unknown, again)
	}
	if n := account.Used(); n != 0 {
		t.Errorf("%d bytes stay reserved", n)
	}
}

func TestSeriesThatLeftTheStoreAreFoundAgain(t *testing.T) {
	for _, body := range []struct{ contentType, text string }{
		{"", "a{x=\"1\"} %d 5\nb %d 5\n"},
		{"application/openmetrics-text; version=1.0.0", "# TYPE a gauge\na{x=\"1\"} %d 0.005\nb %d 0.005\n# EOF\n"},
	} {
		store := &ingesttest.Recorder{}
		h := newHandler(t, store)
		for i := range 2 {
			rec := httptest.NewRecorder()
			req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(fmt.Sprintf(body.text, i, i)))
			req.Header.Set("Content-Type", body.contentType)
			h.Import(rec, req)
			if rec.Code != http.StatusNoContent {
				t.Errorf("%s: %d %s", body.contentType, rec.Code, rec.Body)
			}
			if i == 0 {
				store.Forget()
			}
		}
		want := []string{`{__name__="a", x="1"} 0@5`, `{__name__="b"} 0@5`, `{__name__="a", x="1"} 1@5`, `{__name__="b"} 1@5`}
		if diff := cmp.Diff(want, stored(store)); diff != "" {
			t.Errorf("%s: %s", body.contentType, diff)
		}
	}
}

func TestGroupsOfThePath(t *testing.T) {
	check := func(method, path string, code int, want string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		rec := httptest.NewRecorder()
		newHandler(t, store).Gateway("/pushgateway").ServeHTTP(rec, httptest.NewRequest(method, "/pushgateway"+path, strings.NewReader("x{job=\"own\"} 1 5\n")))
		got := ""
		if rows := stored(store); len(rows) > 0 {
			got = rows[0]
			if name := strings.Replace(strings.Split(rows[0], " 1@")[0], `"x"`, `"push_time_seconds"`, 1); len(rows) != 2 || !strings.HasPrefix(rows[1], name) {
				t.Errorf("%s %s: no time of the push in %q", method, path, rows)
			}
		}
		if rec.Code != code || got != want {
			t.Errorf("%s %s: %d, stored %s, want %s: %s", method, path, rec.Code, got, want, rec.Body)
		}
	}
	check("PUT", "/metrics/job/a", 200, `{__name__="x", job="a"} 1@5`)
	check("POST", "/metrics/job/a/instance/b%2Fc", 200, `{__name__="x", instance="b/c", job="a"} 1@5`)
	check("POST", "/metrics/job@base64/YS9i/path@base64/L3Zhcg==", 200, `{__name__="x", job="a/b", path="/var"} 1@5`)
	check("POST", "/metrics/job/a/empty@base64/=", 200, `{__name__="x", job="a"} 1@5`)
	check("POST", "/metrics/job/a/empty/", 200, `{__name__="x", job="a"} 1@5`)
	check("DELETE", "/metrics/job/a", 202, "")
	check("GET", "/metrics/job/a", 405, "")
	check("POST", "/metrics", 404, "")
	check("POST", "/metrics/job/", 400, "")
	check("POST", "/metrics/job/a/b", 400, "")
	check("POST", "/metrics/job/a/__x/b", 400, "")
	check("POST", "/metrics/job/a/job/b", 400, "")
	check("POST", "/metrics/job/a/b@base64/%21", 400, "")
}
