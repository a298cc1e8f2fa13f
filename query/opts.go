// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"time"

	"github.com/prometheus/prometheus/promql"
)

// Opts are promql.QueryOpts with what else a caller of this engine can say. The zero value is the engine's defaults.
type Opts struct {
	// Lookback is how long after its last sample a series is still seen; 0: Options.LookbackDelta.
	Lookback time.Duration
	// PerStep asks for statistics of every step.
	PerStep bool
	// NoStatistics says that the caller will not look at the statistics. Samples that cannot change the answer are
	// then not read, and not counted.
	NoStatistics bool
	// Explain says that the query is going to be explained: what each pass of the optimiser made of it is written down.
	Explain bool
}

var _ promql.QueryOpts = Opts{}

// EnablePerStepStats implements promql.QueryOpts.
func (o Opts) EnablePerStepStats() bool { return o.PerStep }

// LookbackDelta implements promql.QueryOpts.
func (o Opts) LookbackDelta() time.Duration { return o.Lookback }

func explained(opts promql.QueryOpts) bool {
	o, ok := opts.(Opts)
	return ok && o.Explain
}

// unobserved tells whether nobody will look at the statistics of a query: neither its caller nor the query log. Rules
// never do.
func (e *Engine) unobserved(opts promql.QueryOpts) bool {
	e.logMu.RLock()
	defer e.logMu.RUnlock()
	if e.log != nil {
		return false
	}
	o, ok := opts.(Opts)
	return e.rules || ok && o.NoStatistics && !o.PerStep
}
