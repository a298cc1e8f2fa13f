// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"
	"strings"
	"time"
)

// Status is a limit and how far it is used.
type Status struct {
	Name   string `json:"name"`
	Per    string `json:"per"` // total, or the label
	Max    int    `json:"max"`
	Action string `json:"action"`
	// Series is how many there are; for a limit per value of a label: of the value that has the most.
	Series int `json:"series"`
	// Values are those of the label that have the most series.
	Values    []Value    `json:"values,omitempty"`
	Offenders []Offender `json:"offenders"`
}

// shownValues is how many values a status lists.
const shownValues = 10

// Status returns the limits in the order of the configuration.
func (l *Limiter) Status() []Status {
	out := []Status{}
	for _, x := range *l.limits.Load() {
		s := Status{Name: x.Name, Per: x.per(), Max: x.Max, Action: x.action(), Offenders: x.offenders.list()}
		for i := range s.Offenders {
			s.Offenders[i].Series = l.opts.Store.SeriesWith(x.Label, s.Offenders[i].Value)
		}
		if x.Label == "" {
			s.Series = l.opts.Store.SeriesWith("", "")
		} else if s.Values = l.opts.Store.TopValues(x.Label, shownValues); len(s.Values) > 0 {
			s.Series = s.Values[0].Series
		}
		out = append(out, s)
	}
	return out
}

// Reached is a limit that keeps new series out, or would, now.
type Reached struct {
	Limit  string
	Since  time.Time
	Effect string
}

// Reached returns the limits that have been hit and whose offenders still have as many series as they may.
func (l *Limiter) Reached() []Reached {
	var out []Reached
	for _, x := range *l.limits.Load() {
		r := Reached{Limit: x.Name}
		var who []string
		for _, o := range x.offenders.list() {
			if l.opts.Store.SeriesWith(x.Label, o.Value) < x.Max {
				continue
			}
			if who = append(who, x.describe(o)); r.Since.IsZero() || o.First.Before(r.Since) {
				r.Since = o.First
			}
		}
		if len(who) == 0 {
			continue
		}
		const named = 3
		if n := len(who); n > named {
			who = append(who[:named], fmt.Sprintf("and %d more", n-named))
		}
		effect := "new series are taken all the same"
		if x.Refuse {
			effect = "new series are refused"
		}
		r.Effect = fmt.Sprintf("series limit %q: %s: %s", x.Name, strings.Join(who, "; "), effect)
		out = append(out, r)
	}
	return out
}

// describe names an offender and what of it grows.
func (x *limit) describe(o Offender) string {
	text := fmt.Sprintf("the most series there may be, %d, are reached", x.Max)
	if x.Label != "" {
		text = fmt.Sprintf("%s=%q has the %d series it may have", x.Label, o.Value, x.Max)
	}
	if o.GrowingValues > 1 {
		text += fmt.Sprintf(", label %s grows", o.GrowingLabel)
	}
	return text
}
