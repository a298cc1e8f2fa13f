// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package web is the HTTP server: listeners, TLS and authentication, limits on connections, the routes that
// Prometheus has outside its API (health, lifecycle, self-metrics, federation, profiles) and the page that
// tells a person what runs here. The API itself is package api, mounted under /api/v1.
//
// A Server listens before there is anything to answer from, so that probes see a start in progress: New, then
// Run, then Open once the store is there. Until Open everything that needs the store answers 503. When the
// context of Run ends the server says so on /-/ready, lets running requests finish for a while and returns.
//
// Routes that change something refuse requests that a page of another origin makes a browser send. All methods
// of a Server are safe for concurrent use.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/prometheus/util/netconnlimit"

	"github.com/tidemarkdb/tidemark/web/api"
)

// Server is the HTTP server.
type Server struct {
	opts    Options
	log     *slog.Logger
	started time.Time
	metrics *metrics
	router  http.Handler

	pageTemplate *template.Template

	open     atomic.Pointer[opened] // nil until Open
	stopping atomic.Bool
	quitting atomic.Bool

	listeners []net.Listener // set by Listen
}

// opened is what there is once the store is open.
type opened struct {
	src      api.Sources
	api      http.Handler
	federate http.Handler
}

// New returns a server that does not listen yet.
func New(opts Options) (*Server, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("web server options: %w", err)
	}
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("web page: %w", err)
	}
	s := &Server{opts: opts, log: opts.Logger, started: time.Now(), pageTemplate: page}
	s.metrics = newMetrics(opts.Registerer, s)
	s.router = s.routes()
	return s, nil
}

// Open makes everything available that is answered from src. It is called once.
func (s *Server) Open(src api.Sources) error {
	a, err := api.New(src, api.Options{
		CORSOrigin: s.opts.CORSOrigin, EnableAdmin: s.opts.EnableAdmin, ExternalURL: s.opts.ExternalURL,
		ListenAddress: s.opts.ListenAddresses[0], RemoteRead: s.opts.RemoteRead, Parser: s.opts.Parser,
		Logger: s.log, Registerer: s.opts.Registerer,
	})
	if err != nil {
		return err
	}
	r := mux.NewRouter()
	a.Register(r.PathPrefix(s.path("/api/v1")).Subrouter(), s.metrics.instrument)
	federate, err := s.federation(src)
	if err != nil {
		return err
	}
	s.open.Store(&opened{src: src, api: r, federate: federate})
	return nil
}

// Handler returns the whole server as a handler, without what belongs to connections: TLS, authentication and
// limits.
func (s *Server) Handler() http.Handler { return s.router }

// Listen takes the listen addresses. Run does it where it has not been done; done before, it tells early of an
// address in use.
func (s *Server) Listen() error {
	if len(s.listeners) > 0 {
		return nil
	}
	limit := netconnlimit.NewSharedSemaphore(s.opts.MaxConnections)
	var list []net.Listener
	for _, address := range s.opts.ListenAddresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range list {
				err = errors.Join(err, l.Close())
			}
			return fmt.Errorf("listen on %s: %w: choose another --web.listen-address or stop what uses it", address, err)
		}
		list = append(list, netconnlimit.SharedLimitListener(l, limit))
	}
	s.listeners = list
	return nil
}

// Addresses returns the addresses that Listen took, with the ports it was given where 0 was asked for.
func (s *Server) Addresses() []net.Addr {
	out := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr()
	}
	return out
}

// Run serves until ctx ends, or until a listener fails.
func (s *Server) Run(ctx context.Context) error {
	if err := toolkit.Validate(s.opts.ConfigFile); err != nil {
		return fmt.Errorf("web configuration %s: %w", s.opts.ConfigFile, err)
	}
	if err := s.Listen(); err != nil {
		return err
	}
	srv := &http.Server{
		Handler: s.router, ReadTimeout: s.opts.ReadTimeout, IdleTimeout: s.opts.ReadTimeout,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() {
		failed <- toolkit.ServeMultiple(s.listeners, srv, &toolkit.FlagConfig{WebConfigFile: &s.opts.ConfigFile}, s.log)
	}()
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("serve HTTP: %w", err), srv.Close())
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.ShutdownTimeout)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		s.log.Warn("requests were still running when the server stopped", "after", s.opts.ShutdownTimeout)
		err = srv.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// ready returns why the server should get no requests, nil where it may.
func (s *Server) ready() error {
	switch {
	case s.stopping.Load():
		return errors.New("stopping")
	case s.open.Load() == nil:
		return errors.New("starting")
	default:
		return s.opts.Ready()
	}
}

// path returns a path of ours behind the route prefix.
func (s *Server) path(p string) string {
	if s.opts.RoutePrefix == "/" {
		return p
	}
	return s.opts.RoutePrefix + p
}
