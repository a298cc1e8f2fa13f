// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package api serves Prometheus' HTTP API under /api/v1: the same routes, arguments, JSON shapes, error types and
// status codes, so that every client of Prometheus works unchanged. A contract test runs requests through
// Prometheus' own handler beside ours and compares.
//
// An endpoint is a function from a request to an answer or an error; see endpoint and answer. API wraps it with
// what all of them share: cross-origin headers, compression, the envelope of respond.go. Results of queries are
// written by the encoder of encode.go while they are read, without an intermediate document; what is small and
// rare goes through encoding/json.
//
// The package declares the interfaces it consumes, in sources.go, and imports no storage. An API is safe for
// concurrent use and has no state of its own; it lives as long as the server.
package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// Options set up an API. The zero value is Prometheus' defaults.
type Options struct {
	// CORSOrigin says which origins may read answers from a browser, matched as it is: anchor it; nil: all.
	CORSOrigin *regexp.Regexp
	// EnableAdmin opens the routes under /admin.
	EnableAdmin bool
	// ExternalURL and ListenAddress make the URLs of local targets reachable from elsewhere.
	ExternalURL   *url.URL
	ListenAddress string
	RemoteRead    RemoteReadOptions
	// Parser reads queries and selectors; nil: the parser without experimental features.
	Parser parser.Parser
	// Logger takes what no answer can say; nil: none.
	Logger *slog.Logger
	// Registerer takes metrics; nil: none.
	Registerer prometheus.Registerer
}

// RemoteReadOptions limit remote read; zero values mean Prometheus' defaults.
type RemoteReadOptions struct {
	SampleLimit      int // samples of one answer that is not streamed
	ConcurrencyLimit int
	MaxBytesInFrame  int
}

func (o RemoteReadOptions) withDefaults() RemoteReadOptions {
	if o.SampleLimit == 0 {
		o.SampleLimit = 5e7
	}
	if o.ConcurrencyLimit == 0 {
		o.ConcurrencyLimit = 10
	}
	if o.MaxBytesInFrame == 0 {
		o.MaxBytesInFrame = 1 << 20
	}
	return o
}

// API is the set of endpoints.
type API struct {
	opts   Options
	src    Sources
	data   *queryable.Queryable
	parser parser.Parser
	log    *slog.Logger
	now    func() time.Time

	read     http.Handler
	compress func(http.Handler) http.HandlerFunc
	stall    time.Duration // see stallTimeout
}

// New returns the endpoints over src.
func New(src Sources, opts Options) (*API, error) {
	if src.Engine == nil || src.Data == nil {
		return nil, errors.New("the API needs a query engine and a data source")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Parser == nil {
		opts.Parser = parser.NewParser(parser.Options{ExperimentalDurationExpr: true})
	}
	if opts.ExternalURL == nil {
		opts.ExternalURL = &url.URL{}
	}
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.CompressionLevel(1))
	if err != nil {
		return nil, err
	}
	a := &API{
		opts: opts, src: src, data: queryable.New(src.Data), parser: opts.Parser, log: opts.Logger, now: time.Now,
		compress: compress, stall: stallTimeout,
	}
	rr := opts.RemoteRead.withDefaults()
	a.read = remote.NewReadHandler(opts.Logger, opts.Registerer, a.data, a.remoteReadConfig,
		rr.SampleLimit, rr.ConcurrencyLimit, rr.MaxBytesInFrame)
	return a, nil
}

// remoteReadConfig is what the read handler asks of the configuration: the external labels.
func (a *API) remoteReadConfig() config.Config {
	var c config.Config
	c.GlobalConfig.ExternalLabels = a.externalLabels()
	return c
}

// Register adds the endpoints to r, whose paths begin behind /api/v1. instrument wraps each with metrics under
// the route's name; nil: no metrics.
func (a *API) Register(r *mux.Router, instrument func(route string, h http.Handler) http.Handler) {
	if instrument == nil {
		instrument = func(_ string, h http.Handler) http.Handler { return h }
	}
	for _, rt := range a.routes() {
		rt = a.forAgent(rt)
		h := rt.handler
		if h == nil {
			h = a.compressed(a.serve(rt.endpoint))
		}
		if rt.guarded {
			h = a.sameOrigin(h)
		}
		h = OnlyMethods(instrument("/api/v1"+rt.path, h), rt.methods...)
		r.HandleFunc(rt.path, func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodOptions {
				a.options(w, req)
				return
			}
			h.ServeHTTP(w, req)
		})
	}
}

// route is one endpoint: an endpoint function or, where the answer has a format of its own, a handler.
type route struct {
	path     string
	methods  []string
	endpoint endpoint
	handler  http.Handler
	guarded  bool // refuses requests that another origin's page makes
}

