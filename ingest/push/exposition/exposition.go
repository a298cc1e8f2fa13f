// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package exposition receives what a target would show to a scrape: by an import route, and by the routes of a
// Pushgateway.
//
// Prometheus' text format is read line by line by a reader of our own, which a fuzz test holds against Prometheus'.
// OpenMetrics and protobuf go through Prometheus' parsers and are limited in size. Samples without a time get that of
// their receipt. Other than in a Pushgateway they are stored once, and not again and again until they are deleted.
//
// A Handler is safe for concurrent use and starts no goroutines.
package exposition

import (
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// maxBody is how long a body may be that is taken as a whole.
const maxBody = 32 << 20

// Handler serves both kinds of routes.
type Handler struct{ receiver *push.Receiver }

// New returns a Handler.
func New(receiver *push.Receiver) *Handler { return &Handler{receiver} }

// Import takes a body in any of the formats. It answers like the other import routes.
func (h *Handler) Import(w http.ResponseWriter, r *http.Request) {
	report, err := h.take(w, r, nil)
	push.Answer(w, report, err)
}

// take reads the body of a request in the format that it says it is.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, extra []labels.Label) (push.Report, error) {
	body := push.Body{Format: &text{}, Extra: extra}
	contentType := r.Header.Get("Content-Type")
	switch media, _, _ := mime.ParseMediaType(contentType); media {
	case "application/openmetrics-text":
		body.Format, body.Whole, body.MaxLine = &parsed{contentType: contentType, lines: true}, true, maxBody
	case "application/vnd.google.protobuf":
		body.Format, body.Whole, body.MaxLine = &parsed{contentType: contentType}, true, maxBody
	}
	return h.receiver.TakeRequest(w, r, body)
}

// Gateway returns a handler of the paths below prefix + "/metrics/job/".
func (h *Handler) Gateway(prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
		switch {
		case path == "/-/healthy" || path == "/-/ready":
			fmt.Fprintln(w, "OK")
			return
		case !ok || !strings.HasPrefix(path, "/metrics/job"):
			http.NotFound(w, r)
			return
		}
		group, err := groupOf(strings.TrimPrefix(path, "/metrics/"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		switch r.Method {
		case http.MethodPost, http.MethodPut:
			h.push(w, r, group)
		case http.MethodDelete:
			// Nothing is kept that would have to be forgotten: what was pushed is not written again.
			w.WriteHeader(http.StatusAccepted)
		default:
			w.Header().Set("Allow", "POST, PUT, DELETE")
			http.Error(w, "metrics are pushed by POST or PUT", http.StatusMethodNotAllowed)
		}
	})
}

// push stores a body, and when it came.
func (h *Handler) push(w http.ResponseWriter, r *http.Request, group []labels.Label) {
	report, err := h.take(w, r, group)
	if err == nil {
		line := fmt.Sprintf("push_time_seconds %.3f\n", float64(time.Now().UnixMilli())/1000)
		_, err = h.receiver.Take(r.Context(), push.Body{Format: &text{}, Reader: strings.NewReader(line), Extra: group})
	}
	switch {
	case err != nil:
		http.Error(w, push.Explain(report, err), push.Status(w.Header(), err))
	case !report.Complete():
		http.Error(w, report.Message(), http.StatusBadRequest)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// groupOf reads job/NAME/LABEL/VALUE/..., where a label that ends with @base64 has a value that is encoded so.
func groupOf(path string) ([]labels.Label, error) {
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	if strings.HasSuffix(path, "/") && len(parts)%2 == 1 {
		parts = append(parts, "") // the value of the last label is empty
	}
	if len(parts)%2 != 0 {
		return nil, errors.New("the path " + push.Quoted(path) + " has a label without a value")
	}
	var out []labels.Label
	seen := map[string]bool{}
	for i := 0; i < len(parts); i += 2 {
		name, err := url.PathUnescape(parts[i])
		if err != nil {
			return nil, fmt.Errorf("the path of the group: %w", err)
		}
		value, err := url.PathUnescape(parts[i+1])
		if err != nil {
			return nil, fmt.Errorf("the path of the group: %w", err)
		}
		if plain, encoded := strings.CutSuffix(name, "@base64"); encoded {
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return nil, fmt.Errorf("the value of label %s is no base64: %w", push.Quoted(plain), err)
			}
			name, value = plain, string(b)
		}
		if i == 0 && value == "" {
			return nil, fmt.Errorf("the name of the job is missing")
		}
		switch {
		case !model.UTF8Validation.IsValidLabelName(name) || strings.HasPrefix(name, model.ReservedLabelPrefix):
			return nil, errors.New(push.Quoted(name) + " is no name of a label of a group")
		case !model.LabelValue(value).IsValid():
			return nil, errors.New("the value of label " + push.Quoted(name) + " is not UTF-8")
		case seen[name]:
			return nil, errors.New("label " + push.Quoted(name) + " is there twice")
		}
		seen[name] = true
		out = append(out, labels.Label{Name: name, Value: value})
	}
	return out, nil
}
