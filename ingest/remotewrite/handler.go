// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package remotewrite receives Prometheus' remote-write protocol, versions 1.0 and 2.0.
//
// Its nouns: a Handler serves the route; a decoder reads one body into an ingest.Request without allocating for
// series that are known. The messages are read by hand, field by field (wire.go; writerequest.go for 1.0, symbolrequest.go for 2.0); fuzz tests hold that
// against the code generated from the same .proto files.
//
// Answers: 204 once everything is durable; 400 where the sender's data cannot be stored, with the rest of it stored
// and a message that counts the reasons and names the first offender of each; 413 and 415 for what is not read; 503
// with Retry-After while the store takes no writes or lags, while other requests have the memory, and for a body that did
// not come whole or in time; 500 for what is our fault. Never 429, on which Prometheus drops.
//
// A connection holds at most a body of the largest size and what that unpacks to, and memory for it is charged to the budget
// of all requests as it comes: neither a Content-Length nor a compressed body that claims much takes any.
//
// A Handler is safe for concurrent use and starts no goroutines.
package remotewrite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The messages of the two versions of the protocol, by their protobuf names.
const (
	MessageV1 = "prometheus.WriteRequest"
	MessageV2 = "io.prometheus.write.v2.Request"
)

// DefaultMaxBodyBytes is the most a body may hold, compressed or not; Prometheus' receiver has the same limit.
const DefaultMaxBodyBytes = 32 << 20

// A sender waits 30 s for an answer unless it is told otherwise. It hears before that time why there is none.
const (
	DefaultBodyTimeout   = 25 * time.Second
	DefaultCommitTimeout = 20 * time.Second
)

// Options of a Handler. Intake is required.
type Options struct {
	Intake        *ingest.Intake
	Messages      []string              // the messages that are accepted; nil: both
	MaxBodyBytes  int                   // default DefaultMaxBodyBytes
	BodyTimeout   time.Duration         // how long a body may take to arrive; default DefaultBodyTimeout
	CommitTimeout time.Duration         // how long the store may take; default DefaultCommitTimeout
	Logger        *slog.Logger          // nil: nothing is logged
	Registerer    prometheus.Registerer // nil: no metrics are registered
}

// Handler serves POST /api/v1/write.
type Handler struct {
	intake   *ingest.Intake
	messages []string
	maxBody  int
	arrive   time.Duration
	commit   time.Duration
	logger   *slog.Logger
	metrics  *metrics
	decoders sync.Pool
	buffers  sync.Pool
}

// metrics are those that Prometheus' receiver has too, and our own.
type metrics struct {
	invalidLabels   prometheus.Counter
	withoutMetadata prometheus.Counter
	familyMetadata  prometheus.Counter
}

// New returns a Handler.
func New(o Options) (*Handler, error) {
	h := &Handler{intake: o.Intake, messages: o.Messages, maxBody: o.MaxBodyBytes, logger: o.Logger}
	if h.messages == nil {
		h.messages = []string{MessageV1, MessageV2}
	}
	for _, m := range h.messages {
		if m != MessageV1 && m != MessageV2 {
			return nil, fmt.Errorf("remote-write message %q is not known: the messages are %s and %s", m, MessageV1, MessageV2)
		}
	}
	h.maxBody = cmp.Or(h.maxBody, DefaultMaxBodyBytes)
	h.arrive, h.commit = cmp.Or(o.BodyTimeout, DefaultBodyTimeout), cmp.Or(o.CommitTimeout, DefaultCommitTimeout)
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	h.metrics = &metrics{
		invalidLabels:   counter("prometheus_api_remote_write_invalid_labels_samples_total", "The total number of received remote write samples and histogram samples which were rejected due to invalid labels."),
		withoutMetadata: counter("prometheus_api_remote_write_without_metadata_appended_samples_total", "The total number of received remote write samples (and histogram samples) which were ingested without corresponding metadata."),
		familyMetadata:  counter("tidemark_ingest_family_metadata_dropped_total", "Metadata entries of remote-write 1.0 requests, which belong to no series and are not stored."),
	}
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{h.metrics.invalidLabels, h.metrics.withoutMetadata, h.metrics.familyMetadata} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of remote write: %w", err)
			}
		}
	}
	h.decoders.New = func() any { return &decoder{metrics: h.metrics} }
	h.buffers.New = func() any { return &buffer{} }
	return h, nil
}

