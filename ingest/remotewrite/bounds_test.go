// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/remotewrite"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// slowStore is durable when it is told to.
type slowStore struct {
	ingesttest.Recorder

	durable chan struct{}
}

func (s *slowStore) Durable(ctx context.Context, lsn sample.LSN) error {
	select {
	case <-s.durable:
		return s.Recorder.Durable(ctx, lsn)
	case <-ctx.Done():
		return fmt.Errorf("wait for the log: %w", context.Cause(ctx))
	}
}

// listen serves the handler of a store on a loopback address.
func listen(t *testing.T, store sample.Appender, requests *budget.Account, o remotewrite.Options) string {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store, Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	o.Intake = in
	h, err := remotewrite.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// oneSample is a body with a sample of the series up.
func oneSample(t *testing.T) []byte {
	t.Helper()
	body, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Timestamp: 1}}}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

// post sends a body and returns the status, Retry-After and the text of the answer.
func post(t *testing.T, url string, body io.Reader, contentType string, headers ...string) (code int, retry, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(b)
}

func wantAnswer(t *testing.T, code int, text string, wantCode int, want string) {
	t.Helper()
	if code != wantCode || !strings.Contains(text, want) {
		t.Errorf("%d: %s\nwant %d and %q", code, text, wantCode, want)
	}
}

// slowly opens a connection that says it will send so many bytes, and sends few.
func slowly(t *testing.T, url string, length int, first string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", length, first); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSlowSendersAreGivenUp(t *testing.T) {
	account := budget.NewRoot("requests", 8<<20)
	url := listen(t, &ingesttest.Recorder{}, account, remotewrite.Options{BodyTimeout: 300 * time.Millisecond})
	c := slowly(t, url, 1<<20, "x")
	go func() {
		for { // a byte now and then is no excuse
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c) // until the server closes the connection
	if text := string(answer); !strings.HasPrefix(text, "HTTP/1.1 503") || !strings.Contains(text, "Retry-After: 5") || !strings.Contains(text, "did not come in time") {
		t.Errorf("the answer is %q, %v", text, err)
	}
	eventuallyFree(t, account)
}

// eventuallyFree waits until requests have given back what they took.
func eventuallyFree(t *testing.T, account *budget.Account) {
	t.Helper()
	for began := time.Now(); account.Used() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d bytes are still charged", account.Used())
		}
	}
}

func TestLengthsThatAreOnlyClaimedTakeNoMemory(t *testing.T) {
	account := budget.NewRoot("requests", 64<<20)
	url := listen(t, &ingesttest.Recorder{}, account, remotewrite.Options{})
	const connections = 100
	for range connections {
		slowly(t, url, 32<<20, strings.Repeat("x", 1000))
	}
	for began := time.Now(); account.Used() < connections*1000; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d bytes are charged: the requests do not arrive", account.Used())
		}
	}
	code, _, text := post(t, url, bytes.NewReader(oneSample(t)), typeV1)
	wantAnswer(t, code, text, 204, "")
}

func TestEndlessBodiesEndAtTheLimit(t *testing.T) {
	url := listen(t, &ingesttest.Recorder{}, nil, remotewrite.Options{MaxBodyBytes: 1 << 20})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		chunk := append([]byte("10000\r\n"), make([]byte, 1<<16+2)...)
		copy(chunk[len(chunk)-2:], "\r\n")
		for range 1000 { // the server closes the connection long before
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
		t.Error("the server read 64 MB of a body that may have 1")
	})
	answer := make([]byte, 100)
	n, err := io.ReadAtLeast(c, answer, 20)
	if !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 413") {
		t.Errorf("the answer is %q, %v", answer[:n], err)
	}
	wg.Wait()
}

// Few bytes on the wire may ask for much memory in many ways. Each ends at the budget of requests, for good where no
// budget of that size is enough, and nothing of it stays charged.
func TestBodiesThatUnpackToMuchAreRefused(t *testing.T) {
	account := budget.NewRoot("requests", 4<<20)
	url := listen(t, &ingesttest.Recorder{}, account, remotewrite.Options{})
	refused := func(body []byte, contentType string, code int, want string) {
		t.Helper()
		got, _, text := post(t, url, bytes.NewReader(body), contentType)
		wantAnswer(t, got, text, code, want)
		eventuallyFree(t, account)
	}
	const much = "all requests together may take 4194304"
	refused(binary.AppendUvarint(nil, 30<<20), typeV1, 400, "cannot unpack to") // five bytes that claim 30 MB
	refused(snappy.Encode(nil, make([]byte, 8<<20)), typeV1, 413, much)
	refused(snappy.Encode(nil, bytes.Repeat([]byte("\x22\x00"), 500_000)), typeV2, 413, much) // symbols, 40 bytes for 2

	refused(snappy.Encode(nil, bytes.Repeat([]byte("\x0a\x00"), 1_000_000)), typeV1, 400, "more than 50000 series have invalid labels") // each takes a microsecond

	up := "\x0a\x0e\x0a\x08__name__\x12\x02up"
	series := fmt.Sprintf("\x0a%c%s", len(up), up)
	refused(snappy.Encode(nil, bytes.Repeat([]byte(series), 100_000)), typeV1, 413, much) // series without samples
	samples := up + strings.Repeat("\x12\x02\x10\x01", 300_000)
	refused(snappy.Encode(nil, append(binary.AppendUvarint([]byte{0x0a}, uint64(len(samples))), samples...)), typeV1, 413, much)
	histograms := up + strings.Repeat("\x22\x00", 10_000)
	refused(snappy.Encode(nil, append(binary.AppendUvarint([]byte{0x0a}, uint64(len(histograms))), histograms...)), typeV1, 413, much)

	long := strings.Repeat("x", 1<<18)
	many := func(ts writev2.TimeSeries, meta [2]string, more ...string) []byte {
		var all []func(*writev2.SymbolsTable) writev2.TimeSeries
		for i := range 50 {
			all = append(all, seriesV2(ts, meta, append([]string{"__name__", "up", "i", fmt.Sprint(i)}, more...)...))
		}
		body, err := requestV2(all...).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return snappy.Encode(nil, body)
	}
	one := []writev2.Sample{{Timestamp: 1}}
	refused(many(writev2.TimeSeries{Samples: one}, [2]string{}, "long", long), typeV2, 413, much)
	refused(many(writev2.TimeSeries{Samples: one}, [2]string{long}), typeV2, 413, much)
	refused(many(writev2.TimeSeries{Samples: one, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{1, 6}}}}, [2]string{}, "z", long), typeV2, 413, much)
	code, _, text := post(t, url, bytes.NewReader(oneSample(t)), typeV1)
	wantAnswer(t, code, text, 204, "")
}

