// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http/httptest"
	"testing"

	"github.com/gorilla/mux"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// TestAnAgentRefusesWhatIsOfServers knows all endpoints: who adds one must say here, or in ofServers, whose it is.
func TestAnAgentRefusesWhatIsOfServers(t *testing.T) {
	ofAgents := map[string]bool{
		"/metadata": true, "/targets": true, "/targets/metadata": true, "/targets/relabel_steps": true, "/targets/metric_relabel_steps": true,
		"/scrape_pools": true, "/scrape_pools/config": true, "/features": true, "/notifications": true,
		"/status/config": true, "/status/flags": true, "/status/runtimeinfo": true, "/status/buildinfo": true, "/status/walreplay": true,
		"/status/conditions": true, "/status/series_limits": true, "/status/rejected": true,
		"/write": true, "/otlp/v1/metrics": true,
	}
	store := &columntest.Store{}
	engine := query.NewEngine(store, query.Options{})
	a, err := New(Sources{Agent: true, Engine: engine, Data: store}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := mux.NewRouter()
	a.Register(r, nil)
	there := map[string]bool{}
	for _, rt := range a.routes() {
		there[rt.path] = true
		if ofServers[rt.path] == (ofAgents[rt.path] || rt.path == "/read") {
			t.Errorf("%s is not said to be of agents or of servers, or of both", rt.path)
		}
		if ofAgents[rt.path] {
			continue
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(rt.methods[0], rt.path, nil))
		if w.Code < 400 || w.Code == 404 || w.Code == 405 {
			t.Errorf("an agent answers %s with %d", rt.path, w.Code)
		}
	}
	for path := range ofServers {
		if !there[path] {
			t.Errorf("%s is not an endpoint", path)
		}
	}
}
