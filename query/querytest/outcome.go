// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"
)

// Query is a question to an engine.
type Query struct {
	Text       string
	Start, End time.Time
	// Step of a range query; 0 makes the query an instant one at Start.
	Step time.Duration
	// Opts are handed to the engine as they are; nil is allowed.
	Opts promql.QueryOpts
}

// At is an instant query.
func At(text string, ts time.Time) Query { return Query{Text: text, Start: ts, End: ts} }

// Between is a range query.
func Between(text string, start, end time.Time, step time.Duration) Query {
	return Query{Text: text, Start: start, End: end, Step: step}
}

// Instant reports whether q is an instant query.
func (q Query) Instant() bool { return q.Step == 0 }

// String tells everything that is needed to ask q again, times in Unix milliseconds.
func (q Query) String() string {
	if q.Instant() {
		return fmt.Sprintf("instant at %d: %s", q.Start.UnixMilli(), q.Text)
	}
	return fmt.Sprintf("range from %d to %d step %d: %s", q.Start.UnixMilli(), q.End.UnixMilli(), q.Step.Milliseconds(), q.Text)
}

// Outcome is what came of a Query. It shares no memory with the engine.
type Outcome struct {
	// Refused is the error with which the engine refused to prepare the query; all else is zero then.
	Refused error
	Result  *promql.Result
	Samples *stats.QuerySamples
}

// Failed returns the error of the outcome, of preparation or evaluation.
func (o Outcome) Failed() error {
	if o.Refused != nil {
		return o.Refused
	}
	return o.Result.Err
}

// Empty reports whether the outcome is an error or has no series.
func (o Outcome) Empty() bool {
	if o.Failed() != nil {
		return true
	}
	switch v := o.Result.Value.(type) {
	case promql.Vector:
		return len(v) == 0
	case promql.Matrix:
		return len(v) == 0
	}
	return false
}

func prepare(ctx context.Context, e promql.QueryEngine, from storage.Queryable, q Query) (promql.Query, error) {
	if q.Instant() {
		return e.NewInstantQuery(ctx, from, q.Opts, q.Text, q.Start)
	}
	return e.NewRangeQuery(ctx, from, q.Opts, q.Text, q.Start, q.End, q.Step)
}

// Ask prepares and runs q.
func Ask(ctx context.Context, e promql.QueryEngine, from storage.Queryable, q Query) Outcome {
	run, err := prepare(ctx, e, from, q)
	if err != nil {
		return Outcome{Refused: err}
	}
	defer run.Close()
	r := run.Exec(ctx)
	return Outcome{Result: copyResult(r), Samples: copySamples(run.Stats())}
}

func copySamples(s *stats.Statistics) *stats.QuerySamples {
	if s == nil || s.Samples == nil {
		return nil
	}
	c := *s.Samples
	c.TotalSamplesPerStep = slices.Clone(c.TotalSamplesPerStep)
	c.SamplesReadPerStep = slices.Clone(c.SamplesReadPerStep)
	return &c
}

// copyResult copies what Close of the query may use again.
func copyResult(r *promql.Result) *promql.Result {
	c := &promql.Result{Err: r.Err, Warnings: r.Warnings, Value: r.Value}
	switch v := r.Value.(type) {
	case promql.Vector:
		c.Value = slices.Clone(v)
	case promql.Matrix:
		m := make(promql.Matrix, len(v))
		for i, s := range v {
			m[i] = promql.Series{Metric: s.Metric, DropName: s.DropName, Floats: slices.Clone(s.Floats), Histograms: copyHistograms(s.Histograms)}
		}
		c.Value = m
	}
	return c
}

func copyHistograms(points []promql.HPoint) []promql.HPoint {
	if points == nil {
		return nil
	}
	c := make([]promql.HPoint, len(points))
	for i, p := range points {
		c[i] = promql.HPoint{T: p.T, H: p.H.Copy()}
	}
	return c
}
