// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// endpoint answers one request. An error that is no *apiError is answered as an internal one.
type endpoint func(r *http.Request) (answer, error)

// answer is what an endpoint found. Without data the status is 204.
type answer struct {
	data     any
	warnings annotations.Annotations
	query    string   // that warnings point into
	done     func()   // called once the data is written
	run      *running // a query whose answer is written while it runs; then there is no data
	text     string   // an answer that is no JSON; then there is no data
}

// errorType is a class of errors in the words of the API, with the status that goes with it.
type errorType struct {
	name   string
	status int
}

// statusClientClosed is nginx' code for a client that did not wait for the answer.
const statusClientClosed = 499

var (
	errTimeout  = errorType{"timeout", http.StatusServiceUnavailable}
	errCanceled = errorType{"canceled", statusClientClosed}
	errExec     = errorType{"execution", http.StatusUnprocessableEntity}
	errBadData  = errorType{"bad_data", http.StatusBadRequest}
	errNotFound = errorType{"not_found", http.StatusNotFound}
	errInternal = errorType{"internal", http.StatusInternalServerError}
	// errUnavailable is what Prometheus answers with 500 where a flag turned something off.
	errUnavailable = errorType{"unavailable", http.StatusInternalServerError}
	errNotNow      = errorType{"unavailable", http.StatusServiceUnavailable}
)

// apiError is an error with its class.
type apiError struct {
	typ errorType
	err error
}

// Error says what happened, without the class.
func (e *apiError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *apiError) Unwrap() error { return e.err }

func badData(format string, args ...any) error {
	return &apiError{errBadData, fmt.Errorf(format, args...)}
}

func badParam(name string, err error) error {
	return badData("invalid parameter %q: %w", name, err)
}

// classify gives an error of the engine or the store its class.
func classify(err error) error {
	var (
		known       *apiError
		canceled    promql.ErrQueryCanceled
		timeout     promql.ErrQueryTimeout
		store       promql.ErrStorage
		unavailable *sample.UnavailableError
	)
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.As(err, &unavailable):
		return &apiError{errNotNow, err}
	case errors.As(err, &canceled), errors.Is(err, query.ErrCanceled):
		return &apiError{errCanceled, err}
	case errors.As(err, &timeout):
		return &apiError{errTimeout, err}
	case errors.As(err, &store):
		return &apiError{errInternal, err}
	case errors.Is(err, context.Canceled):
		return &apiError{errCanceled, err}
	case errors.Is(err, context.DeadlineExceeded):
		// The store noticed before the engine did; the client shall not see the difference.
		return &apiError{errTimeout, promql.ErrQueryTimeout("query execution")}
	default:
		return &apiError{errExec, err}
	}
}

// serve makes a handler of an endpoint.
func (a *API) serve(f endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.allowOrigin(w, r)
		ans, err := f(r)
		if ans.done != nil {
			defer ans.done()
		}
		switch {
		case err != nil:
			a.respondError(w, r, err)
		case ans.run != nil:
			a.respondRunning(w, r, ans.run)
		case ans.text != "":
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if _, err := io.WriteString(w, ans.text); err != nil {
				a.log.Debug("answer not written", "path", r.URL.Path, "err", err)
			}
		case ans.data == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			a.respond(w, r, ans)
		}
	})
}

// maxAnnotations is how many warnings, and how many infos, an answer lists.
const maxAnnotations = 10

// annotationTexts returns the warnings and infos as they are listed: in order, so that equal answers are equal bytes.
func annotationTexts(a annotations.Annotations, query string) (warnings, infos []string) {
	warnings, infos = a.AsStrings(query, maxAnnotations, maxAnnotations)
	slices.Sort(warnings)
	slices.Sort(infos)
	return warnings, infos
}

func (a *API) respond(w http.ResponseWriter, r *http.Request, ans answer) {
	warnings, infos := annotationTexts(ans.warnings, ans.query)
	// What can fail to encode is encoded before the status is sent.
	body := ans.data
	if !encodable(body) {
		b, err := json.Marshal(body)
		if err != nil {
			a.respondError(w, r, &apiError{errInternal, fmt.Errorf("encode the answer: %w", err)})
			return
		}
		body = json.RawMessage(b)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	e := newEncoder(w)
	defer e.release()
	e.raw(`{"status":"success","data":`)
	e.data(body)
	e.stringList(`,"warnings":`, warnings)
	e.stringList(`,"infos":`, infos)
	e.raw(`}`)
	if err := e.flush(); err != nil {
		a.log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}

func (a *API) respondError(w http.ResponseWriter, r *http.Request, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{errInternal, err}
	}
	if e.typ == errInternal {
		a.log.Error("request failed", "path", r.URL.Path, "err", err)
	}
	var unavailable *sample.UnavailableError
	if errors.As(err, &unavailable) && unavailable.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(unavailable.RetryAfter.Seconds())+1))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.typ.status)
	enc := newEncoder(w)
	defer enc.release()
	enc.raw(`{"status":"error","errorType":`)
	enc.string(e.typ.name)
	enc.raw(`,"error":`)
	enc.string(e.err.Error())
	enc.raw(`}`)
	if err := enc.flush(); err != nil {
		a.log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}
