// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// limit is a rule in force.
type limit struct {
	Rule

	why       string // the refusal
	hits      prometheus.Counter
	offenders *offenders
}

func newLimit(r Rule, known *offenders, hits *prometheus.CounterVec) *limit {
	x := &limit{Rule: r, offenders: known}
	x.hits = hits.WithLabelValues(r.Name, x.action())
	x.why = fmt.Sprintf("sample of a new series beyond the series limit %q of %d in total", r.Name, r.Max)
	if r.Label != "" {
		x.why = fmt.Sprintf("sample of a new series beyond the series limit %q of %d for each value of the label %s", r.Name, r.Max, r.Label)
	}
	return x
}

// action is what the rule does, in the word of the configuration.
func (x *limit) action() string {
	if x.Refuse {
		return "reject_new"
	}
	return "warn"
}

// per is what is counted, in the word of the configuration.
func (x *limit) per() string {
	if x.Label == "" {
		return "total"
	}
	return x.Label
}