// ServeHTTP takes one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "remote write is sent by POST", http.StatusMethodNotAllowed)
		return
	}
	message, err := h.messageOf(r.Header.Get("Content-Type"))
	var out ingest.Outcome
	if err == nil {
		out, err = h.take(w, r, message)
	}
	if message == MessageV2 {
		header := w.Header()
		header.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(out.Floats))
		header.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(out.Histograms))
		header.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(out.Exemplars))
	}
	if err == nil && len(out.Problems) > 0 {
		err = &statusError{http.StatusBadRequest, out.Message()}
		h.logger.Debug("a remote-write request was stored in part", "remote", r.RemoteAddr, "problems", out.Message())
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// statusError is a mistake of the sender with the code that says so.
type statusError struct {
	code int
	msg  string
}

func (e *statusError) Error() string { return e.msg }

func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, err error) {
	code := codeOf(err)
	if code == http.StatusServiceUnavailable {
		after := time.Duration(0)
		if e, ok := errors.AsType[*sample.UnavailableError](err); ok {
			after = e.RetryAfter
		}
		w.Header().Set("Retry-After", seconds(after))
	}
	level := slog.LevelDebug // a state of the store is logged once, where it begins
	if code == http.StatusInternalServerError {
		level = slog.LevelError
	}
	h.logger.Log(r.Context(), level, "a remote-write request was not stored", "remote", r.RemoteAddr, "code", code, "err", err)
	http.Error(w, err.Error(), code)
}

// errLag is why a request was given up: the store has too much to do, or its disk stands still. What it has of the request
// is taken as the same when it comes again.
var errLag = errors.New("the store lags behind")

// codeOf returns the status code of an error.
func codeOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.code
	}
	if _, ok := isMalformed(err); ok {
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[*ingest.TooLargeError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	_, unavailable := errors.AsType[*sample.UnavailableError](err)
	_, full := errors.AsType[*budget.ExceededError](err)
	gone := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) // nobody may be there to read it
	if unavailable || full || gone || errors.Is(err, errLag) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// seconds returns a Retry-After header; without advice it is 5 s, Prometheus' longest backoff.
func seconds(d time.Duration) string {
	if d <= 0 {
		d = 5 * time.Second
	}
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}

// messageOf returns the message that a Content-Type names. None at all, and none after the media type, is that of
// version 1.0.
func (h *Handler) messageOf(contentType string) (string, error) {
	media, parameters, _ := strings.Cut(contentType, ";")
	message := MessageV1
	if media = strings.TrimSpace(media); media != "" && !strings.EqualFold(media, "application/x-protobuf") {
		return "", &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content type %q is not accepted: send application/x-protobuf", contentType)}
	}
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(p), "=")
		if !ok && name != "" {
			return "", &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content type %q has a parameter without a value", contentType)}
		}
		if strings.EqualFold(name, "proto") {
			message = strings.Trim(value, `"`)
			break
		}
	}
	for _, m := range h.messages {
		if m == message {
			return message, nil
		}
	}
	return "", &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("protobuf message %q is not accepted: this server takes %s", message, strings.Join(h.messages, " and "))}
}

// take reads, decodes and stores one body.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, message string) (ingest.Outcome, error) {
	req := h.intake.Begin()
	defer req.Release()
	req.From(message, r.RemoteAddr)
	buf := h.buffers.Get().(*buffer)
	defer func() {
		if buf.shrink() {
			h.buffers.Put(buf)
		}
	}()
	// Where a connection has no deadlines, as in tests, the errors say so.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(h.arrive))
	body, err := buf.read(r, req, h.maxBody)
	if err != nil {
		return ingest.Outcome{}, err // with its deadline the connection is of no use for the rest of the body
	}
	_ = control.SetReadDeadline(time.Time{}) // who waits for the answer need not say anything
	d := h.decoders.Get().(*decoder)
	defer func() {
		if d.reset() {
			h.decoders.Put(d)
		}
	}()
	d.req = req
	if message == MessageV1 {
		d.version = protocolV1
		err = d.decodeV1(body)
	} else {
		d.version = protocolV2
		err = d.decodeV2(body)
	}
	if err != nil {
		return ingest.Outcome{}, err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), h.commit, errLag)
	defer cancel()
	out, err := req.Commit(ctx, d.labelsOf)
	if err == nil {
		h.countWithoutMetadata(d, &out)
	}
	return out, err
}

func (h *Handler) countWithoutMetadata(d *decoder, out *ingest.Outcome) {
	if d.version == protocolV1 {
		d.withoutMetadata = out.Floats + out.Histograms
	}
	h.metrics.withoutMetadata.Add(float64(d.withoutMetadata))
}
