// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
)

// NewReference returns Prometheus' engine with the meaning that query.NewEngine gives to o. It has no tracker, so
// that any number of queries run at once.
func NewReference(o query.Options) *promql.Engine {
	if o.LookbackDelta == 0 {
		o.LookbackDelta = query.DefaultLookbackDelta
	}
	if o.Timeout == 0 {
		o.Timeout = query.DefaultTimeout
	}
	if o.MaxSamples == 0 {
		o.MaxSamples = query.DefaultMaxSamples
	}
	if o.EvaluationInterval == nil {
		o.EvaluationInterval = func() time.Duration { return time.Minute }
	}
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples:               o.MaxSamples,
		Timeout:                  o.Timeout,
		LookbackDelta:            o.LookbackDelta,
		NoStepSubqueryIntervalFn: func(int64) int64 { return o.EvaluationInterval().Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       o.Features.PerStepStats,
		EnableDelayedNameRemoval: o.Features.DelayedNameRemoval,
		EnableTypeAndUnitLabels:  o.Features.TypeAndUnitLabels,
		UseStartTimestamps:       o.Features.UseStartTimestamps,
		Parser:                   o.Features.NewParser(),
	})
}

// Pair is an engine to be judged and the one that is right. A Pair whose engines are safe for concurrent use is, too.
type Pair struct {
	Got, Want promql.QueryEngine
	Compare   Comparison
}

// Verdict is what comparing the two answers of a Pair came to.
type Verdict struct {
	// Diff says how the answers differ; "" where they agree or where Open is set.
	Diff string
	// Open is set where the answers differ and the reference does not give its own again over the same series
	// in another order, or ended by a mistake of its own.
	Open bool
	// Want is the answer of the reference.
	Want Outcome
}

// orders is how many other orders are tried before an answer counts as settled. Where Prometheus takes series from a
// map of two, it takes the second one first one time in eight.
const orders = 128

// Judge asks both engines q, the one to be judged over got and the reference over want.
func (p Pair) Judge(ctx context.Context, got, want storage.Queryable, q Query) Verdict {
	v := Verdict{Want: Ask(ctx, p.Want, want, q)}
	answer, err := askGuarded(ctx, p.Got, got, q)
	if err != nil {
		v.Diff = err.Error()
		return v
	}
	v.Diff = p.Compare.Diff(q, answer, v.Want)
	if v.Diff != "" && (crashed(v.Want) || p.open(ctx, want, q, v.Want)) {
		v.Diff, v.Open = "", true
	}
	return v
}

// crashed reports whether the reference ended by a mistake of its own, such as an index out of range: it then says nothing
// about what the answer is.
func crashed(o Outcome) bool {
	_, ok := errors.AsType[runtime.Error](o.Failed())
	return ok
}

// open reports whether the reference answers q differently over the same series in another order.
func (p Pair) open(ctx context.Context, from storage.Queryable, q Query, first Outcome) bool {
	for seed := range uint64(orders) {
		if p.Compare.Diff(q, Ask(ctx, p.Want, Shuffled(from, seed), q), first) != "" {
			return true
		}
	}
	return false
}

// askGuarded turns a panic of the engine into an error, so that a run names the query and goes on.
func askGuarded(ctx context.Context, e promql.QueryEngine, from storage.Queryable, q Query) (o Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the engine panicked: %v", p)
		}
	}()
	return Ask(ctx, e, from, q), nil
}
