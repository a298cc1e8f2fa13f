// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Gate is asked before a series is made, whatever way it came. Series that are there are no business of its.
type Gate interface {
	// Admit returns nothing where a series with these labels may be made, or why not in a few words. count tells how many
	// series of the head have a label with a value, those on their way included; of an empty name: how many there are.
	// It is called under a lock that everybody waits for who makes a series, one call at a time.
	Admit(ls labels.Labels, count func(name, value string) int) (refusal string)
}

// SetGate makes g the one that is asked from now on; nil: nobody is.
func (db *DB) SetGate(g Gate) {
	if g == nil {
		db.gate.Store(nil)
		return
	}
	db.gate.Store(&g)
}

// SeriesWith returns how many series of the head have a label with this value; of an empty name: how many there are.
func (db *DB) SeriesWith(name, value string) int {
	if name == "" {
		return db.head.Index().Len()
	}
	return db.head.Index().SeriesWith(name, value)
}

// TopValues returns the values of a label that the most series of the head have, at most limit.
func (db *DB) TopValues(name string, limit int) []index.Stat {
	return db.head.Index().TopValues(name, limit)
}

// Ungated is the store as an appender whose series the gate is not asked about. They count like others. It is for what
// the server itself makes of samples: an alert must not be lost because somebody sends too many series.
func (db *DB) Ungated() sample.Appender { return ungated{db} }

type ungated struct{ *DB }

// Resolve is DB.Resolve without the gate.
func (u ungated) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	return u.resolve(ls, refs, nil)
}

// admission is what a gate is told and answers in one call of Resolve. A nil one admits everything.
type admission struct {
	gate    Gate
	index   *index.Mem
	from    int // where the label sets at hand begin in those of the call
	refused []sample.Refusal

	reserved int                  // series of the batch at hand, which the index does not know yet
	asked    []labels.Label       // about the last series
	counted  map[labels.Label]int // of the reserved, by what was asked
}

// begin goes on with the label sets from one on.
func (a *admission) begin(from int, g *Gate, ix *index.Mem) *admission {
	if g == nil {
		return nil
	}
	if a == nil {
		a = &admission{gate: *g, index: ix}
	}
	a.from, a.reserved = from, 0
	clear(a.counted)
	return a
}

// admits asks about label set i of the batch.
func (a *admission) admits(i int, ls labels.Labels) bool {
	if a == nil {
		return true
	}
	a.asked = a.asked[:0]
	why := a.gate.Admit(ls, a.count)
	if why == "" {
		return true
	}
	a.refused = append(a.refused, sample.Refusal{Index: a.from + i, Why: why})
	return false
}

func (a *admission) count(name, value string) int {
	if name == "" {
		return a.index.Len() + a.reserved
	}
	l := labels.Label{Name: name, Value: value}
	a.asked = append(a.asked, l)
	return a.index.SeriesWith(name, value) + a.counted[l]
}

// took notes that the series that was asked about last is on its way.
func (a *admission) took() {
	if a == nil {
		return
	}
	a.reserved++
	if len(a.asked) > 0 && a.counted == nil {
		a.counted = map[labels.Label]int{}
	}
	for _, l := range a.asked {
		a.counted[l]++
	}
}

// with joins the refusals to the error of a Resolve.
func (a *admission) with(err error) error {
	if a == nil || len(a.refused) == 0 {
		return err
	}
	return &sample.RefusedError{Refused: a.refused, Err: err}
}
