// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/tidemarkdb/tidemark/query/querytest"
)

// queryLog is a promql.QueryLogger that keeps what it gets, times and trace ids aside.
type queryLog struct {
	lines  []string
	closed int
}

func (l *queryLog) Close() error                           { l.closed++; return nil }
func (*queryLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *queryLog) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l *queryLog) WithGroup(string) slog.Handler          { return l }
func (l *queryLog) Handle(_ context.Context, r slog.Record) error {
	var attrs []string
	r.Attrs(func(a slog.Attr) bool {
		v := a.Value.Any()
		if s, ok := v.(stats.QueryStats); ok {
			v = fmt.Sprintf("total %d read %d", s.Builtin().Samples.TotalQueryableSamples, s.Builtin().Samples.SamplesRead)
		}
		attrs = append(attrs, fmt.Sprintf("%s=%v", a.Key, v))
		return true
	})
	slices.Sort(attrs)
	if strings.HasPrefix(attrs[0], "error=") { // how far it came before it failed is the engine's affair
		attrs = slices.DeleteFunc(attrs, func(a string) bool { return strings.HasPrefix(a, "stats=") })
	}
	l.lines = append(l.lines, fmt.Sprintf("%s %s %q", r.Level, r.Message, attrs))
	return nil
}

// logged is an engine that can be told to log.
type logged interface {
	promql.QueryEngine
	SetQueryLogger(promql.QueryLogger)
}

func TestQueriesAreLoggedAsByPrometheus(t *testing.T) {
	o := querytest.SuiteOptions()
	var lines [2][]string
	for i, e := range []logged{newEngine(t, nil, o), querytest.NewReference(o)} {
		ctx := promql.NewOriginContext(t.Context(), map[string]any{"httpRequest": map[string]string{"path": "/api"}})
		first, second := &queryLog{}, &queryLog{}
		ask := func(q querytest.Query) { querytest.Ask(ctx, e, minutes(t), q) }
		ask(querytest.At("m", time.UnixMilli(600_000)))
		e.SetQueryLogger(first)
		for _, q := range readers() {
			ask(q)
		}
		ask(querytest.At("m + on () m", time.UnixMilli(600_000)))
		ask(querytest.At("m{", time.UnixMilli(600_000)))
		e.SetQueryLogger(second)
		ask(querytest.At("1", time.UnixMilli(600_123)))
		e.SetQueryLogger(nil)
		ask(querytest.At("2", time.UnixMilli(600_000)))
		if first.closed != 1 || second.closed != 1 || len(second.lines) != 1 {
			t.Fatalf("engine %d: loggers closed %d and %d times, %d lines in the second", i, first.closed, second.closed, len(second.lines))
		}
		lines[i] = slices.Concat(first.lines, second.lines)
	}
	if len(lines[0]) != len(readers())+2 {
		t.Errorf("%d lines, want %d", len(lines[0]), len(readers())+2)
	}
	for i := range min(len(lines[0]), len(lines[1])) {
		if lines[0][i] != lines[1][i] {
			t.Errorf("logged %s\n  want %s", lines[0][i], lines[1][i])
		}
	}
}
