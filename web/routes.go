// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tidemarkdb/tidemark/web/api"
)

// pages are the paths of Prometheus' interface; the one page there is answers them all.
var pages = []string{
	"/", "/query", "/graph", "/alerts", "/rules", "/targets", "/service-discovery", "/alertmanager-discovery",
	"/tsdb-status", "/status", "/config", "/flags",
}

// agentPages are those of an agent.
var agentPages = []string{"/", "/agent", "/targets", "/service-discovery", "/status", "/config", "/flags"}

// routes builds the router: everything but the API, which is there once the server is open.
func (s *Server) routes() http.Handler {
	root := mux.NewRouter()
	r := root
	if s.opts.RoutePrefix != "/" {
		home := api.OnlyMethods(http.RedirectHandler(s.opts.RoutePrefix+"/", http.StatusFound), http.MethodGet)
		root.Handle("/", home)
		root.Handle(s.opts.RoutePrefix, home)
		r = root.PathPrefix(s.opts.RoutePrefix).Subrouter()
	}
	get := func(path string, h http.HandlerFunc) {
		r.Handle(path, api.OnlyMethods(s.metrics.instrument(path, h), http.MethodGet))
	}
	shown := pages
	if s.opts.Agent {
		shown = agentPages
	}
	for _, p := range shown {
		get(p, s.page)
	}
	get("/-/healthy", s.healthy)
	get("/-/ready", s.readiness)
	get("/version", s.version)
	get("/metrics", promhttp.InstrumentMetricHandler(s.opts.Registerer,
		promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{})).ServeHTTP)
	get("/federate", s.whenOpen(func(o *opened) http.Handler { return o.federate }))
	s.lifecycle(r)
	s.profiles(r)
	if s.opts.UserAssets != "" {
		r.PathPrefix("/user/").Handler(http.StripPrefix(s.path("/user"), http.FileServer(http.Dir(s.opts.UserAssets))))
	}
	s.pushes(r)
	r.PathPrefix("/api/v1/").Handler(s.whenOpen(func(o *opened) http.Handler { return o.api }))
	return s.logged(s.survive(root))
}

// whenOpen passes requests on once the server is open.
func (s *Server) whenOpen(to func(*opened) http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if o := s.open.Load(); o != nil && !s.stopping.Load() {
			to(o).ServeHTTP(w, r)
			return
		}
		s.unavailable(w, s.ready())
	}
}

// unavailable answers as Prometheus does while it starts or stops, and says why.
func (s *Server) unavailable(w http.ResponseWriter, reason error) {
	w.Header().Set("X-Prometheus-Stopping", strconv.FormatBool(s.stopping.Load()))
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, "Service Unavailable")
	if reason != nil {
		fmt.Fprintf(w, ": %s\n", reason)
	}
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) {
	if err := s.opts.Healthy(); err != nil {
		s.unavailable(w, err)
		return
	}
	fmt.Fprintln(w, "Tidemark is Healthy.")
}

func (s *Server) readiness(w http.ResponseWriter, _ *http.Request) {
	if err := s.ready(); err != nil {
		s.unavailable(w, err)
		return
	}
	fmt.Fprintln(w, "Tidemark is Ready.")
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	var build api.BuildInfo
	if o := s.open.Load(); o != nil {
		build = o.src.Build
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(build); err != nil {
		s.log.Debug("answer not written", "path", "/version", "err", err)
	}
}

// lifecycle adds the routes that reload the configuration and stop the process.
func (s *Server) lifecycle(r *mux.Router) {
	change := func(path string, h http.HandlerFunc) {
		if !s.opts.EnableLifecycle {
			h = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "Lifecycle API is not enabled.")
			}
		}
		act := s.metrics.instrument(path, api.SameOrigin(h, s.opts.ExternalURL))
		r.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost || r.Method == http.MethodPut {
				act.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Allow", "POST, PUT")
			w.WriteHeader(http.StatusMethodNotAllowed)
			fmt.Fprint(w, "Only POST or PUT requests allowed")
		})
	}
	change("/-/reload", s.reload)
	change("/-/quit", s.quit)
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if s.opts.Reload == nil {
		http.Error(w, "failed to reload config: this server has none", http.StatusInternalServerError)
		return
	}
	if err := s.opts.Reload(r.Context()); err != nil {
		http.Error(w, fmt.Sprintf("failed to reload config: %s", err), http.StatusInternalServerError)
	}
}

func (s *Server) quit(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Quit == nil || s.quitting.Swap(true) {
		fmt.Fprint(w, "Termination already in progress.")
		return
	}
	fmt.Fprint(w, "Requesting termination... Goodbye!")
	s.opts.Quit()
}

// profiles adds Go's profiles.
func (s *Server) profiles(r *mux.Router) {
	r.HandleFunc("/debug/pprof", func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, s.path("/debug/pprof/"), http.StatusMovedPermanently)
	})
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	r.PathPrefix("/debug/pprof/").HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// The index finds the profile's name behind a path that it knows.
		req.URL.Path = strings.TrimPrefix(req.URL.Path, strings.TrimSuffix(s.opts.RoutePrefix, "/"))
		pprof.Index(w, req)
	})
}

// survive turns a panic of a handler into an answer and a log line with the stack.
func (s *Server) survive(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // The value itself is the signal; net/http compares it so.
				panic(p)
			}
			s.log.Error("panic while serving a request", "path", r.URL.Path, "client", r.RemoteAddr, "err", p, "stack", string(debug.Stack()))
			http.Error(w, "internal error: the server's log has the details", http.StatusInternalServerError)
		}()
		h.ServeHTTP(w, r)
	})
}

// logged writes a line for every request at level debug.
func (s *Server) logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.log.Enabled(r.Context(), levelRequests) {
			h.ServeHTTP(w, r)
			return
		}
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		path := r.URL.Path
		h.ServeHTTP(seen, r)
		s.log.Debug("request", "method", r.Method, "path", path, "status", seen.status, "bytes", seen.bytes,
			"took", time.Since(began), "client", r.RemoteAddr)
	})
}
