// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package jsonlines imports what the export routes of Tidemark and VictoriaMetrics write: a JSON document on each line,
// which holds samples of one series.
//
//	{"metric":{"__name__":"up","job":"node"},"values":[1,null],"timestamps":[1700000000000,1700000015000]}
//
// Values are numbers, null for NaN, and "Infinity" and "-Infinity". Tidemark writes what else there is in members of
// their own, which others pass over: "nan" has the bits of NaNs that are not the usual one, such as stale markers;
// "starts" the start timestamps; "histograms", "histogram_timestamps" and "histogram_starts" native histograms.
//
// A Handler is safe for concurrent use and starts no goroutines.
package jsonlines

import (
	"net/http"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// maxLine is how long a line may be: 3 million samples of a series that changes.
const maxLine = 64 << 20

// Handler serves the import route.
type Handler struct{ receiver *push.Receiver }

// New returns a Handler.
func New(receiver *push.Receiver) *Handler { return &Handler{receiver} }

// ServeHTTP takes a body in.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report, err := h.receiver.TakeRequest(w, r, push.Body{Format: &documents{}, MaxLine: maxLine})
	push.Answer(w, report, err)
}
