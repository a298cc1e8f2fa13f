// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package backtest tells what rules would have done over a range of the past.
//
// Run evaluates the groups of rule files at the very times at which a server would have evaluated them, with the
// server's own state machine (rules.Trial), and returns a Report: for each rule how often it was evaluated and failed,
// for each alert its episodes, from pending to the end, and how often its receivers would have been told. Diff compares
// the reports of two versions.
//
// The rules read the history, but for the metrics that they write themselves: those they read as written in this
// backtest, into a scratch store that the caller provides. So an edited recording rule changes what the alerts behind
// it do. Nothing is written to the history, and nobody is told.
//
// Alerts begin inactive: what was pending or firing before the start is not known. A window of 30 days of a rule that is
// evaluated every 15 seconds has 172,800 evaluations; what reads the history only is asked for up to 512 of them at a
// time, in a range query, whose answers are those of the instant queries. They take 32 MiB at most. Run works on the caller's goroutine.
package backtest

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Options of Run. All but Progress, ResendDelay and MaxEpisodes are required.
type Options struct {
	Rules      rules.Config
	Start, End time.Time // of the evaluations, both included
	Engine     promql.QueryEngine
	History    column.Source
	Scratch    Scratch
	Parser     parser.Parser
	// ResendDelay is how often a firing alert is sent again; default: the server's, 1 min.
	ResendDelay time.Duration
	// MaxEpisodes bounds the episodes that are told of each rule; default 1,000. The others are counted.
	MaxEpisodes int
	// Progress is told now and then which part is done, from 0 to 1; nil: nobody is.
	Progress func(done float64)
}

// Scratch is an empty store for what the rules write.
type Scratch interface {
	sample.Appender
	column.Source
}

const (
	defaultMaxEpisodes = 1000
	alertsMetric       = "ALERTS"
	forStateMetric     = "ALERTS_FOR_STATE"
)

func isAlertSeries(name string) bool { return name == alertsMetric || name == forStateMetric }

// Run evaluates the rules. Rules that fail are in the Report; an error means that there is none.
func Run(ctx context.Context, o Options) (*Report, error) { return run(ctx, o, maxHeld) }

// run is Run with room for so many bytes of answers that are asked for ahead; 0: none is.
func run(ctx context.Context, o Options, room int64) (*Report, error) {
	if err := checkRange(o.Start, o.End); err != nil {
		return nil, err
	}
	if o.MaxEpisodes == 0 {
		o.MaxEpisodes = defaultMaxEpisodes
	}
	var ask *asker
	out := &sink{scratch: o.Scratch, read: map[string]bool{}}
	trial, err := rules.NewTrial(o.Rules, rules.Options{
		Query: func(ctx context.Context, expr string, ts time.Time) (promql.Vector, error) {
			return ask.query(ctx, expr, ts)
		},
		Appender: out, ResendDelay: o.ResendDelay, Parser: o.Parser,
	})
	if err != nil {
		return nil, err
	}
	groups := trial.Groups()
	written := writtenNames(groups)
	steps, err := plan(groups, written, out.read, o.Parser)
	if err != nil {
		return nil, err
	}
	if room == 0 {
		clear(steps)
	}
	ask = newAsker(o.Engine, newOverlay(o.History, o.Scratch, written), o.End, steps)
	ask.room = room
	defer ask.close()
	return evaluate(ctx, &o, trial, groups)
}

func checkRange(start, end time.Time) error {
	if end.After(start) {
		return nil
	}
	return fmt.Errorf("the end, %s, is not after the start, %s", end.UTC().Format(time.RFC3339), start.UTC().Format(time.RFC3339))
}

// evaluate runs the evaluations and gathers what came of them.
func evaluate(ctx context.Context, o *Options, trial *rules.Trial, groups []rules.GroupStatus) (*Report, error) {
	book := newBook(o, groups)
	r := past{trial: trial, start: o.Start, end: o.End, progress: o.Progress}
	err := r.walk(ctx, func(ts time.Time) {
		trial.Events(ts, func(e rules.Event) { book.note(ts, &e) })
	})
	if err != nil {
		return nil, err
	}
	return book.close(trial.Tallies()), nil
}

// past is a range of time over which a Trial is evaluated.
type past struct {
	trial      *rules.Trial
	start, end time.Time
	progress   func(done float64) // nil: nobody is told
}

// progressEvery is how often somebody is told of the progress.
const progressEvery = 200 * time.Millisecond

// walk evaluates each group at its times, and calls then after each time.
func (p *past) walk(ctx context.Context, then func(ts time.Time)) error {
	told := time.Now()
	for ts := p.trial.Next(p.start.Add(-1)); !ts.IsZero() && !ts.After(p.end); ts = p.trial.Next(ts) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.trial.EvalDue(ctx, ts)
		then(ts)
		if now := time.Now(); p.progress != nil && now.Sub(told) > progressEvery {
			told = now
			p.progress(float64(ts.Sub(p.start)) / float64(p.end.Sub(p.start)))
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// writtenNames returns the names of the metrics that the rules write.
func writtenNames(groups []rules.GroupStatus) map[string]bool {
	written := make(map[string]bool)
	for _, g := range groups {
		for i := range g.Rules {
			if r := &g.Rules[i]; r.Alerting {
				written[alertsMetric], written[forStateMetric] = true, true
			} else {
				written[r.Name] = true
			}
		}
	}
	return written
}

// plan returns the interval of each expression that may be asked for ahead, and adds to read the written metrics that
// some rule reads.
func plan(groups []rules.GroupStatus, written, read map[string]bool, p parser.Parser) (map[string]time.Duration, error) {
	steps := make(map[string]time.Duration)
	for _, g := range groups {
		for i := range g.Rules {
			query := g.Rules[i].Query
			expr, err := p.ParseExpr(query)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", g.Rules[i].Name, err)
			}
			names, ahead := reads(expr, written)
			for _, name := range names {
				if written[name] {
					read[name] = true
				}
			}
			if was, again := steps[query]; !ahead || (again && was != g.Interval) || g.Interval < time.Millisecond {
				steps[query] = 0
			} else {
				steps[query] = g.Interval
			}
		}
	}
	return steps, nil
}
