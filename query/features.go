// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/features"
)

// Features are the parts of PromQL that Prometheus keeps behind --enable-feature.
type Features struct {
	ExperimentalFunctions  bool // promql-experimental-functions
	ExtendedRangeSelectors bool // promql-extended-range-selectors
	BinopFillModifiers     bool // promql-binop-fill-modifiers
	DelayedNameRemoval     bool // promql-delayed-name-removal
	PerStepStats           bool // promql-per-step-stats
	TypeAndUnitLabels      bool // type-and-unit-labels
	UseStartTimestamps     bool // use-start-timestamps
}

// NewParser returns the parser of the language that f describes. It refuses what nests deeper
// than MaxNesting and what has more operators or larger regular expressions than the limits say.
func (f Features) NewParser() parser.Parser {
	return boundedParser{parser.NewParser(parser.Options{
		EnableExperimentalFunctions:  f.ExperimentalFunctions,
		ExperimentalDurationExpr:     true,
		EnableExtendedRangeSelectors: f.ExtendedRangeSelectors,
		EnableBinopFillModifiers:     f.BinopFillModifiers,
	})}
}

// register tells r what this engine can do, in the names of Prometheus.
func (f Features) register(r features.Collector, p parser.Parser) {
	r.Enable(features.PromQL, "at_modifier")
	r.Enable(features.PromQL, "negative_offset")
	r.Set(features.PromQL, "per_step_stats", f.PerStepStats)
	r.Set(features.PromQL, "delayed_name_removal", f.DelayedNameRemoval)
	r.Set(features.PromQL, "type_and_unit_labels", f.TypeAndUnitLabels)
	r.Enable(features.PromQL, "per_query_lookback_delta")
	r.Enable(features.PromQL, "subqueries")
	p.RegisterFeatures(r)
}
