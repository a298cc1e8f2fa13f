// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/web/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sources answer from a store with one series, m = 7, ten seconds old.
func sources(t *testing.T) api.Sources {
	t.Helper()
	store := &columntest.Store{}
	store.Append(labels.FromStrings("__name__", "m", "job", "a"), columntest.Sample{T: time.Now().Add(-10 * time.Second).UnixMilli(), V: 7})
	e := query.NewEngine(store, query.Options{})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return api.Sources{Engine: e, Data: store, Build: api.BuildInfo{Version: "3.15.0", Tidemark: "0.1.0"}}
}

func openServer(t *testing.T, o Options) *Server {
	t.Helper()
	s := newServer(t, o)
	if err := s.Open(sources(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

func request(t *testing.T, s *Server, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, req)
	return rec
}

// want checks the status of a GET, and that the body contains text.
func want(t *testing.T, s *Server, target string, status int, text string) {
	t.Helper()
	if rec := request(t, s, http.MethodGet, target); rec.Code != status || !strings.Contains(rec.Body.String(), text) {
		t.Errorf("GET %s: %d %q, want %d with %q", target, rec.Code, rec.Body, status, text)
	}
}

func TestServerIsNotReadyUntilItIsOpen(t *testing.T) {
	s := newServer(t, Options{})
	want(t, s, "/-/healthy", 200, "Healthy")
	want(t, s, "/-/ready", 503, "Service Unavailable: starting")
	want(t, s, "/api/v1/query?query=1", 503, "starting")
	want(t, s, "/federate?match[]=m", 503, "starting")
	want(t, s, "/", 200, "not ready: starting")
	want(t, s, "/metrics", 200, "")
	if err := s.Open(sources(t)); err != nil {
		t.Fatal(err)
	}
	want(t, s, "/-/ready", 200, "Ready")
	want(t, s, "/api/v1/query?query=m", 200, `"7"`)
	want(t, s, "/", 200, "Everything is normal.")
	want(t, s, "/version", 200, `"version":"3.15.0"`)
	if rec := request(t, s, http.MethodHead, "/-/ready"); rec.Code != 200 {
		t.Errorf("HEAD /-/ready: %d", rec.Code)
	}
}

func TestProbesTellTheStateOfTheStore(t *testing.T) {
	var ready, healthy error
	s := openServer(t, Options{Ready: func() error { return ready }, Healthy: func() error { return healthy }})
	ready = errors.New("restoring the head")
	want(t, s, "/-/ready", 503, "restoring the head")
	want(t, s, "/-/healthy", 200, "Healthy")
	// What can be answered is answered: the store itself refuses the rest.
	want(t, s, "/api/v1/query?query=m", 200, `"7"`)
	healthy = errors.New("failed sync")
	want(t, s, "/-/healthy", 503, "failed sync")
}

func TestLifecycleIsForbiddenUntilEnabled(t *testing.T) {
	s := openServer(t, Options{})
	for _, path := range []string{"/-/reload", "/-/quit"} {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			if rec := request(t, s, method, path); rec.Code != 403 || rec.Body.String() != "Lifecycle API is not enabled." {
				t.Errorf("%s %s: %d %q", method, path, rec.Code, rec.Body)
			}
		}
		want(t, s, path, 405, "Only POST or PUT requests allowed")
	}
}

func TestLifecycleReloadsAndQuits(t *testing.T) {
	var reloadErr error
	quits := 0
	s := openServer(t, Options{
		EnableLifecycle: true, Reload: func(context.Context) error { return reloadErr }, Quit: func() { quits++ },
	})
	check := func(path string, status int, text string) {
		t.Helper()
		if rec := request(t, s, http.MethodPost, path); rec.Code != status || !strings.Contains(rec.Body.String(), text) {
			t.Errorf("POST %s: %d %q, want %d with %q", path, rec.Code, rec.Body, status, text)
		}
	}
	check("/-/reload", 200, "")
	reloadErr = errors.New("tidemark.yml:7: unknown key")
	check("/-/reload", 500, "failed to reload config: tidemark.yml:7: unknown key")
	check("/-/quit", 200, "Goodbye!")
	check("/-/quit", 200, "already in progress")
	if quits != 1 {
		t.Errorf("quit %d times, want once", quits)
	}
}

func TestRoutesThatChangeSomethingRefuseForeignPages(t *testing.T) {
	s := openServer(t, Options{
		EnableLifecycle: true, EnableAdmin: true, Reload: func(context.Context) error { return nil },
		ExternalURL: &url.URL{Scheme: "https", Host: "metrics.example.com", Path: "/"},
	})
	check := func(path string, refused bool, header ...string) {
		t.Helper()
		rec := request(t, s, http.MethodPost, path, header...)
		if got := rec.Code == http.StatusForbidden; got != refused {
			t.Errorf("POST %s with %q: %d, refused should be %v", path, header, rec.Code, refused)
		}
	}
	for _, path := range []string{"/-/reload", "/api/v1/admin/tsdb/clean_tombstones", "/api/v1/admin/tsdb/delete_series?match[]=m", "/api/v1/write"} {
		check(path, false)
		check(path, true, "Origin", "https://evil.example")
		check(path, true, "Sec-Fetch-Site", "cross-site")
		check(path, true, "Sec-Fetch-Site", "same-site")
		check(path, false, "Sec-Fetch-Site", "same-origin")
		check(path, false, "Origin", "https://metrics.example.com", "Sec-Fetch-Site", "cross-site")
		check(path, false, "Origin", "http://example.com") // httptest's own host.
	}
	check("/api/v1/query?query=m", false, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
}

func TestRoutePrefixMovesEverything(t *testing.T) {
	s := openServer(t, Options{ExternalURL: &url.URL{Scheme: "http", Host: "x", Path: "/prom/"}})
	want(t, s, "/prom/-/ready", 200, "Ready")
	want(t, s, "/prom/api/v1/query?query=m", 200, `"7"`)
	want(t, s, "/prom/federate?match[]=m", 200, "m{")
	want(t, s, "/prom/debug/pprof/", 200, "goroutine")
	want(t, s, "/prom/debug/pprof/goroutine?debug=1", 200, "goroutine profile")
	want(t, s, "/prom/", 200, `href="/prom/api/v1/labels"`)
	want(t, s, "/-/ready", 404, "")
	want(t, s, "/api/v1/query?query=m", 404, "")
	for _, p := range []string{"/", "/prom"} {
		if rec := request(t, s, http.MethodGet, p); rec.Code != 302 || rec.Header().Get("Location") != "/prom/" {
			t.Errorf("GET %s: %d to %q, want 302 to /prom/", p, rec.Code, rec.Header().Get("Location"))
		}
	}
}

func TestPagesOfPrometheusAnswerThePage(t *testing.T) {
	s := openServer(t, Options{PageTitle: "My <metrics>"})
	for _, p := range pages {
		want(t, s, p, 200, "My &lt;metrics&gt;")
	}
	want(t, s, "/nothing", 404, "")
	want(t, s, "/debug/pprof/", 200, "heap")
	want(t, s, "/debug/pprof/cmdline", 200, "")
}

func TestConditionsAreOnThePageAndInTheMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newServer(t, Options{Gatherer: reg, Registerer: reg})
	src := sources(t)
	holds := []api.Condition{{Code: "read_only", Since: time.Unix(0, 0), Effect: "Writes are refused.", NextStep: "Free some space."}}
	src.Conditions = func() []api.Condition { return holds }
	if err := s.Open(src); err != nil {
		t.Fatal(err)
	}
	want(t, s, "/", 200, "Free some space.")
	want(t, s, "/metrics", 200, `tidemark_condition{code="read_only"} 1`)
	want(t, s, "/api/v1/status/conditions", 200,
		`{"code":"read_only","since":"`+time.Unix(0, 0).Format(time.RFC3339)+`","effect":"Writes are refused.","nextStep":"Free some space."}`)
	holds = nil
	want(t, s, "/metrics", 200, `tidemark_condition{code="read_only"} 0`)
	want(t, s, "/metrics", 200, `prometheus_http_requests_total{code="200",handler="/"} 1`)
	want(t, s, "/metrics", 200, `handler="/api/v1/status/conditions"`)
	want(t, s, "/metrics", 200, "prometheus_ready 1")
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	src := sources(t)
	src.Conditions = func() []api.Condition { panic("broken") }
	if err := s.Open(src); err != nil {
		t.Fatal(err)
	}
	want(t, s, "/api/v1/status/conditions", 500, "internal error")
	if !strings.Contains(log.String(), "broken") {
		t.Errorf("the log does not name the panic: %s", &log)
	}
}

func TestRequestsAreLoggedAtLevelDebug(t *testing.T) {
	var log bytes.Buffer
	s := openServer(t, Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	want(t, s, "/nothing", 404, "")
	if line := log.String(); !strings.Contains(line, "path=/nothing") || !strings.Contains(line, "status=404") {
		t.Errorf("log %q", line)
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	s := openServer(t, Options{})
	q := "/api/v1/query_range?start=0&end=1000&step=1&query=time()"
	plain := request(t, s, http.MethodGet, q)
	packed := request(t, s, http.MethodGet, q, "Accept-Encoding", "gzip")
	if packed.Header().Get("Content-Encoding") != "gzip" || packed.Body.Len() > plain.Body.Len()/2 {
		t.Errorf("encoding %q, %d bytes of %d", packed.Header().Get("Content-Encoding"), packed.Body.Len(), plain.Body.Len())
	}
	if enc := plain.Header().Get("Content-Encoding"); enc != "" {
		t.Errorf("encoding %q where none was asked for", enc)
	}
}

// start runs s on a port of the system's choice until the test ends, and returns its base URL.
func start(t *testing.T, s *Server) (base string, stop func() error) {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addresses()[0].String(), stop
}

func fetch(t *testing.T, c *http.Client, req *http.Request) (int, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func newClient(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestServerListensOnSeveralAddressesAndStops(t *testing.T) {
	s := openServer(t, Options{ListenAddresses: []string{"127.0.0.1:0", "127.0.0.1:0"}})
	_, stop := start(t, s)
	for _, a := range s.Addresses() {
		if status, _ := fetch(t, newClient(t), get(t, "http://"+a.String()+"/-/ready")); status != 200 {
			t.Errorf("%s answers %d", a, status)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want(t, s, "/-/ready", 503, "stopping")
	if rec := request(t, s, http.MethodGet, "/api/v1/query?query=1"); rec.Header().Get("X-Prometheus-Stopping") != "true" {
		t.Errorf("headers %v do not tell of the stop", rec.Header())
	}
}

func TestRunningRequestsFinishWhenTheServerStops(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, Options{ListenAddresses: []string{"127.0.0.1:0"}})
	src := sources(t)
	src.Conditions = func() []api.Condition {
		close(entered)
		<-release
		return nil
	}
	if err := s.Open(src); err != nil {
		t.Fatal(err)
	}
	base, stop := start(t, s)
	answered := make(chan int, 1)
	c := newClient(t)
	go func() {
		status, _ := fetch(t, c, get(t, base+"/api/v1/status/conditions"))
		answered <- status
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for !s.stopping.Load() {
		select {
		case err := <-stopped:
			t.Fatalf("stopped with a request running: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	close(release)
	if status := <-answered; status != 200 {
		t.Errorf("the running request got %d", status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestAddressInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newServer(t, Options{ListenAddresses: []string{"127.0.0.1:0", l.Addr().String()}})
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "--web.listen-address") {
		t.Fatalf("error %v, want one that names the address and what to do", err)
	}
}

func TestWebConfigAsksForAPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	// bcrypt of "secret", cost 4.
	text := "basic_auth_users:\n  ops: " + bcryptOfSecret(t) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	base, _ := start(t, openServer(t, Options{ListenAddresses: []string{"127.0.0.1:0"}, ConfigFile: file}))
	c := newClient(t)
	if status, _ := fetch(t, c, get(t, base+"/-/ready")); status != 401 {
		t.Errorf("without a password: %d", status)
	}
	req := get(t, base+"/-/ready")
	req.SetBasicAuth("ops", "secret")
	if status, _ := fetch(t, c, req); status != 200 {
		t.Errorf("with the password: %d", status)
	}
}

func TestBrokenWebConfigEndsTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(file, []byte("no_such_key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := newServer(t, Options{ListenAddresses: []string{"127.0.0.1:0"}, ConfigFile: file}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "no_such_key") {
		t.Fatalf("error %v, want one that names file and key", err)
	}
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	s := openServer(t, Options{ListenAddresses: []string{"127.0.0.1:0"}, MaxConnections: 1})
	base, _ := start(t, s)
	first := newClient(t)
	if status, _ := fetch(t, first, get(t, base+"/-/ready")); status != 200 {
		t.Fatal(status)
	}
	// The first connection is kept alive and holds the only place.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	second := newClient(t)
	if resp, err := second.Do(get(t, base+"/-/ready").WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Fatal("the second connection was served")
	}
	first.CloseIdleConnections()
	if status, _ := fetch(t, second, get(t, base+"/-/ready")); status != 200 {
		t.Fatal(status)
	}
}
