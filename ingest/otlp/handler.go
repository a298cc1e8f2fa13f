// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// DefaultMaxBodyBytes is the most a body may hold, compressed or not; Prometheus' receiver has the same limit.
const DefaultMaxBodyBytes = 32 << 20

// An exporter waits 10 s for an answer unless it is told otherwise. It hears before that time that the store lags.
const (
	DefaultBodyTimeout   = 25 * time.Second
	DefaultCommitTimeout = 8 * time.Second
)

// errLag is why a request was given up: the store has too much to do, or its disk stands still. What it has of the request
// is taken as the same when it comes again.
var errLag = errors.New("the store lags behind")

// Options of a Handler. Intake is required.
type Options struct {
	Intake            *ingest.Intake
	Deltas            Deltas
	Streams           *budget.Account       // what the sums of deltas may take; nil: they are not bounded
	LookbackDelta     time.Duration         // of queries, which decides how often target_info is written; default 5 min
	TypeAndUnitLabels bool                  // feature type-and-unit-labels
	MaxBodyBytes      int                   // default DefaultMaxBodyBytes
	BodyTimeout       time.Duration         // how long a body may take to arrive; default DefaultBodyTimeout
	CommitTimeout     time.Duration         // how long the store may take; default DefaultCommitTimeout
	Logger            *slog.Logger          // nil: nothing is logged
	Registerer        prometheus.Registerer // nil: no metrics are registered
}

// Handler serves POST /api/v1/otlp/v1/metrics.
type Handler struct {
	opts     Options
	settings atomic.Pointer[settings]
	sums     *accumulators
	logger   *slog.Logger
	metrics  *metrics
	decoders sync.Pool
	bodies   sync.Pool
}

// metrics are those that Prometheus' receiver has too, and our own.
type metrics struct {
	warnings        *prometheus.CounterVec
	withoutMetadata prometheus.Counter
	rejected        prometheus.Counter
}

// New returns a Handler with Prometheus' default configuration.
func New(o Options) (*Handler, error) {
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.BodyTimeout, o.CommitTimeout = cmp.Or(o.BodyTimeout, DefaultBodyTimeout), cmp.Or(o.CommitTimeout, DefaultCommitTimeout)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{opts: o, logger: o.Logger, sums: newAccumulators(o.Streams)}
	h.metrics = &metrics{
		warnings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prometheus_api_otlp_translation_warnings_total",
			Help: "The total number of warnings produced while translating OTLP metrics to the Prometheus model, by category.",
		}, []string{"category"}),
		withoutMetadata: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "prometheus_api_otlp_appended_samples_without_metadata_total",
			Help: "The total number of samples ingested from OTLP without corresponding metadata.",
		}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_otlp_rejected_data_points_total",
			Help: "Data points received by OTLP of which a sample or more was not stored.",
		}),
	}
	h.decoders.New = func() any { return &decoder{} }
	h.bodies.New = func() any { return &body{} }
	if err := h.register(o.Registerer); err != nil {
		return nil, err
	}
	return h, h.SetConfig(promconfig.DefaultOTLPConfig)
}

func (h *Handler) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tidemark_otlp_delta_streams", Help: "Streams of deltas whose sums are kept.",
	}, func() float64 { return float64(h.sums.Len()) })
	for _, c := range []prometheus.Collector{h.metrics.warnings, h.metrics.withoutMetadata, h.metrics.rejected, streams} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register the metrics of otlp: %w", err)
		}
	}
	return nil
}

// SetConfig makes c the section of the configuration that requests from now on are read by.
func (h *Handler) SetConfig(c promconfig.OTLPConfig) error {
	s, err := newSettings(c, h.opts)
	if err == nil {
		h.settings.Store(s)
	}
	return err
}

// ServeHTTP takes one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "OTLP metrics are sent by POST", http.StatusMethodNotAllowed)
		return
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != mediaProto && media != mediaJSON {
		http.Error(w, fmt.Sprintf("content type %q is not accepted: send %s or %s", r.Header.Get("Content-Type"), mediaProto, mediaJSON), http.StatusUnsupportedMediaType)
		return
	}
	a := answer{json: media == mediaJSON}
	res, err := h.take(w, r, a.json)
	if err != nil {
		code := codeOf(err)
		level := slog.LevelDebug // a state of the store is logged once, where it begins
		if code == http.StatusInternalServerError {
			level = slog.LevelError
		}
		h.logger.Log(r.Context(), level, "an OTLP request was not stored", "remote", r.RemoteAddr, "code", code, "err", err)
		a.failure(w, code, err)
		return
	}
	if res.message != "" {
		h.logger.Debug("an OTLP request was stored in part", "remote", r.RemoteAddr, "rejected", res.rejected, "problems", res.message)
	}
	a.success(w, res)
}

// result is what the sender of a request is told.
type result struct {
	rejected int // data points
	message  string
}

// take reads, decodes and stores one body.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, isJSON bool) (result, error) {
	// Where a connection has no deadlines, as in tests, the errors say so.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(h.opts.BodyTimeout))
	req := h.opts.Intake.Begin()
	defer req.Release()
	req.From("OTLP", r.RemoteAddr)
	b := h.bodies.Get().(*body)
	defer func() {
		if b.shrink() {
			h.bodies.Put(b)
		}
	}()
	msg, err := b.read(r, req, h.opts.MaxBodyBytes)
	if err != nil {
		return result{}, err // with its deadline the connection is of no use for the rest of the body
	}
	_ = control.SetReadDeadline(time.Time{}) // who waits for the answer need not say anything
	if isJSON {
		if msg, err = fromJSON(msg, req); err != nil {
			return result{}, err
		}
	}
	d := h.decoders.Get().(*decoder)
	defer func() {
		if d.end() {
			h.decoders.Put(d)
		}
	}()
	d.begin(req, h.settings.Load())
	d.sums = h.sums
	stored := false
	defer func() { d.sums.end(&d.attempt, stored) }()
	if err := d.decode(msg); err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), h.opts.CommitTimeout, errLag)
	defer cancel()
	out, err := req.Commit(ctx, d.labelsOf)
	if err != nil {
		return result{}, err
	}
	stored = true
	d.countRejected()
	h.count(d)
	return result{rejected: d.rejected, message: out.Message()}, nil
}

// countRejected adds the points of which the store refused a row.
func (d *decoder) countRejected() {
	d.req.EachRejected(func(series int) {
		if at := d.rows[series].point; at >= 0 && !d.points[at].refused {
			d.points[at].refused = true
			d.rejected++
		}
	})
}

func (h *Handler) count(d *decoder) {
	for category, n := range d.translator.warnings {
		h.metrics.warnings.WithLabelValues(string(category)).Add(float64(n))
	}
	warn := func(category prometheusremotewrite.WarningCategory, n int) {
		if n > 0 {
			h.metrics.warnings.WithLabelValues(string(category)).Add(float64(n))
		}
	}
	warn(prometheusremotewrite.WarningCategoryEmptyDataPoints, d.empty)
	warn(prometheusremotewrite.WarningCategoryHistogramZeroCountNonZeroSum, d.countless)
	h.metrics.withoutMetadata.Add(float64(d.withoutMeta))
	h.metrics.rejected.Add(float64(d.rejected))
}

// statusError is a mistake of the sender with the code that says so.
type statusError struct {
	code int
	msg  string
}

func (e *statusError) Error() string { return e.msg }

// codeOf returns the status code of an error.
func codeOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*MalformedError](err); ok {
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
