// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TakeRequest takes the body of an HTTP request in: unpacked as its header says, and with the labels of its arguments
// extra_label. Of b it sets the Reader and what of it comes from the request.
func (r *Receiver) TakeRequest(w http.ResponseWriter, req *http.Request, b Body) (Report, error) {
	extra, err := extraLabels(req, b.Extra)
	if err != nil {
		return Report{}, err
	}
	body, err := unpack(req)
	if err != nil {
		return Report{}, err
	}
	defer body.Close()
	control := http.NewResponseController(w)
	b.Reader, b.Extra, b.Sender = body, extra, req.RemoteAddr
	b.Deadline = func(t time.Time) error {
		_ = control.SetReadDeadline(t) // not every connection has one
		return nil
	}
	return r.Take(req.Context(), b)
}

// ArgumentError is a mistake in the arguments of a request.
type ArgumentError struct{ Msg string }

// Error returns what is wrong.
func (e *ArgumentError) Error() string { return e.Msg }

// extraLabels returns the labels that the arguments extra_label=name=value give to all series, after those given.
func extraLabels(r *http.Request, given []labels.Label) ([]labels.Label, error) {
	args := r.URL.Query()["extra_label"]
	if len(args) == 0 {
		return given, nil
	}
	seen := map[string]bool{}
	out := append([]labels.Label(nil), given...)
	for _, l := range given {
		seen[l.Name] = true
	}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		switch {
		case !ok || !model.UTF8Validation.IsValidLabelName(name) || !model.LabelValue(value).IsValid():
			return nil, &ArgumentError{fmt.Sprintf("extra_label=%s is not name=value", Quoted(arg))}
		case seen[name]:
			return nil, &ArgumentError{fmt.Sprintf("extra_label %s is there twice", Quoted(name))}
		}
		seen[name] = true
		out = append(out, labels.Label{Name: name, Value: value})
	}
	return out, nil
}

// Status returns the HTTP status of an error of Take; for 503 it sets the header that says when to come again.
func Status(h http.Header, err error) int {
	if _, ok := errors.AsType[*ArgumentError](err); ok {
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[*encodingError](err); ok {
		return http.StatusUnsupportedMediaType
	}
	if _, ok := errors.AsType[*BodyError](err); ok {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return http.StatusRequestTimeout
		}
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[*ingest.TooLargeError](err); ok { // and no other memory than that of all requests would do
		return http.StatusRequestEntityTooLarge
	}
	unavailable, closed := errors.AsType[*sample.UnavailableError](err)
	_, full := errors.AsType[*budget.ExceededError](err)
	if !closed && !full && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return http.StatusInternalServerError
	}
	after := 5 * time.Second
	if closed && unavailable.RetryAfter > 0 {
		after = unavailable.RetryAfter
	}
	h.Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	return http.StatusServiceUnavailable
}

// Answer tells a client of the import routes what became of its body: 204 where everything is stored, else a document
// like those of Prometheus' API.
func Answer(w http.ResponseWriter, report Report, err error) {
	if err == nil && report.Complete() {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	type data struct {
		Stored   int `json:"stored"`
		Lines    int `json:"lines"`
		BadLines int `json:"badLines"`
		Rejected int `json:"rejected"`
	}
	doc := struct {
		Status    string `json:"status"`
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
		Data      data   `json:"data"`
	}{"error", "bad_data", report.Message(), data{report.Stored(), report.Lines, report.Bad, report.Outcome.Rejected()}}
	code := http.StatusBadRequest
	if err != nil {
		code = Status(w.Header(), err)
		doc.Error = Explain(report, err)
		if code >= http.StatusInternalServerError {
			doc.ErrorType = map[bool]string{true: "unavailable", false: "internal"}[code == http.StatusServiceUnavailable]
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text) // the sender has gone
}

// Explain returns an error of Take with what was stored before it.
func Explain(report Report, err error) string {
	if report.Lines == 0 {
		return err.Error()
	}
	if report.Complete() {
		return fmt.Sprintf("%v; before that %d samples were stored", err, report.Stored())
	}
	return fmt.Sprintf("%v; before that %s", err, report.Message())
}

// Gate serves h while on says so, and else what turns it on.
func Gate(on func() bool, word string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !on() {
			http.Error(w, fmt.Sprintf("this protocol is not received: add %q to tidemark.receive.http in the configuration and reload it", word), http.StatusNotFound)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Post answers requests of other methods than POST and PUT.
func Post(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost && r.Method != http.MethodPut {
			w.Header().Set("Allow", "POST, PUT")
			http.Error(w, "samples are sent by POST", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	})
}
