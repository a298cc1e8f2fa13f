// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/stats"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// account tells the query log, the slow log, the record of texts and the metrics about a query that has ended.
func (q *Query) account(ctx context.Context, entry *activeQuery, err error) {
	e, took := q.engine, time.Since(entry.Since)
	e.top.add(Top{
		Query: q.text, Range: entry.End.Sub(entry.Start), Rules: e.rules, Count: 1, Failed: failures(err),
		Wall: took, Slowest: took, Samples: q.samples.SamplesRead, Peak: entry.account.Peak(), Last: time.Now(),
	})
	if limit := limitOf(err); limit != "" {
		e.metrics.refused.WithLabelValues(limit).Inc()
	}
	if bug, ok := errors.AsType[*operator.PanicError](err); ok {
		e.opts.Logger.Error("a query ended by a mistake of the engine; please report it", "query", q.text, "panic", bug.Value, "stack", string(bug.Stack))
	}
	if slow := e.opts.SlowLog(); slow > 0 && took >= slow {
		e.metrics.slow.Inc()
		e.opts.Logger.Warn("slow query", "query", q.text, "duration", took, "start", entry.Start.UTC(), "end", entry.End.UTC(), "step", entry.Step,
			"rules", e.rules, "samples_read", q.samples.SamplesRead, "peak_memory_bytes", entry.account.Peak(), "err", err)
	}
	q.log(ctx, entry, err)
}

func failures(err error) int64 {
	if err != nil {
		return 1
	}
	return 0
}

// limitOf names the limit that ended a query, if one did.
func limitOf(err error) string {
	var (
		memory  *budget.ExceededError
		samples promql.ErrTooManySamples
		timeout promql.ErrQueryTimeout
	)
	switch {
	case errors.As(err, &memory):
		return limitMemory
	case errors.As(err, &samples):
		return limitSamples
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded): // the latter while it waited
		return limitTimeout
	default:
		return ""
	}
}

// log writes the line of the query log, in the fields that Prometheus' has.
func (q *Query) log(ctx context.Context, entry *activeQuery, err error) {
	e := q.engine
	e.logMu.RLock()
	defer e.logMu.RUnlock()
	if e.log == nil {
		return
	}
	attrs := []slog.Attr{slog.Any("params", map[string]any{
		"query": q.text, "start": logTime(entry.Start), "end": logTime(entry.End), "step": int64(entry.Step / time.Second),
	})}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	attrs = append(attrs, slog.Any("stats", stats.NewQueryStats(q.Stats())))
	span := trace.SpanFromContext(ctx).SpanContext()
	attrs = append(attrs, slog.Any("spanID", span.SpanID()), slog.Any("traceID", span.TraceID())) //nolint:sloglint // Prometheus' names
	for _, k := range slices.Sorted(maps.Keys(entry.Origin)) {
		attrs = append(attrs, slog.Any(k, entry.Origin[k]))
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "promql query logged", 0)
	record.AddAttrs(attrs...)
	if err := e.log.Handle(context.WithoutCancel(ctx), record); err != nil {
		e.metrics.logFailures.Inc()
		e.opts.Logger.Error("a query could not be logged", "err", err)
	}
}

func logTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
