// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"strings"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Outcome says what became of a request.
type Outcome struct {
	Floats, Histograms, Exemplars int // stored; those of a replica count that are left out because another's are
	Rows                          int // rows received, those of invalid series included
	Problems                      []Problem
}

// Problem is one kind of reason for which rows were not stored.
type Problem struct {
	What  string // such as "out of order"
	Rows  int
	First string // the first row or series concerned
}

// Rejected returns the number of rows that were not stored.
func (o *Outcome) Rejected() int {
	n := 0
	for _, p := range o.Problems {
		n += p.Rows
	}
	return n
}

// Message tells the sender what was not stored; it is empty if everything was.
func (o *Outcome) Message() string {
	if len(o.Problems) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d samples were not stored", o.Rejected(), o.Rows)
	for i, p := range o.Problems {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%d %s (first: %s)", sep, p.Rows, p.What, p.First)
	}
	return b.String()
}

func (o *Outcome) add(what string, rows int, first func() string) {
	o.Problems = addProblem(o.Problems, what, rows, first)
}

// addProblem counts rows of one kind of problem; first is called for the first of them only.
func addProblem(problems []Problem, what string, rows int, first func() string) []Problem {
	for i := range problems {
		if problems[i].What == what {
			problems[i].Rows += rows
			return problems
		}
	}
	return append(problems, Problem{What: what, Rows: rows, First: first()})
}

// reasonText is what senders are told; Prometheus' words where it has some.
var reasonText = [sample.Reasons]string{
	sample.Conflict:   "duplicate sample for timestamp with another value",
	sample.OutOfOrder: "out of order sample",
	sample.TooOld:     "too old sample",
	sample.TooNew:     "sample too far in the future",
	sample.Invalid:    "invalid value",
	sample.OverLimit:  "sample of a new series while the memory budget has no room for it",
}

// at returns a time in milliseconds for a message.
func at(t int64) string {
	return time.UnixMilli(t).UTC().Format("2006-01-02T15:04:05.000Z")
}
