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
	"time"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
)

// maxRulesBytes bounds the text of the rules of a backtest.
const maxRulesBytes = 8 << 20

// OpenScratch returns an empty store for a backtest, and what gives it back.
type OpenScratch func(ctx context.Context) (backtest.Scratch, func() error, error)

// backtestRequest is what POST /rules/backtest takes. Times are as everywhere in the API.
type backtestRequest struct {
	Rules    string `json:"rules"`    // the text of a rule file
	Against  string `json:"against"`  // that of another version, to compare with; empty: none
	Start    string `json:"start"`    //
	End      string `json:"end"`      // empty: now
	Interval string `json:"interval"` // of groups that set none; empty: one minute
}

// backtestAnswer is the data of the last line of the answer.
type backtestAnswer struct {
	Report     *backtest.Report      `json:"report"`
	Against    *backtest.Report      `json:"against,omitempty"`
	Difference []backtest.Difference `json:"difference,omitempty"` // of the report to that of Against
}

// backtests serves POST /rules/backtest: lines of JSON, {"progress": 0.25} while it goes on and one in the form of all
// other answers at the end. One runs at a time; a client that goes away ends it.
func (a *API) backtests() http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.allowOrigin(w, r)
		lines := &jsonLines{w: w, flush: http.NewResponseController(w).Flush}
		var data *backtestAnswer
		o, texts, err := a.backtestOptions(w, r)
		if err == nil {
			select {
			case turn <- struct{}{}:
				data, err = a.backtest(r.Context(), o, texts, lines)
				<-turn
			default:
				err = &apiError{errNotNow, errors.New("another backtest is running: try again when it has ended")}
			}
		}
		switch {
		case err != nil && lines.n == 0:
			a.respondError(w, r, err)
		case err != nil:
			lines.write(map[string]string{"status": "error", "errorType": typeOf(err).name, "error": err.Error()})
		default:
			lines.write(map[string]any{"status": "success", "data": data})
		}
		if lines.err != nil {
			a.log.Debug("answer not written", "path", r.URL.Path, "err", lines.err)
		}
	})
}

func typeOf(err error) errorType {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.typ
	}
	return errInternal
}

// jsonLines writes an answer line by line, each as soon as it is there.
type jsonLines struct {
	w     http.ResponseWriter
	flush func() error
	n     int
	err   error // the first
}

func (l *jsonLines) write(v any) {
	if l.n == 0 {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	l.n++
	l.err = errors.Join(l.err, json.NewEncoder(l.w).Encode(v), l.flush())
}

// backtestOptions reads a request. The texts are the rules and what they are compared with.
func (a *API) backtestOptions(w http.ResponseWriter, r *http.Request) (backtest.Options, []string, error) {
	var req backtestRequest
	var o backtest.Options
	if a.src.Scratch == nil {
		return o, nil, &apiError{errUnavailable, errors.New("this server has no place for backtests")}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRulesBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return o, nil, badData("the body must be a JSON object with rules, start and end: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return o, nil, badData("there is something after the JSON object of the body")
	}
	var err error
	if o.Start, err = parseTime(req.Start); err != nil {
		return o, nil, badParam("start", err)
	}
	o.End = a.now()
	if req.End != "" {
		if o.End, err = parseTime(req.End); err != nil {
			return o, nil, badParam("end", err)
		}
	}
	if req.Interval != "" {
		if o.Rules.Interval, err = parseDuration(req.Interval); err != nil || o.Rules.Interval <= 0 {
			return o, nil, badParam("interval", errors.Join(err, errors.New("it must be a positive duration")))
		}
	}
	o.Rules.Files = []string{"rules"}
	o.Rules.ExternalLabels, o.Rules.ExternalURL = a.externalLabels(), a.opts.ExternalURL.String()
	o.Engine, o.History, o.Parser = a.src.Engine, a.src.Data, a.parser
	texts := []string{req.Rules}
	if req.Against != "" {
		texts = append(texts, req.Against)
	}
	for i, text := range texts {
		c := o.Rules
		c.Read = reader(text)
		if err := rules.Check(c, rules.Options{Parser: a.parser}); err != nil {
			return o, nil, badData("%s: %w", [...]string{"rules", "against"}[i], err)
		}
	}
	return o, texts, nil
}

func reader(text string) func(string) ([]byte, error) {
	return func(string) ([]byte, error) { return []byte(text), nil }
}

// backtest runs the backtests of the texts one after the other.
func (a *API) backtest(ctx context.Context, o backtest.Options, texts []string, lines *jsonLines) (*backtestAnswer, error) {
	if !o.End.After(o.Start) {
		return nil, badData("the end, %s, is not after the start, %s", o.End.Format(time.RFC3339), o.Start.Format(time.RFC3339))
	}
	reports := make([]*backtest.Report, len(texts))
	for i, text := range texts {
		o.Rules.Read = reader(text)
		o.Progress = func(done float64) {
			lines.write(map[string]float64{"progress": (float64(i) + done) / float64(len(texts))})
		}
		var err error
		if reports[i], err = a.backtestOne(ctx, o); err != nil {
			return nil, err
		}
	}
	out := &backtestAnswer{Report: reports[0]}
	if len(reports) > 1 {
		out.Against, out.Difference = reports[1], backtest.Diff(reports[1], reports[0])
	}
	return out, nil
}

func (a *API) backtestOne(ctx context.Context, o backtest.Options) (_ *backtest.Report, err error) {
	scratch, release, err := a.src.Scratch(ctx)
	if err != nil {
		return nil, &apiError{errInternal, fmt.Errorf("make a place for the backtest: %w", err)}
	}
	defer func() { err = errors.Join(err, release()) }()
	o.Scratch = scratch
	r, err := backtest.Run(ctx, o)
	if err != nil {
		return nil, classify(err)
	}
	return r, nil
}
