// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/web/api"
)

// Options set up a Server. The zero value is Prometheus' defaults.
type Options struct {
	// ListenAddresses are host:port; empty: 0.0.0.0:9090.
	ListenAddresses []string
	// ConfigFile is the web configuration of TLS, basic authentication and headers; empty: none.
	ConfigFile string
	// ExternalURL is where users reach the server; nil: the first listen address on localhost.
	ExternalURL *url.URL
	// RoutePrefix goes before every path; empty: the path of ExternalURL.
	RoutePrefix string
	// MaxConnections is over all addresses together.
	MaxConnections int
	// ReadTimeout is how long a request may take to arrive, and how long an idle connection stays open.
	ReadTimeout time.Duration
	// ShutdownTimeout is how long requests that run when the server stops may go on.
	ShutdownTimeout time.Duration

	// CORSOrigin says which origins may read answers from a browser; nil: all.
	CORSOrigin *regexp.Regexp
	// EnableLifecycle opens /-/reload and /-/quit; EnableAdmin the routes that change the store.
	EnableLifecycle, EnableAdmin bool
	// UserAssets is a directory served under /user; empty: none.
	UserAssets string
	PageTitle  string
	// Agent leaves out the pages of what an agent has not.
	Agent bool
	// LookbackDelta is how old a sample /federate still shows.
	LookbackDelta time.Duration
	RemoteRead    api.RemoteReadOptions
	Parser        parser.Parser

	// Ready and Healthy say why the server should get no requests, or should be restarted; nil errors and nil
	// functions: nothing is wrong. Until Open a server is not ready.
	Ready, Healthy func() error
	// Reload applies the configuration anew. It must be safe for concurrent use.
	Reload func(context.Context) error
	// Quit begins the stop of the process. It is called once.
	Quit func()

	// Gatherer is what /metrics shows; Registerer takes the server's own metrics. Nil: none.
	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer
	// Logger takes the log; at level debug it has a line for every request. Nil: none.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if len(o.ListenAddresses) == 0 {
		o.ListenAddresses = []string{"0.0.0.0:9090"}
	}
	if o.ExternalURL == nil {
		o.ExternalURL = &url.URL{Scheme: "http", Host: "localhost", Path: "/"}
	}
	if o.RoutePrefix == "" {
		o.RoutePrefix = o.ExternalURL.Path
	}
	o.RoutePrefix = path.Clean("/" + strings.Trim(o.RoutePrefix, "/"))
	if o.MaxConnections < 0 {
		return o, errors.New("the number of connections must not be negative: leave it out for Prometheus' 512")
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 512
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 5 * time.Minute
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 10 * time.Second
	}
	if o.LookbackDelta == 0 {
		o.LookbackDelta = 5 * time.Minute
	}
	if o.PageTitle == "" {
		o.PageTitle = "Tidemark"
	}
	if o.Parser == nil {
		o.Parser = parser.NewParser(parser.Options{ExperimentalDurationExpr: true})
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
