// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package graphite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/graphite"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// listen starts a listener, which the returned function stops; it returns what was logged.
func listen(t *testing.T, store sample.Appender, o graphite.Options) (addr string, stop func() string) {
	t.Helper()
	in, err := ingest.New(ingest.Options{Appender: store})
	if err != nil {
		t.Fatal(err)
	}
	if o.Receiver, err = push.New(push.Options{Intake: in}); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	o.Address, o.Logger, o.Linger = "127.0.0.1:0", slog.New(slog.NewTextHandler(&log, nil)), 20*time.Millisecond
	l, err := graphite.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return l.Address().String(), func() string {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the listener ended with %v", err)
		}
		goleak.VerifyNone(t)
		return log.String()
	}
}

func stored(store *ingesttest.Recorder) []string {
	out := []string{}
	for _, r := range store.Rows() {
		out = append(out, fmt.Sprintf("%s %v@%d", r.Series, r.V, r.T))
	}
	return out
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func write(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// await waits until the store has n rows.
func await(t *testing.T, store *ingesttest.Recorder, n int) {
	t.Helper()
	for range 500 {
		if len(store.Rows()) >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the store has %d rows, want %d", len(store.Rows()), n)
}

func TestLinesOfConnectionsAndDatagramsAreStored(t *testing.T) {
	store := &ingesttest.Recorder{}
	addr, stop := listen(t, store, graphite.Options{})
	c := dial(t, "tcp", addr)
	write(t, c, "servers.a.load 1.5 1700000000\nlo")
	write(t, c, "ad;host=a;dc=b\t2 1700000000.25\r\n\n")
	await(t, store, 2) // nothing follows, and the connection stays open
	u := dial(t, "udp", addr)
	write(t, u, "udp.one 3 1700000000")
	write(t, u, "udp.two 4 1700000001\nudp.three 5 1700000002\n")
	await(t, store, 5)
	write(t, c, "tail 6 1700000003")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	await(t, store, 6)
	if log := stop(); log != "" {
		t.Errorf("logged %s", log)
	}
	want := []string{
		`{__name__="servers.a.load"} 1.5@1700000000000`, `{__name__="load", dc="b", host="a"} 2@1700000000250`,
		`{__name__="udp.one"} 3@1700000000000`, `{__name__="udp.two"} 4@1700000001000`, `{__name__="udp.three"} 5@1700000002000`,
		`{__name__="tail"} 6@1700000003000`,
	}
	got := stored(store)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinesWithoutATimeGetThatOfTheirReceipt(t *testing.T) {
	store := &ingesttest.Recorder{}
	addr, stop := listen(t, store, graphite.Options{})
	before := time.Now().UnixMilli()
	write(t, dial(t, "tcp", addr), "a 1\nb 1 -1\nc 1 N\n")
	await(t, store, 3)
	after := time.Now().UnixMilli()
	stop()
	for _, r := range store.Rows() {
		if r.T < before || r.T > after {
			t.Errorf("%s is at %d, received between %d and %d", r.Series, r.T, before, after)
		}
	}
}

func TestALineThatWasCutOffIsNotStored(t *testing.T) {
	check := func(text string, want ...string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		addr, stop := listen(t, store, graphite.Options{Linger: time.Hour})
		c := dial(t, "tcp", addr)
		write(t, c, text)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // everything is stored by then
			t.Error(err)
		}
		log := stop()
		if diff := cmp.Diff(want, stored(store)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
		if complete := len(want) == 2; complete == strings.Contains(log, "the connection ended here") {
			t.Errorf("%q: logged %q", text, log)
		}
	}
	check("a 1 1\ncpu 12", `{__name__="a"} 1@1000`) // of cpu 123456 1700000000
	check("a 1 1\ncpu 12 ", `{__name__="a"} 1@1000`)
	check("a 1 1\ncpu 12 2", `{__name__="a"} 1@1000`, `{__name__="cpu"} 12@2000`)
}

func TestMalformedLinesAreLoggedAndTheRestStored(t *testing.T) {
	check := func(line, want string) {
		t.Helper()
		store := &ingesttest.Recorder{}
		addr, stop := listen(t, store, graphite.Options{})
		write(t, dial(t, "tcp", addr), "a 1 1\n"+line+"\nb 2 2\n")
		await(t, store, 2)
		if log := strings.ReplaceAll(stop(), `\"`, `"`); !strings.Contains(log, want) {
			t.Errorf("%q: logged %q, want %q", line, log, want)
		}
		if diff := cmp.Diff([]string{`{__name__="a"} 1@1000`, `{__name__="b"} 2@2000`}, stored(store)); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	check("x", "line 2, column 2: the value is missing")
	check("x y 1", "line 2, column 3: the value is not a number")
	check("x 1 y", "line 2, column 5: the time is no number")
	check("x 1 1e300", "line 2, column 5: the time is no number")
	check("x 1 2 3", "line 2, column 7: there is something behind the time")
	check(";a=b 1 2", "line 2, column 1: the path is empty")
	check("x;a 1 2", "line 2, column 3: a tag is not name=value")
	check("x;=a 1 2", "line 2, column 3: a tag is not name=value")
	check("x;a=\xff 1 2", "line 2: value of label")
	check(strings.Repeat("x", 2<<20)+" 1 2", "the line is longer than 65536 bytes")
}

func TestConnectionsBeyondTheLimitAndSilentOnesAreClosed(t *testing.T) {
	store := &ingesttest.Recorder{}
	addr, stop := listen(t, store, graphite.Options{MaxConnections: 1, Idle: 200 * time.Millisecond})
	first, second := dial(t, "tcp", addr), dial(t, "tcp", addr)
	isClosed := func(c net.Conn) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a connection is still open: %v", err)
		}
	}
	isClosed(second)
	isClosed(first)
	if log := stop(); !strings.Contains(log, "1 are open") {
		t.Errorf("logged %s", log)
	}
}

// closedStore takes no writes for its first commits.
type closedStore struct {
	*ingesttest.Recorder
	refusals int
}

func (s *closedStore) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	if s.refusals > 0 {
		s.refusals--
		return 0, &sample.UnavailableError{Condition: "read_only", RetryAfter: time.Second}
	}
	return s.Recorder.Commit(ctx, b, r)
}

func TestSendersWaitWhileTheStoreTakesNoWrites(t *testing.T) {
	store := &closedStore{Recorder: &ingesttest.Recorder{}, refusals: 1}
	addr, stop := listen(t, store, graphite.Options{})
	write(t, dial(t, "tcp", addr), "a 1 1\nbad\nb 2 2\n")
	for range 100 {
		if len(store.Rows()) == 2 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	if diff := cmp.Diff([]string{`{__name__="a"} 1@1000`, `{__name__="b"} 2@2000`}, stored(store.Recorder)); diff != "" {
		t.Error(diff)
	}
}
