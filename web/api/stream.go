// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// streamer is a query that hands on its answer as it is made. The queries of *query.Engine are; those of other
// engines are run to their end and then written.
type streamer interface {
	Stream(ctx context.Context, to exec.Sink) (annotations.Annotations, error)
}

// explainer is a query that can tell how it is evaluated.
type explainer interface {
	Analyze()
	Explain() (*exec.Explanation, error)
}

// holdBytes is how much of an answer is collected before the first byte is sent. Until then a query that fails is
// answered with its error; afterwards the connection is cut, so that nobody takes half an answer for a whole one.
const holdBytes = 256 << 10

// stallTimeout is how long a client may take to read a piece of an answer. A query keeps its place among those that run
// until its answer is sent, so clients that do not read would keep others from being asked.
const stallTimeout = 30 * time.Second

// resultWriter writes the rows of an answer in the form of Prometheus' API. It implements exec.Sink.
type resultWriter struct {
	e     *encoder
	limit int // series; 0: all
	kind  parser.ValueType
	rows  int
	cut   bool // there are more series than limit
}

var _ exec.Sink = (*resultWriter)(nil)

// Begin implements exec.Sink.
func (w *resultWriter) Begin(t parser.ValueType) error {
	w.kind = t
	w.e.raw(`{"status":"success","data":{"resultType":"`)
	w.e.raw(string(t))
	w.e.raw(`","result":`)
	if w.list() {
		w.e.raw(`[`)
	}
	return nil
}

func (w *resultWriter) list() bool {
	return w.kind == parser.ValueTypeMatrix || w.kind == parser.ValueTypeVector
}

// Row implements exec.Sink.
func (w *resultWriter) Row(r *exec.Row) error {
	if w.limit > 0 && w.rows == w.limit {
		w.cut = true
		return exec.ErrEnough
	}
	e := w.e
	e.comma(w.rows)
	w.rows++
	e.raw(`{"metric":`)
	e.labels(r.Labels)
	if w.kind == parser.ValueTypeVector {
		w.sample(r)
	} else {
		w.values(r)
		w.histograms(r)
	}
	e.raw(`}`)
	e.room()
	return e.err
}

func (w *resultWriter) sample(r *exec.Row) {
	if h := r.Histogram(0); h != nil {
		w.e.raw(`,"histogram":`)
		w.e.histogramPoint(r.At(0), h)
		return
	}
	w.e.raw(`,"value":`)
	w.e.point(r.At(0), r.V[0])
}

func (w *resultWriter) values(r *exec.Row) {
	n := 0
	for i, k := range r.K {
		if k != vector.Float {
			continue
		}
		if n == 0 {
			w.e.raw(`,"values":[`)
		}
		w.e.comma(n)
		w.e.point(r.At(i), r.V[i])
		if n++; n%64 == 0 {
			w.e.room()
		}
	}
	if n > 0 {
		w.e.raw(`]`)
	}
}

func (w *resultWriter) histograms(r *exec.Row) {
	if len(r.H) == 0 {
		return
	}
	n := 0
	for i := range r.K {
		h := r.Histogram(i)
		if h == nil {
			continue
		}
		if n == 0 {
			w.e.raw(`,"histograms":[`)
		}
		w.e.comma(n)
		w.e.histogramPoint(r.At(i), h)
		w.e.room()
		n++
	}
	if n > 0 {
		w.e.raw(`]`)
	}
}

// Scalar implements exec.Sink.
func (w *resultWriter) Scalar(t int64, v float64) error {
	w.e.scalar(t, v)
	return nil
}

// Text implements exec.Sink.
func (w *resultWriter) Text(t int64, s string) error {
	w.e.raw(`[`)
	w.e.time(t)
	w.e.raw(`,`)
	w.e.string(s)
	w.e.raw(`]`)
	return nil
}

// running is a query that is run while its answer is written.
type running struct {
	ctx     context.Context //nolint:containedctx // of the one request that this is about
	query   promql.Query
	args    queryArgs
	analyze bool
}

// respondRunning runs a query and writes its answer while it is made.
func (a *API) respondRunning(w http.ResponseWriter, r *http.Request, run *running) {
	held := &heldResponse{ResponseWriter: w, control: http.NewResponseController(w), stall: a.stall}
	defer held.end()
	pipe := &pipeline{w: held}
	defer func() { _ = pipe.Close() }() // where something panics
	e := newEncoder(pipe)
	defer e.release()
	e.flushAt = holdBytes
	to := &resultWriter{e: e, limit: run.args.limit}
	warnings, err := run.query.(streamer).Stream(run.ctx, to)
	if to.cut {
		warnings.Add(errTruncated)
	}
	if err == nil {
		if to.list() {
			e.raw(`]`)
		}
		err = a.finish(e, run, warnings)
	}
	if perr := pipe.Close(); perr != nil && e.err == nil {
		e.err, err = perr, errors.Join(err, perr)
	}
	switch {
	case err == nil:
	case !held.begun:
		e.buf = e.buf[:0]
		a.respondError(w, r, classify(err))
	case e.err != nil:
		a.log.Debug("answer not written", "path", r.URL.Path, "err", e.err)
		panic(http.ErrAbortHandler)
	default:
		a.log.Error("a query failed after a part of its answer was sent; the connection is cut", "path", r.URL.Path, "query", run.args.text, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// finish writes what comes after the rows.
func (a *API) finish(e *encoder, run *running, warnings annotations.Annotations) error {
	stats, err := statsJSON(&warnings, run.query, run.args.stats)
	if err != nil {
		return err
	}
	if stats != nil {
		e.raw(`,"stats":`)
		e.buf = append(e.buf, stats...)
	}
	if run.analyze {
		x, err := run.query.(explainer).Explain()
		if err != nil {
			return err
		}
		b, err := json.Marshal(x)
		if err != nil {
			return fmt.Errorf("encode the explanation: %w", err)
		}
		e.raw(`,"explanation":`)
		e.buf = append(e.buf, b...)
	}
	texts, infos := annotationTexts(warnings, run.args.text)
	e.raw(`}`)
	e.stringList(`,"warnings":`, texts)
	e.stringList(`,"infos":`, infos)
	e.raw(`}`)
	return e.flush()
}

// heldResponse sends the status with the first byte, and gives up a client that does not read for stall.
type heldResponse struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	begun   bool

	contentType string // empty: JSON
}

// Write implements io.Writer.
func (h *heldResponse) Write(b []byte) (int, error) {
	if !h.begun {
		h.begun = true
		h.Header().Set("Content-Type", cmp.Or(h.contentType, "application/json"))
		h.WriteHeader(http.StatusOK)
	}
	_ = h.control.SetWriteDeadline(time.Now().Add(h.stall)) // not every connection has one
	return h.ResponseWriter.Write(b)
}

// end takes the deadline off: the connection may serve more requests.
func (h *heldResponse) end() {
	if h.begun {
		_ = h.control.SetWriteDeadline(time.Time{})
	}
}
