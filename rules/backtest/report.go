// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/rules"
)

// Report is what rules would have done. As JSON, times are RFC 3339.
type Report struct {
	Start time.Time    `json:"start"`
	End   time.Time    `json:"end"`
	Rules []RuleReport `json:"rules"`
}

// RuleReport is what one rule would have done.
type RuleReport struct {
	File        string `json:"file"`
	Group       string `json:"group"`
	Name        string `json:"name"`
	Type        string `json:"type"` // alerting or recording
	Query       string `json:"query"`
	Evaluations int64  `json:"evaluations"`
	Failures    int64  `json:"failures"`
	LastError   string `json:"lastError,omitempty"`
	Samples     int64  `json:"samples"` // written

	Firings       int        `json:"firings"`       // times that an alert began to fire
	Notifications int        `json:"notifications"` // times that receivers would have been told that an alert fires or has ended
	Episodes      []*Episode `json:"episodes"`      // in the order of their beginning
	LeftOut       int        `json:"leftOut"`       // episodes above the limit
}

// Episode is an alert from pending to its end.
type Episode struct {
	Labels        labels.Labels `json:"labels"`
	Annotations   labels.Labels `json:"annotations"` // when it fired, else when it began
	Pending       time.Time     `json:"pending"`
	Firing        *time.Time    `json:"firing"` // nil: it never fired
	End           *time.Time    `json:"end"`    // nil: it goes on at the end of the backtest
	Notifications int           `json:"notifications"`
}

// book gathers a Report while the evaluations run.
type book struct {
	max    int
	report Report
	rules  [][]ruleBook // by group and rule
}

type ruleBook struct {
	report *RuleReport
	open   map[uint64]*Episode // by hash of the labels
}

func newBook(o *Options, groups []rules.GroupStatus) *book {
	b := &book{max: o.MaxEpisodes, report: Report{Start: o.Start.UTC(), End: o.End.UTC()}}
	n := 0
	for _, g := range groups {
		n += len(g.Rules)
	}
	b.report.Rules = make([]RuleReport, 0, n)
	for _, g := range groups {
		books := make([]ruleBook, len(g.Rules))
		for i := range g.Rules {
			r := RuleReport{File: g.File, Group: g.Name, Name: g.Rules[i].Name, Type: "recording", Query: g.Rules[i].Query, Episodes: []*Episode{}}
			if g.Rules[i].Alerting {
				r.Type = "alerting"
			}
			b.report.Rules = append(b.report.Rules, r)
			books[i] = ruleBook{&b.report.Rules[len(b.report.Rules)-1], map[uint64]*Episode{}}
		}
		b.rules = append(b.rules, books)
	}
	return b
}

// note writes down a step of an alert at ts. That it was only sent again is none: receivers know it.
func (b *book) note(ts time.Time, e *rules.Event) {
	if !e.Changed {
		return
	}
	r, h, ts := &b.rules[e.Group][e.Rule], e.Labels.Hash(), ts.UTC()
	episode := r.open[h]
	if episode == nil {
		if e.State == rules.StateInactive {
			return
		}
		episode = &Episode{Labels: e.Labels, Annotations: e.Annotations, Pending: ts}
		r.open[h] = episode
	}
	if e.Sent {
		r.report.Notifications++
		episode.Notifications++
	}
	switch e.State {
	case rules.StateInactive:
		episode.End = &ts
		delete(r.open, h)
		b.keep(r, episode)
	case rules.StateFiring:
		if episode.Firing == nil {
			episode.Firing, episode.Annotations = &ts, e.Annotations
		}
		r.report.Firings++
	case rules.StateUnknown, rules.StatePending:
	}
}

// keep puts an episode that has ended, or that the backtest leaves open, into the report.
func (b *book) keep(r *ruleBook, e *Episode) {
	if len(r.report.Episodes) >= b.max {
		r.report.LeftOut++
		return
	}
	r.report.Episodes = append(r.report.Episodes, e)
}

// close returns the report.
func (b *book) close(tallies [][]rules.Tally) *Report {
	for gi, books := range b.rules {
		for ri := range books {
			r, n := &books[ri], tallies[gi][ri]
			for _, e := range r.open {
				b.keep(r, e)
			}
			r.report.Evaluations, r.report.Failures, r.report.LastError, r.report.Samples = n.Evaluations, n.Failures, n.LastError, n.Samples
			slices.SortFunc(r.report.Episodes, func(x, y *Episode) int {
				return cmp.Or(x.Pending.Compare(y.Pending), labels.Compare(x.Labels, y.Labels))
			})
		}
	}
	return &b.report
}
