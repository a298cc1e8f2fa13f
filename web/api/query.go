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

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/httputil"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/tidemarkdb/tidemark/query"
)

// maxPoints is how many steps a range query may have: a week at one a minute, a year at one an hour.
const maxPoints = 11000

// queryData is the answer of a query; stats is JSON, nil unless asked for.
type queryData struct {
	result parser.Value
	stats  json.RawMessage
}

// queryArgs are the arguments that instant and range queries share.
type queryArgs struct {
	text    string
	limit   int
	timeout time.Duration // 0: the engine's
	stats   string
	explain string // how to answer with the plan, "": not
	analyze string // how to answer with what each operator did, "": not
	opts    promql.QueryOpts
}

// prepare makes a query; its error is the fault of the query's text.
type prepare func(ctx context.Context, args queryArgs) (promql.Query, error)

func (a *API) query(r *http.Request) (answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	ts, err := timeParam(r, "time", a.now())
	if err != nil {
		return answer{}, err
	}
	return a.runQuery(r, limit, func(ctx context.Context, args queryArgs) (promql.Query, error) {
		return a.src.Engine.NewInstantQuery(ctx, nil, args.opts, args.text, ts)
	})
}

func (a *API) queryRange(r *http.Request) (answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return answer{}, err
	}
	start, err := parseTime(r.FormValue("start"))
	if err != nil {
		return answer{}, badParam("start", err)
	}
	end, err := parseTime(r.FormValue("end"))
	if err != nil {
		return answer{}, badParam("end", err)
	}
	if end.Before(start) {
		return answer{}, badParam("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := parseDuration(r.FormValue("step"))
	if err != nil {
		return answer{}, badParam("step", err)
	}
	if step <= 0 {
		return answer{}, badParam("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if end.Sub(start)/step > maxPoints {
		return answer{}, badData("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
	}
	return a.runQuery(r, limit, func(ctx context.Context, args queryArgs) (promql.Query, error) {
		return a.src.Engine.NewRangeQuery(ctx, nil, args.opts, args.text, start, end, step)
	})
}

// sharedArgs reads the arguments of both kinds of query.
func sharedArgs(r *http.Request, limit int) (queryArgs, error) {
	args := queryArgs{text: r.FormValue("query"), limit: limit, stats: r.FormValue("stats")}
	if s := r.FormValue("timeout"); s != "" {
		d, err := parseDuration(s)
		if err != nil {
			return args, badParam("timeout", err)
		}
		// A timeout of zero or less has passed already; the shortest one there is says so.
		args.timeout = max(d, 1)
	}
	var err error
	if args.explain, err = explainParam(r, "explain"); err != nil {
		return args, err
	}
	if args.analyze, err = explainParam(r, "analyze"); err != nil {
		return args, err
	}
	var lookback time.Duration
	if s := r.FormValue("lookback_delta"); s != "" {
		d, err := parseDuration(s)
		if err != nil {
			return args, badData("error parsing lookback delta duration: %w", err)
		}
		lookback = d
	}
	args.opts = query.Opts{
		Lookback: lookback, PerStep: args.stats == "all", NoStatistics: args.stats == "",
		Explain: args.explain != "" || args.analyze != "",
	}
	return args, nil
}

// explainParam reads whether and in which form a query is to be explained: "" for no, else json or text.
func explainParam(r *http.Request, name string) (string, error) {
	switch s := r.FormValue(name); s {
	case "", "0", "false":
		return "", nil
	case "1", "true", "json":
		return "json", nil
	case "text":
		return "text", nil
	default:
		return "", badParam(name, fmt.Errorf("%q is not one of 1, json, text", s))
	}
}

func (a *API) runQuery(r *http.Request, limit int, prep prepare) (answer, error) {
	args, err := sharedArgs(r, limit)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if args.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, args.timeout)
	}
	q, err := prep(ctx, args)
	if err != nil {
		defer cancel()
		if ctx.Err() != nil {
			return answer{}, classify(err) // It waited for its turn in vain.
		}
		return answer{}, badParam("query", err)
	}
	ans := answer{query: args.text, done: func() { q.Close(); cancel() }}
	ctx = httputil.ContextFromRequest(httputil.ContextWithPath(ctx, r.URL.Path), r)
	if x, ok := q.(interface{ NoCache() }); ok && r.FormValue("nocache") == "1" {
		x.NoCache()
	}
	if args.explain != "" || args.analyze == "text" {
		return a.explain(ctx, ans, q, args)
	}
	if _, ok := q.(streamer); ok {
		if x, ok := q.(explainer); ok && args.analyze != "" {
			x.Analyze()
		}
		ans.run = &running{ctx: ctx, query: q, args: args, analyze: args.analyze != ""}
		return ans, nil
	}
	return a.runWhole(ctx, ans, q, args)
}

// runWhole runs a query of an engine that does not stream.
func (*API) runWhole(ctx context.Context, ans answer, q promql.Query, args queryArgs) (answer, error) {
	res := q.Exec(ctx)
	if res.Err != nil {
		return ans, classify(res.Err)
	}
	ans.warnings = res.Warnings
	data := &queryData{result: res.Value}
	if cut, ok := truncate(data.result, args.limit); ok {
		data.result = cut
		ans.warnings.Add(errTruncated)
	}
	var err error
	data.stats, err = statsJSON(&ans.warnings, q, args.stats)
	ans.data = data
	return ans, err
}

// explain answers how a query would be evaluated, or as text how it was.
func (*API) explain(ctx context.Context, ans answer, q promql.Query, args queryArgs) (answer, error) {
	x, ok := q.(explainer)
	if !ok {
		return ans, badData("the engine of this server does not explain queries")
	}
	if args.explain == "" {
		x.Analyze()
		if err := runUnsent(ctx, q, args); err != nil {
			return ans, classify(err)
		}
	}
	explanation, err := x.Explain()
	if err != nil {
		return ans, classify(err)
	}
	if args.explain == "text" || args.analyze == "text" {
		ans.text = explanation.String()
	} else {
		ans.data = map[string]any{"explanation": explanation}
	}
	return ans, nil
}

// runUnsent runs a query as if its answer was sent.
func runUnsent(ctx context.Context, q promql.Query, args queryArgs) error {
	s, ok := q.(streamer)
	if !ok {
		return q.Exec(ctx).Err
	}
	e := newEncoder(io.Discard)
	defer e.release()
	_, err := s.Stream(ctx, &resultWriter{e: e, limit: args.limit})
	return err
}

// truncate cuts a result to limit series and reports whether there were more.
func truncate(v parser.Value, limit int) (parser.Value, bool) {
	if limit <= 0 {
		return v, false
	}
	switch v := v.(type) {
	case promql.Matrix:
		if len(v) > limit {
			return v[:limit], true
		}
	case promql.Vector:
		if len(v) > limit {
			return v[:limit], true
		}
	}
	return v, false
}

// statsJSON returns the engine's figures where they were asked for, else nil. As in Prometheus any value asks for
// them, and one that is not documented is warned about.
func statsJSON(warnings *annotations.Annotations, q promql.Query, want string) (json.RawMessage, error) {
	if want == "" {
		return nil, nil
	}
	if want != "true" && want != "all" {
		warnings.Add(fmt.Errorf("value %q for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"", want))
	}
	b, err := json.Marshal(stats.NewQueryStats(q.Stats()))
	if err != nil {
		return nil, fmt.Errorf("encode the query statistics: %w", err)
	}
	return b, nil
}

func (a *API) queryExemplars(r *http.Request) (answer, error) {
	sp, err := spanParams(r)
	if err != nil {
		return answer{}, err
	}
	if sp.maxt < sp.mint {
		return answer{}, badData("end timestamp must not be before start timestamp")
	}
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, &apiError{errBadData, err}
	}
	selectors := parser.ExtractSelectors(expr)
	if len(selectors) == 0 {
		return answer{}, nil
	}
	q, err := a.data.ExemplarQuerier(r.Context())
	if err != nil {
		return answer{}, classify(err)
	}
	found, err := q.Select(sp.mint, sp.maxt, selectors...)
	if err != nil {
		return answer{}, classify(err)
	}
	if found == nil {
		found = []exemplar.QueryResult{}
	}
	return answer{data: found}, nil
}

func (a *API) formatQuery(r *http.Request) (answer, error) {
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, badParam("query", err)
	}
	return answer{data: expr.Pretty(0)}, nil
}

func (a *API) parseQuery(r *http.Request) (answer, error) {
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, badParam("query", err)
	}
	tree, err := describe(expr)
	if err != nil {
		return answer{}, err
	}
	return answer{data: tree}, nil
}
