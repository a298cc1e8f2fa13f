// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// FillOptions of Fill. All but Pause and Progress are required.
type FillOptions struct {
	Rules      rules.Config // of which alerting rules are left out
	Start, End time.Time    // of the evaluations, both included
	Engine     promql.QueryEngine
	Appender   sample.Appender // the store that Engine reads
	Parser     parser.Parser
	// Pause is called after each evaluation with the time that it took, by who has other things to do; nil: it goes on.
	Pause func(ctx context.Context, took time.Duration)
	// Progress is told now and then which part is done, from 0 to 1; nil: nobody is.
	Progress func(done float64)
}

// Filled is what Fill has done.
type Filled struct {
	Stored int64 `json:"stored"` // samples that are new
	Kept   int64 `json:"kept"`   // samples that the store had already, or had another one for, which it keeps
	// Refused are samples that the store does not take, such as those older than what it keeps.
	Refused   int64  `json:"refused"`
	Failures  int64  `json:"failures"` // evaluations that failed
	LastError string `json:"lastError,omitempty"`
}

// Fill evaluates the recording rules over a range of the past and stores what they give as late samples. What is there
// stays as it is. A rule reads what the rules before it recorded. An error means that it was not finished; what is
// stored stays.
func Fill(ctx context.Context, o FillOptions) (*Filled, error) {
	if err := checkRange(o.Start, o.End); err != nil {
		return nil, err
	}
	o.Rules.OnlyRecording = true
	var ask *asker
	out := &late{Appender: o.Appender}
	trial, err := rules.NewTrial(o.Rules, rules.Options{
		Query: func(ctx context.Context, expr string, ts time.Time) (promql.Vector, error) {
			return ask.query(ctx, expr, ts)
		},
		Appender: out, Parser: o.Parser,
	})
	if err != nil {
		return nil, err
	}
	groups := trial.Groups()
	steps, err := plan(groups, writtenNames(groups), map[string]bool{}, o.Parser)
	if err != nil {
		return nil, err
	}
	ask = newAsker(o.Engine, nil, o.End, steps)
	defer ask.close()
	began := time.Now()
	r := past{trial: trial, start: o.Start, end: o.End, progress: o.Progress}
	err = r.walk(ctx, func(time.Time) {
		if o.Pause != nil {
			o.Pause(ctx, time.Since(began))
			began = time.Now()
		}
	})
	if err == nil {
		err = o.Appender.Durable(ctx, out.last)
	}
	for _, tallies := range trial.Tallies() {
		for _, t := range tallies {
			out.filled.Failures += t.Failures
			if t.LastError != "" {
				out.filled.LastError = t.LastError
			}
		}
	}
	return &out.filled, err
}

// late is an Appender that stores samples of the past and counts what became of them.
type late struct {
	sample.Appender
	filled Filled
	last   sample.LSN
}

// Commit implements sample.Appender. Rows that the store has not taken, because it has one or wants none, are no
// failures of the rule.
func (l *late) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	flags := b.Flags
	b.Flags = nil // a rule of today must not write into the past; this one is to
	lsn, err := l.Appender.Commit(ctx, b, r)
	b.Flags = flags
	if err != nil {
		return lsn, err
	}
	l.last = max(l.last, lsn)
	for i := range b.Len() {
		switch reason := r.At(i); reason {
		case sample.Accepted:
			l.filled.Stored++
		case sample.Same, sample.Conflict:
			l.filled.Kept++
			r.Reason[i] = sample.Same
		case sample.StaleRef: // the rule resolves it again
		default:
			l.filled.Refused++
			r.Reason[i] = sample.Same
		}
	}
	return lsn, nil
}
