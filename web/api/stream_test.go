// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// rowsQuery is a query that answers with rows and then ends with an error, nil for none.
type rowsQuery struct {
	promql.Query
	rows int
	err  error
	sunk error // what the sink answered last
}

func (q *rowsQuery) Stream(_ context.Context, to exec.Sink) (annotations.Annotations, error) {
	if q.sunk = to.Begin(parser.ValueTypeMatrix); q.sunk != nil {
		return nil, q.sunk
	}
	row := exec.Row{Grid: vector.NewGrid(0, 0, 1000), V: []float64{1}, K: []vector.Kind{vector.Float}, Shape: vector.Full}
	for i := range q.rows {
		row.Labels = labels.FromStrings("i", fmt.Sprint(i), "pad", strings.Repeat("x", 1000))
		if q.sunk = to.Row(&row); errors.Is(q.sunk, exec.ErrEnough) {
			return nil, nil
		} else if q.sunk != nil {
			return nil, q.sunk
		}
	}
	return nil, q.err
}

// serveRows serves the answer of q, which the handler is done with when the channel is closed.
func serveRows(t *testing.T, q *rowsQuery, stall time.Duration, limit int) (*httptest.Server, <-chan struct{}) {
	t.Helper()
	a := &API{log: slog.New(slog.DiscardHandler), stall: stall}
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(1024))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	s := httptest.NewUnstartedServer(compress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		a.respondRunning(w, r, &running{ctx: r.Context(), query: q, args: queryArgs{limit: limit}})
	})))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s, done
}

func TestAClientThatDoesNotReadEndsItsQuery(t *testing.T) {
	q := &rowsQuery{rows: 1 << 20}
	s, done := serveRows(t, q, 100*time.Millisecond, 0)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the query still runs")
	}
	if q.sunk == nil {
		t.Error("all rows were taken")
	}
}

func TestAConnectionServesOnAfterALongAnswer(t *testing.T) {
	q := &rowsQuery{rows: 2000}
	a := &API{log: slog.New(slog.DiscardHandler), stall: 50 * time.Millisecond}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.respondRunning(w, r, &running{ctx: r.Context(), query: q})
	}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for range 2 {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || !strings.HasSuffix(string(b), `]}}`) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		time.Sleep(4 * a.stall)
	}
}

// Nobody may take a part of an answer for a whole one, compressed or not.
func TestAnAnswerThatBreaksOffIsNoWholeOne(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		s, _ := serveRows(t, &rowsQuery{rows: 2000, err: errors.New("failed late")}, time.Minute, 0)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", encoding)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the client read an answer to its end", encoding)
		}
	}
}

func TestALimitCutsTheAnswerWithAWarning(t *testing.T) {
	s, _ := serveRows(t, &rowsQuery{rows: 10}, time.Minute, 3)
	res, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || strings.Count(string(b), `"metric"`) != 3 || !strings.Contains(string(b), `"warnings":["`) {
		t.Errorf("%s: %v", b, err)
	}
}
