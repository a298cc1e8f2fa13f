// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package influx receives InfluxDB's line protocol, as clients of its versions 1 and 2 send it, and answers what else
// they ask before they write.
//
// A field that is a number is a sample of the metric measurement_field, with the tags as labels and the database, or
// bucket, as the label db. True and false are 1 and 0, texts are counted and left out. Names stay as they are sent.
//
// A Handler is safe for concurrent use and starts no goroutines.
package influx

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// databaseLabel is the label that says what a point was written to.
const databaseLabel = "db"

// emulated is the version that clients are told; by it they choose what they send.
const emulated = "1.8.10"

// Handler serves the routes of an InfluxDB.
type Handler struct {
	receiver *push.Receiver
	routes   *http.ServeMux
}

// New returns a Handler whose paths begin with prefix, such as /influx.
func New(receiver *push.Receiver, prefix string) *Handler {
	h := &Handler{receiver: receiver, routes: http.NewServeMux()}
	for _, path := range []string{"/write", "/api/v2/write"} {
		h.routes.Handle(prefix+path, push.Post(h.write))
	}
	h.routes.HandleFunc(prefix+"/ping", h.ping)
	h.routes.HandleFunc(prefix+"/health", h.health)
	h.routes.HandleFunc(prefix+"/ready", h.ready)
	h.routes.HandleFunc(prefix+"/query", h.query)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Influxdb-Version", emulated)
	w.Header().Set("X-Influxdb-Build", "OSS")
	h.routes.ServeHTTP(w, r)
}

func (h *Handler) write(w http.ResponseWriter, r *http.Request) {
	args := r.URL.Query()
	s, ok := scales[args.Get("precision")]
	if !ok {
		refuse(w, http.StatusBadRequest, "precision "+push.Quoted(args.Get("precision"))+" is not one of n, ns, u, us, µ, ms, s, m, h")
		return
	}
	database := args.Get("db")
	if database == "" {
		database = args.Get("bucket")
	}
	report, err := h.receiver.TakeRequest(w, r, push.Body{Format: &protocol{scale: s, database: database}, Scope: database})
	switch {
	case err != nil:
		refuse(w, push.Status(w.Header(), err), push.Explain(report, err))
	case !report.Complete():
		refuse(w, http.StatusBadRequest, fmt.Sprintf("partial write: %s dropped=%d", report.Message(), report.Bad+report.Outcome.Rejected()))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// refuse answers with a document that holds what clients of either version look for.
func refuse(w http.ResponseWriter, status int, msg string) {
	code := "invalid"
	switch status {
	case http.StatusServiceUnavailable:
		code = "unavailable"
	case http.StatusInternalServerError:
		code = "internal error"
	}
	answer(w, status, map[string]string{"error": msg, "code": code, "message": msg})
}

func answer(w http.ResponseWriter, status int, doc any) {
	text, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client has gone
}

func (h *Handler) ping(w http.ResponseWriter, r *http.Request) {
	if verbose := r.URL.Query().Get("verbose"); verbose != "" && verbose != "0" && verbose != "false" {
		answer(w, http.StatusOK, map[string]string{"version": emulated})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"name": "influxdb", "message": "ready for writes", "status": "pass", "checks": []string{}, "version": emulated,
	})
}

func (h *Handler) ready(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

// statement is what clients ask before they write.
var statement = regexp.MustCompile(`(?i)^\s*(create\s+database|create\s+retention\s+policy|show\s+databases|show\s+retention\s+policies)\b`)

// query answers the statements that clients send before they write: databases need not be created, and none is listed.
func (h *Handler) query(w http.ResponseWriter, r *http.Request) {
	q := r.FormValue("q")
	found := statement.FindStringSubmatch(q)
	if found == nil {
		refuse(w, http.StatusBadRequest, "InfluxQL is not served: ask in PromQL, at /api/v1/query")
		return
	}
	result := map[string]any{"statement_id": 0}
	switch strings.Join(strings.Fields(strings.ToLower(found[1])), " ") {
	case "show databases":
		result["series"] = []any{map[string]any{"name": "databases", "columns": []string{"name"}, "values": []any{}}}
	case "show retention policies":
		result["series"] = []any{map[string]any{"columns": []string{"name", "duration", "shardGroupDuration", "replicaN", "default"}, "values": []any{}}}
	}
	answer(w, http.StatusOK, map[string]any{"results": []any{result}})
}
