// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// prometheusRoutes are all paths that Prometheus 3.14 serves, with an example for each parameter.
var prometheusRoutes = strings.Fields(`
	/ /query /graph /alerts /rules /targets /service-discovery /alertmanager-discovery /tsdb-status /status /config /flags /agent
	/version /metrics /federate /consoles/x /user/x /assets/x /favicon.ico /manifest.json /debug/pprof/heap
	/-/healthy /-/ready /-/reload /-/quit
	/api/v1/query /api/v1/query_range /api/v1/query_exemplars /api/v1/format_query /api/v1/parse_query
	/api/v1/labels /api/v1/label/x/values /api/v1/series /api/v1/metadata
	/api/v1/search/metric_names /api/v1/search/label_names /api/v1/search/label_values
	/api/v1/scrape_pools /api/v1/scrape_pools/config /api/v1/targets /api/v1/targets/metadata /api/v1/targets/relabel_steps
	/api/v1/alertmanagers /api/v1/alerts /api/v1/rules /api/v1/features /api/v1/openapi.yaml
	/api/v1/notifications /api/v1/notifications/live
	/api/v1/status/config /api/v1/status/runtimeinfo /api/v1/status/buildinfo /api/v1/status/flags
	/api/v1/status/tsdb /api/v1/status/tsdb/blocks /api/v1/status/self_metrics /api/v1/status/walreplay
	/api/v1/read /api/v1/write /api/v1/otlp/v1/metrics
	/api/v1/admin/tsdb/delete_series /api/v1/admin/tsdb/clean_tombstones /api/v1/admin/tsdb/snapshot`)

// pushed is an open server that answers what its receiver of foreign protocols is given.
func pushed(t *testing.T, o Options) *Server {
	t.Helper()
	s := newServer(t, o)
	src := sources(t)
	src.Push = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, r.URL.Path)
	})
	if err := s.Open(src); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestForeignProtocolsShadowNoRouteOfPrometheus(t *testing.T) {
	s := pushed(t, Options{})
	for _, path := range prometheusRoutes {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
			if rec := request(t, s, method, path); rec.Code == http.StatusTeapot {
				t.Errorf("%s %s goes to a receiver of another protocol", method, path)
			}
		}
	}
}

func TestForeignProtocolsAreHandedOnBehindThePrefix(t *testing.T) {
	for _, prefix := range []string{"", "/prom"} {
		s := pushed(t, Options{RoutePrefix: prefix})
		for _, path := range []string{
			"/influx/write", "/influx/api/v2/write", "/influx/query", "/pushgateway/metrics/job/x/y/z",
			"/api/v1/import", "/api/v1/import/csv", "/api/v1/import/prometheus",
		} {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
				if rec := request(t, s, method, prefix+path); rec.Code != http.StatusTeapot || rec.Body.String() != path {
					t.Errorf("%s %s: %d %s", method, prefix+path, rec.Code, rec.Body)
				}
			}
		}
		if rec := request(t, s, "POST", prefix+"/influx/write", "Sec-Fetch-Site", "cross-site", "Origin", "http://elsewhere"); rec.Code != http.StatusForbidden {
			t.Errorf("a page of another origin may write: %d", rec.Code)
		}
		if rec := request(t, s, "POST", prefix+"/api/v1/importx"); rec.Code == http.StatusTeapot {
			t.Error("/api/v1/importx is taken for an import")
		}
	}
}

func TestForeignProtocolsWaitForTheStore(t *testing.T) {
	s := newServer(t, Options{})
	want(t, s, "/influx/ping", 503, "starting")
	if err := s.Open(sources(t)); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/influx/write", nil))
	if rec.Code != http.StatusNotFound {
		t.Errorf("a server without receivers answers %d", rec.Code)
	}
}

// TestReceiversMayTakeTheirTime reads a body for longer than the server gives requests, by deadlines of the receiver's own.
func TestReceiversMayTakeTheirTime(t *testing.T) {
	var log bytes.Buffer // a log of requests wraps what answers them
	s := newServer(t, Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	src := sources(t)
	src.Push = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Errorf("the deadline of a body cannot be set: %v", err)
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, n, err)
	})
	if err := s.Open(src); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.Config.ReadTimeout = 200 * time.Millisecond
	srv.Start()
	defer srv.Close()
	body, w := io.Pipe()
	go func() {
		for range 4 {
			_, _ = w.Write([]byte("piece"))
			time.Sleep(100 * time.Millisecond)
		}
		_ = w.Close()
	}()
	resp, err := http.Post(srv.URL+"/api/v1/import", "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "20 <nil>\n" {
		t.Errorf("the receiver read %q, %v", text, err)
	}
}
