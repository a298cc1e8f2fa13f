// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// trackedOffenders is how many offenders of one limit are known by name.
const trackedOffenders = 16

// Offender is a value whose series reached a limit.
type Offender struct {
	Value  string    `json:"value"`  // of the limit's label; empty where the limit is one in total
	Series int       `json:"series"` // that have it now
	Hits   uint64    `json:"hits"`   // new series that came while the limit was reached, those of a forgotten offender before it included
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	// GrowingLabel is the label that has the most values among those new series, about GrowingValues.
	GrowingLabel  string `json:"growingLabel"`
	GrowingValues int    `json:"growingValues"`
	Example       string `json:"example"` // labels of one of the last
}

// offender is what is known of one.
type offender struct {
	value       string
	hits        uint64
	first, last time.Time
	told        time.Time // when the log was last told of it
	toldHits    uint64
	shown       time.Time // when the example was taken
	example     string
	growth      growth
	charged     int64
}

// forgetAfter is how long after the last hit the next one is a new beginning.
const forgetAfter = 10 * time.Minute

// offenders are those of one limit.
type offenders struct {
	account *budget.Account
	mu      sync.Mutex
	known   []*offender // guarded by mu; at most trackedOffenders
	window  time.Time   // guarded by mu; when the log was told of the first of recent
	recent  int         // guarded by mu; of how many it was told since
}

func newOffenders(a *budget.Account) *offenders { return &offenders{account: a} }

// note counts a series with labels ls that came while value had as many as it may have.
func (s *offenders) note(value string, ls labels.Labels, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.findLocked(value)
	if o == nil {
		return
	}
	if now.Sub(o.last) > forgetAfter {
		o.first, o.told = now, time.Time{}
		o.growth.reset()
	}
	o.hits++
	o.last = now
	o.growth.add(ls)
	if now.Sub(o.shown) >= time.Second {
		o.shown, o.example = now, show(ls)
	}
}

// findLocked returns the offender, in the place of the one with the fewest hits where there are too many; nil where there
// is no memory for it.
func (s *offenders) findLocked(value string) *offender {
	fewest := -1
	for i, o := range s.known {
		if o.value == value {
			return o
		}
		if fewest < 0 || o.hits < s.known[fewest].hits {
			fewest = i
		}
	}
	bytes := offenderBytes + int64(len(value))
	if s.account.Reserve(bytes) != nil {
		return nil
	}
	o := &offender{value: strings.Clone(value), charged: bytes}
	if len(s.known) < trackedOffenders {
		s.known = append(s.known, o)
		return o
	}
	// It may have been here before and been forgotten: its hits are at most those of the one that goes.
	o.hits = s.known[fewest].hits
	s.account.Release(s.known[fewest].charged)
	s.known[fewest] = o
	return o
}

// list returns the offenders, those with the most hits first.
func (s *offenders) list() []Offender {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Offender, 0, len(s.known))
	for _, o := range s.known {
		out = append(out, o.describe())
	}
	slices.SortStableFunc(out, func(a, b Offender) int { return cmp.Compare(b.Hits, a.Hits) })
	return out
}

func (o *offender) describe() Offender {
	label, n := o.growth.most()
	return Offender{
		Value: o.value, Hits: o.hits, First: o.first, Last: o.last, GrowingLabel: label, GrowingValues: n, Example: o.example,
	}
}

// untold returns the offenders that the log is to be told of, and takes them for told; at most trackedOffenders within
// tellAgain, however many take turns.
func (s *offenders) untold(now time.Time) []Offender {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.window) >= tellAgain {
		s.window, s.recent = now, 0
	}
	var out []Offender
	for _, o := range s.known {
		if s.recent < trackedOffenders && o.hits != o.toldHits && now.Sub(o.told) >= tellAgain {
			s.recent++
			o.told, o.toldHits = now, o.hits
			out = append(out, o.describe())
		}
	}
	return out
}

// forget gives back all memory.
func (s *offenders) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.known {
		s.account.Release(o.charged)
	}
	s.known = nil
}

// show returns labels for a message, cut where they are long.
func show(ls labels.Labels) string {
	const most = 300 // bytes; enough to find the series by
	text := ls.String()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