func (a *API) routes() []route {
	get, both := []string{http.MethodGet}, []string{http.MethodGet, http.MethodPost}
	post, change := []string{http.MethodPost}, []string{http.MethodPost, http.MethodPut}
	return []route{
		{path: "/query", methods: both, endpoint: a.query},
		{path: "/query_range", methods: both, endpoint: a.queryRange},
		{path: "/query_exemplars", methods: both, endpoint: a.queryExemplars},
		{path: "/format_query", methods: both, endpoint: a.formatQuery},
		{path: "/parse_query", methods: both, endpoint: a.parseQuery},
		{path: "/labels", methods: both, endpoint: a.labelNames},
		{path: "/label/{name}/values", methods: get, endpoint: a.labelValues},
		{path: "/series", methods: both, endpoint: a.series},
		{path: "/metadata", methods: get, endpoint: a.metricMetadata},
		{path: "/targets", methods: get, endpoint: a.targets},
		{path: "/targets/metadata", methods: get, endpoint: a.targetMetadata},
		{path: "/targets/relabel_steps", methods: get, endpoint: a.relabelSteps},
		{path: "/targets/metric_relabel_steps", methods: both, endpoint: a.metricRelabelSteps},
		{path: "/scrape_pools", methods: get, endpoint: a.scrapePools},
		{path: "/scrape_pools/config", methods: get, endpoint: a.scrapePoolConfig},
		{path: "/alertmanagers", methods: get, endpoint: a.alertmanagers},
		{path: "/rules", methods: get, endpoint: a.rules},
		{path: "/rules/backtest", methods: post, handler: a.backtests(), guarded: true},
		{path: "/alerts", methods: get, endpoint: a.alerts},
		{path: "/features", methods: get, endpoint: a.features},
		{path: "/notifications", methods: get, endpoint: a.notifications},
		{path: "/status/config", methods: get, endpoint: a.statusConfig},
		{path: "/status/flags", methods: get, endpoint: a.statusFlags},
		{path: "/status/runtimeinfo", methods: get, endpoint: a.statusRuntime},
		{path: "/status/buildinfo", methods: get, endpoint: a.statusBuild},
		{path: "/status/tsdb", methods: get, endpoint: a.statusTSDB},
		{path: "/status/tsdb/blocks", methods: get, endpoint: a.statusBlocks},
		{path: "/status/walreplay", methods: get, endpoint: a.statusReplay},
		{path: "/status/conditions", methods: get, endpoint: a.statusConditions},
		{path: "/status/series_limits", methods: get, endpoint: a.statusSeriesLimits},
		{path: "/status/rejected", methods: get, endpoint: a.statusRejected},
		{path: "/status/active_queries", methods: get, endpoint: a.activeQueries},
		{path: "/status/active_queries/cancel", methods: post, endpoint: a.cancelQuery, guarded: true},
		{path: "/status/top_queries", methods: get, endpoint: a.topQueries},
		{path: "/admin/tsdb/delete_series", methods: change, endpoint: a.deleteSeries, guarded: true},
		{path: "/admin/tsdb/clean_tombstones", methods: change, endpoint: a.cleanTombstones, guarded: true},
		{path: "/admin/tsdb/snapshot", methods: change, endpoint: a.snapshot, guarded: true},
		{path: "/admin/tidemark/deletes", methods: get, endpoint: a.deletes},
		{path: "/admin/tidemark/undelete", methods: change, endpoint: a.undelete, guarded: true},
		{path: "/admin/tidemark/backfill", methods: both, endpoint: a.backfill, guarded: true},
		{path: "/admin/tidemark/backfill/cancel", methods: post, endpoint: a.cancelBackfill, guarded: true},
		{path: "/admin/tidemark/retention", methods: get, endpoint: a.retention},
		{path: "/export", methods: both, handler: a.exportHandler("application/stream+json; charset=utf-8", newExportLines)},
		{path: "/export/csv", methods: both, handler: a.exportHandler("text/csv; charset=utf-8", newExportCSV)},
		{path: "/read", methods: post, handler: a.read},
		{path: "/write", methods: post, handler: receiver(a.src.RemoteWrite, "remote write receiver needs to be enabled with --web.enable-remote-write-receiver"), guarded: true},
		{path: "/otlp/v1/metrics", methods: post, handler: receiver(a.src.OTLP, "otlp write receiver needs to be enabled with --web.enable-otlp-receiver"), guarded: true},
	}
}

// OnlyMethods refuses requests of other methods than those listed; GET brings HEAD with it. The router can tell
// methods apart as well, but behind a prefix it answers a wrong method as a path that does not exist.
func OnlyMethods(h http.Handler, methods ...string) http.Handler {
	allowed := slices.Clone(methods)
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(allowed, r.Method) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// receiver is the receiver of a protocol, or the answer of a server that has it off.
func receiver(h http.Handler, off string) http.Handler {
	if h != nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, off, http.StatusNotFound) })
}