func TestRequestsWaitForTheMemoryOfOthers(t *testing.T) {
	account := budget.NewRoot("requests", 4<<20)
	url := listen(t, &ingesttest.Recorder{}, account, remotewrite.Options{})
	if err := account.Reserve(4<<20 - 1000); err != nil { // other requests
		t.Fatal(err)
	}
	code, retry, text := post(t, url, bytes.NewReader(oneSample(t)), typeV1)
	if wantAnswer(t, code, text, 503, "memory budget of requests exceeded"); retry != "5" {
		t.Errorf("Retry-After is %q", retry)
	}
	account.Release(4<<20 - 1000)
	code, _, text = post(t, url, bytes.NewReader(oneSample(t)), typeV1)
	wantAnswer(t, code, text, 204, "")
}

func TestAStoreThatLagsIsTriedAgainLater(t *testing.T) {
	store := &slowStore{durable: make(chan struct{})}
	url := listen(t, store, nil, remotewrite.Options{CommitTimeout: 200 * time.Millisecond})
	began := time.Now()
	code, retry, text := post(t, url, bytes.NewReader(oneSample(t)), typeV1)
	if wantAnswer(t, code, text, 503, "the store lags behind"); retry != "5" {
		t.Errorf("Retry-After is %q", retry)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %s", took)
	}
	close(store.durable)
	code, _, text = post(t, url, bytes.NewReader(oneSample(t)), typeV1)
	wantAnswer(t, code, text, 204, "")
}

// The deadline is that of the body: who has sent it may wait longer for the answer, and use the connection again.
func TestWaitingForTheStoreIsNoSlowness(t *testing.T) {
	store := &slowStore{durable: make(chan struct{})}
	url := listen(t, store, nil, remotewrite.Options{BodyTimeout: 500 * time.Millisecond})
	time.AfterFunc(1200*time.Millisecond, func() { close(store.durable) })
	for range 2 {
		code, _, text := post(t, url, bytes.NewReader(oneSample(t)), typeV1)
		wantAnswer(t, code, text, 204, "")
		time.Sleep(600 * time.Millisecond)
	}
}

// What a body unpacks to is charged, whatever its first frame says of itself.
func TestFramesBehindTheFirstAreChargedToo(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true)) // which says its size
	if err != nil {
		t.Fatal(err)
	}
	frames := func(parts ...[]byte) []byte {
		var body []byte
		for _, part := range parts {
			body = append(body, enc.EncodeAll(part, nil)...)
		}
		return body
	}
	plain, err := snappy.Decode(nil, oneSample(t))
	if err != nil {
		t.Fatal(err)
	}
	account := budget.NewRoot("requests", 4<<20)
	url := listen(t, &ingesttest.Recorder{}, account, remotewrite.Options{MaxBodyBytes: 3 << 20})
	send := func(body []byte, code int, part string) {
		t.Helper()
		got, _, text := post(t, url, bytes.NewReader(body), typeV1, "Content-Encoding", "zstd")
		wantAnswer(t, got, text, code, part)
	}
	send(frames(plain[:5], plain[5:]), 204, "")
	send(frames(plain, make([]byte, 4<<20)), 400, "at most 3145728 bytes")
	if err := account.Reserve(3 << 20); err != nil { // other requests
		t.Fatal(err)
	}
	send(frames(plain), 204, "")
	send(frames(plain, make([]byte, 2<<20)), 503, "memory budget of requests exceeded")
}

func TestSendersThatLeaveAreForgotten(t *testing.T) {
	store := &slowStore{durable: make(chan struct{})}
	account := budget.NewRoot("requests", 4<<20)
	url := listen(t, store, account, remotewrite.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(oneSample(t)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("answered %v, %v", resp, err)
	}
	eventuallyFree(t, account)
}
