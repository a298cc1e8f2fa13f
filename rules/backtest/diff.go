// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Difference is what another version of the rules would have done differently. Episodes are those that fired.
type Difference struct {
	Rule  string     `json:"rule"`
	Added []*Episode `json:"added"` // only the new version fires
	Gone  []*Episode `json:"gone"`  // only the old one does
	Moved []Move     `json:"moved"` // both do, at other times
}

// Move is an episode of both versions.
type Move struct {
	Before *Episode `json:"before"`
	After  *Episode `json:"after"`
}

// Diff returns the alerting rules whose alerts would have fired otherwise, by name. Rules of one name count as one;
// episodes of two versions are the same one if their labels are equal and they overlap.
func Diff(before, after *Report) []Difference {
	old, now := fired(before), fired(after)
	var names []string
	for _, r := range slices.Concat(before.Rules, after.Rules) {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	var out []Difference
	for _, name := range names {
		d := compare(old[name], now[name], before.End)
		if d.Rule = name; len(d.Added)+len(d.Gone)+len(d.Moved) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// fired returns the episodes that fired, by rule.
func fired(r *Report) map[string][]*Episode {
	out := make(map[string][]*Episode)
	for i := range r.Rules {
		for _, e := range r.Rules[i].Episodes {
			if e.Firing != nil {
				out[r.Rules[i].Name] = append(out[r.Rules[i].Name], e)
			}
		}
	}
	return out
}

func compare(before, after []*Episode, end time.Time) Difference {
	d := Difference{Added: []*Episode{}, Gone: []*Episode{}, Moved: []Move{}}
	taken := make([]bool, len(after))
	byLabels := make(map[uint64][]int, len(after))
	for i, e := range after {
		h := e.Labels.Hash()
		byLabels[h] = append(byLabels[h], i)
	}
	for _, b := range before {
		found := false
		for _, i := range byLabels[b.Labels.Hash()] {
			a := after[i]
			if taken[i] || !labels.Equal(a.Labels, b.Labels) || !overlap(a, b, end) {
				continue
			}
			taken[i], found = true, true
			if !a.Firing.Equal(*b.Firing) || !a.end(end).Equal(b.end(end)) {
				d.Moved = append(d.Moved, Move{b, a})
			}
			break
		}
		if !found {
			d.Gone = append(d.Gone, b)
		}
	}
	for i, a := range after {
		if !taken[i] {
			d.Added = append(d.Added, a)
		}
	}
	return d
}

// end returns when the episode ended; last where it goes on.
func (e *Episode) end(last time.Time) time.Time {
	if e.End == nil {
		return last
	}
	return *e.End
}

func overlap(a, b *Episode, last time.Time) bool {
	return !a.Firing.After(b.end(last)) && !b.Firing.After(a.end(last))
}
