// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// words is a format whose lines are names of series; each has one sample, at the number of its line. A name that begins
// with an exclamation mark cannot be read.
type words struct{}

func (words) Protocol() string { return "words" }

func (words) End(data []byte, last bool) int { return End(data, last) }

func (words) Line(f *Feed, line []byte) error {
	if line[0] == '!' {
		return Bad(0, "it exclaims")
	}
	if err := f.Begin(f.Hash(FirstProtocol, line), 0); err != nil {
		return err
	}
	f.Float(int64(f.LineNumber()), 1)
	return nil
}

func (words) Labels(f *Feed, line []byte, _ int) (labels.Labels, error) {
	f.ResetLabels()
	f.AddLabel([]byte("__name__"), line)
	return f.Built()
}

func newReceiver(t testing.TB, store sample.Appender, requests *budget.Account) (*Receiver, *prometheus.Registry) {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store, Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	r, err := New(Options{Intake: in, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return r, reg
}

// stored returns the rows as name@time.
func stored(store *ingesttest.Recorder) string {
	var b strings.Builder
	for _, r := range store.Rows() {
		fmt.Fprintf(&b, "%s@%d ", strings.TrimSuffix(strings.TrimPrefix(r.Series, `{__name__="`), `"}`), r.T)
	}
	return strings.TrimSpace(b.String())
}

func TestLinesAreTheSameHoweverTheyArrive(t *testing.T) {
	const text = "a\n\nb\r\n!c\nlonger\nd"
	for name, r := range map[string]io.Reader{
		"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)),
		"with the end": iotest.DataErrReader(strings.NewReader(text)), "in halves": iotest.HalfReader(strings.NewReader(text)),
	} {
		store := &ingesttest.Recorder{}
		receiver, reg := newReceiver(t, store, nil)
		report, err := receiver.Take(t.Context(), Body{Format: words{}, Reader: r})
		if got, want := stored(store), "a@1 b@3 longer@5 d@6"; err != nil || got != want {
			t.Errorf("%s: stored %s, want %s: %v", name, got, want, err)
		}
		if got, want := report.Message(), "4 samples were stored; 1 of 5 lines could not be read: line 4, column 1: it exclaims"; got != want {
			t.Errorf("%s: %s", name, got)
		}
		const metrics = `
			# HELP tidemark_push_lines_total Lines received by push protocols.
			# TYPE tidemark_push_lines_total counter
			tidemark_push_lines_total{protocol="words"} 5
			# HELP tidemark_push_malformed_lines_total Lines received by push protocols that could not be read.
			# TYPE tidemark_push_malformed_lines_total counter
			tidemark_push_malformed_lines_total{protocol="words"} 1
		`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(metrics), "tidemark_push_lines_total", "tidemark_push_malformed_lines_total"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABodyOfAnyLengthTakesTheMemoryOfAPiece(t *testing.T) {
	line := strings.Repeat("x", 30) + "\n"
	peak := func(lines int) int64 {
		account := budget.NewRoot("requests", 0)
		store := &ingesttest.Recorder{}
		receiver, _ := newReceiver(t, store, account)
		report, err := receiver.Take(t.Context(), Body{Format: words{}, Reader: strings.NewReader(strings.Repeat(line, lines))})
		if err != nil || report.Stored() != lines || account.Used() != 0 || store.Rows()[lines-1].T != int64(lines) {
			t.Errorf("%d of %d samples are stored, %d bytes still charged: %v", report.Stored(), lines, account.Used(), err)
		}
		return account.Peak()
	}
	if short, long := peak(3*pieceRows), peak(12*pieceRows); long > short {
		t.Errorf("%d bytes were charged at the peak for three pieces, %d for twelve", short, long)
	}
}

func TestLinesThatAreTooLongArePassedOver(t *testing.T) {
	check := func(long int, follows string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		receiver, _ := newReceiver(t, store, nil)
		report, err := receiver.Take(t.Context(), Body{Format: words{}, MaxLine: 100, Reader: strings.NewReader("a\n" + strings.Repeat("x", long) + follows)})
		want := "a@1"
		if follows != "" {
			want = "a@1 b@3"
		}
		if got := stored(store); err != nil || got != want || report.Bad != 1 || !strings.Contains(report.Message(), "line 2, column 101: the line is longer than 100 bytes") {
			t.Errorf("%d bytes: stored %s: %s, %v", long, got, report.Message(), err)
		}
	}
	for _, long := range []int{101, 1000, pieceBytes - 3, pieceBytes, 3*pieceBytes + 7} {
		check(long, "\nb\n")
		check(long, "")
	}
}

func TestABodyThatBreaksOffIsStoredUpToThere(t *testing.T) {
	store := &ingesttest.Recorder{}
	receiver, _ := newReceiver(t, store, nil)
	report, err := receiver.Take(t.Context(), Body{Format: words{}, Reader: io.MultiReader(strings.NewReader("a\nb\nhal"), iotest.ErrReader(io.ErrUnexpectedEOF))})
	if _, ok := errors.AsType[*BodyError](err); !ok || !strings.Contains(err.Error(), "in line 3") || report.Stored() != 2 || stored(store) != "a@1 b@2" {
		t.Errorf("%v, %+v, stored %s", err, report, stored(store))
	}
	if code := Status(http.Header{}, err); code != http.StatusBadRequest {
		t.Errorf("status %d", code)
	}
}

func TestWhatWasStoredBeforeAnErrorIsTold(t *testing.T) {
	store := &ingesttest.Recorder{}
	receiver, _ := newReceiver(t, store, nil)
	full := func(b []byte) (int, error) {
		store.CommitErr = &sample.UnavailableError{Condition: "read_only", RetryAfter: 7 * time.Second}
		return copy(b, "b\n"), io.EOF
	}
	report, err := receiver.Take(t.Context(), Body{Format: words{}, Linger: time.Nanosecond, Reader: io.MultiReader(strings.NewReader("a\n"), readFunc(full))})
	h := http.Header{}
	if code := Status(h, err); code != http.StatusServiceUnavailable || h.Get("Retry-After") != "7" || !strings.Contains(Explain(report, err), "before that 1 samples were stored") {
		t.Errorf("%d %v %s", code, h, Explain(report, err))
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

func TestWithoutMemoryNothingIsTaken(t *testing.T) {
	const others = 1<<20 - 1000
	account := budget.NewRoot("requests", 1<<20)
	if err := account.Reserve(others); err != nil {
		t.Fatal(err)
	}
	receiver, _ := newReceiver(t, &ingesttest.Recorder{}, account)
	_, err := receiver.Take(t.Context(), Body{Format: words{}, Reader: strings.NewReader("a\n")})
	if code := Status(http.Header{}, err); code != http.StatusServiceUnavailable || account.Used() != others {
		t.Errorf("%d: %v, %d bytes charged", code, err, account.Used())
	}
}

// serve is a server that takes words, and answers as the import routes do.
func serve(t *testing.T, store sample.Appender) *httptest.Server {
	t.Helper()
	receiver, _ := newReceiver(t, store, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report, err := receiver.TakeRequest(w, r, Body{Format: words{}, Idle: 300 * time.Millisecond})
		Answer(w, report, err)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func post(t *testing.T, url, encoding string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func gzipped(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text) // to memory
	_ = w.Close()
	return b.Bytes()
}

func TestBodiesAreUnpacked(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(encoding string, body []byte, code int, want string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		got, text := post(t, serve(t, store).URL, encoding, bytes.NewReader(body))
		if got != code || !strings.Contains(text, want) || code == http.StatusNoContent && stored(store) != "a@1 b@2" {
			t.Errorf("%q: %d %s, stored %s", encoding, got, text, stored(store))
		}
	}
	plain := []byte("a\nb\n")
	check("", plain, 204, "")
	check("gzip", gzipped(plain), 204, "")
	check("zstd", z.EncodeAll(plain, nil), 204, "")
	check("gzip", plain, 400, "no gzip stream")
	check("zstd", plain, 400, "unpack")
	check("gzip", gzipped(plain)[:20], 400, "the body ended early")
	check("br", plain, 415, "send the body as it is, or by gzip or zstd")
	check("gzip", gzipped(make([]byte, bombFloor+(1<<20))), 400, "a body of samples does not")
	check("zstd", z.EncodeAll(make([]byte, bombFloor+(1<<20)), nil), 400, "a body of samples does not")
}

func TestASlowSenderIsCutOffAndItsLinesAreStored(t *testing.T) {
	store := &ingesttest.Recorder{}
	srv := serve(t, store)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\na\nb\nc"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(answer), "408 Request Timeout") || stored(store) != "a@1 b@2" {
		t.Errorf("%s, %v, stored %s", answer, err, stored(store))
	}
}

func TestExtraLabelsAreGivenToAllSeries(t *testing.T) {
	store := &ingesttest.Recorder{}
	srv := serve(t, store)
	if code, text := post(t, srv.URL+"?extra_label=dc=x%3Dy&extra_label=__name__=n", "", strings.NewReader("a\nb\n")); code != 204 {
		t.Errorf("%d %s", code, text)
	}
	for _, r := range store.Rows() {
		if r.Series != `{__name__="n", dc="x=y"}` {
			t.Errorf("stored %s", r.Series)
		}
	}
	for _, bad := range []string{"extra_label=x", "extra_label==x", "extra_label=a=b&extra_label=a=c", "extra_label=a=%FF"} {
		if code, text := post(t, srv.URL+"?"+bad, "", strings.NewReader("a\n")); code != 400 || !strings.Contains(text, "extra_label") {
			t.Errorf("%s: %d %s", bad, code, text)
		}
	}
}

func TestMistakesAreAmongWhatWasRejected(t *testing.T) {
	receiver, _ := newReceiver(t, &ingesttest.Recorder{}, nil)
	report, err := receiver.Take(t.Context(), Body{Format: words{}, Sender: "10.0.0.1:5", Reader: strings.NewReader("a\n!\n!\nb\n")})
	if err != nil || report.Outcome.Rejected() != 0 || report.Bad != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	list := receiver.intake.Rejected().List()
	if len(list) != 1 || list[0].Samples != 2 || len(list[0].Examples) != 1 {
		t.Fatalf("%+v", list)
	}
	if e := list[0].Examples[0]; e.Detail != "line 2, column 1: it exclaims" || e.Protocol != "words" || e.Sender != "10.0.0.1:5" {
		t.Errorf("example %+v", e)
	}
}

func TestManyMistakesAreCountedAndTheFirstListed(t *testing.T) {
	receiver, _ := newReceiver(t, &ingesttest.Recorder{}, nil)
	report, err := receiver.Take(t.Context(), Body{Format: words{}, Reader: strings.NewReader(strings.Repeat("!\n", 1000))})
	if m := report.Message(); err != nil || !strings.Contains(m, "1000 of 1000 lines") || !strings.Contains(m, "line 100, column 1: it exclaims; and 900 more") {
		t.Errorf("%s, %v", m, err)
	}
}

func TestAMessageStaysShortWhateverASenderWrites(t *testing.T) {
	r := Report{Bad: 3 * listedErrors}
	for i := range listedErrors {
		r.Errors = append(r.Errors, &SyntaxError{Line: i, Reason: strings.Repeat("y", 10*maxReason)})
	}
	if m := r.Message(); len(m) > maxMessage+3 {
		t.Errorf("the message has %d bytes", len(m))
	}
	for n := range 2 * maxQuoted {
		if q := Quoted(strings.Repeat("\u65e5", n)); len(q) > 4*maxQuoted || strings.Contains(q, `\x`) {
			t.Errorf("%d characters are quoted as %s", n, q)
		}
	}
	if got := Quoted([]byte("a\n")); got != `"a\n"` {
		t.Error(got)
	}
}

func TestWhatIsTooLargeForAllMemoryIsNotToBeSentAgain(t *testing.T) {
	r, _ := newReceiver(t, &ingesttest.Recorder{}, budget.NewRoot("requests", 16<<20))
	body := func() Body {
		return Body{Format: words{}, Reader: strings.NewReader(strings.Repeat("x", 20<<20)), MaxLine: 64 << 20}
	}
	_, err := r.Take(t.Context(), body())
	h := http.Header{}
	if code := Status(h, err); code != http.StatusRequestEntityTooLarge || len(h) > 0 {
		t.Errorf("%v: answer %d %v", err, code, h)
	}
}

func TestRefusedRowsOfAllPiecesAreAddedUp(t *testing.T) {
	store := &ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		if r.T%2 == 0 {
			return sample.TooOld
		}
		return sample.Accepted
	}}
	receiver, _ := newReceiver(t, store, nil)
	report, err := receiver.Take(t.Context(), Body{Format: words{}, Reader: strings.NewReader(strings.Repeat(strings.Repeat("x", 99)+"\n", 30_000))})
	if m := report.Message(); err != nil || report.Stored() != 15_000 || !strings.Contains(m, "15000 of 30000 samples were not stored: 15000 too old sample") {
		t.Errorf("%s, %v", m, err)
	}
}

func TestABodyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	receiver, _ := newReceiver(t, &ingesttest.Recorder{}, nil)
	if _, err := receiver.Take(ctx, Body{Format: words{}, Reader: strings.NewReader("a\n")}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestNumbersAreReadAsStrconvReadsThem(t *testing.T) {
	check := func(text string, words bool, want string) {
		t.Helper()
		v, err := Decimal([]byte(text), words)
		if got := fmt.Sprint(v, err); got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
	check("0", false, "0 <nil>")
	check("-0", false, "-0 <nil>")
	check("123456789012345", false, "1.23456789012345e+14 <nil>")
	check("1234567890123456789", false, "1.2345678901234568e+18 <nil>")
	check("1e400", false, "0 out of range")
	check("0x10", true, "0 not a number")
	check("1_0", true, "0 not a number")
	check("", true, "0 not a number")
	check("-", true, "0 not a number")
	check("NaN", true, "NaN <nil>")
	check("NaN", false, "0 not a number")
	check("-Inf", true, "-Inf <nil>")
	for text, want := range map[string]string{
		"9223372036854775807": "9223372036854775807 <nil>", "-9223372036854775808": "-9223372036854775808 <nil>",
		"9223372036854775808": "0 out of range", "-9223372036854775809": "0 out of range", "99999999999999999999": "0 out of range",
		"": "0 not a number", "-": "0 not a number", "1.5": "0 not a number", "+1": "0 not a number",
	} {
		v, err := Integer([]byte(text))
		if got := fmt.Sprint(v, err); got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
}
