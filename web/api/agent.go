// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/http"
)

// ofServers are the endpoints that an agent does not answer: what asks for samples, rules and alerts, or changes what is
// stored.
var ofServers = map[string]bool{
	"/query": true, "/query_range": true, "/query_exemplars": true, "/format_query": true, "/parse_query": true,
	"/labels": true, "/label/{name}/values": true, "/series": true,
	"/alertmanagers": true, "/alerts": true, "/rules": true, "/rules/backtest": true,
	"/status/tsdb": true, "/status/tsdb/blocks": true,
	"/status/active_queries": true, "/status/active_queries/cancel": true, "/status/top_queries": true,
	"/admin/tsdb/delete_series": true, "/admin/tsdb/clean_tombstones": true, "/admin/tsdb/snapshot": true,
	"/admin/tidemark/deletes": true, "/admin/tidemark/undelete": true, "/admin/tidemark/retention": true,
	"/admin/tidemark/backfill": true, "/admin/tidemark/backfill/cancel": true,
	"/export": true, "/export/csv": true,
}

// errAgent is the answer to who asks an agent, as Prometheus' agent has it.
var errAgent = errors.New("unavailable with Prometheus Agent")

// ErrAgentStorage is the answer to who asks an agent for samples in another way, in the words of Prometheus' agent.
var ErrAgentStorage = errors.New("unsupported operation with WAL-only storage")

// forAgent is a route as an agent has it.
func (a *API) forAgent(rt route) route {
	switch {
	case !a.src.Agent:
	case ofServers[rt.path]:
		rt.handler = nil
		rt.endpoint = func(*http.Request) (answer, error) { return answer{}, &apiError{errExec, errAgent} }
	case rt.path == "/read":
		rt.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, ErrAgentStorage.Error(), http.StatusInternalServerError)
		})
	}
	return rt
}
