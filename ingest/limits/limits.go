// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package limits keeps the number of series within bounds that the operator set, and names who goes beyond.
//
// Its nouns: a Rule bounds how many series there may be, in total or for each value of a label; a Limiter is the gate that
// the store asks before it makes a series; an offender is a value whose series reached the bound, with what tells which of
// its labels grows. Series that exist are never touched: a bound is asked about new ones alone.
//
// How many series there are the store's index knows, for every value of every label, so nothing is counted here: figures
// are exact, go down when series leave the head, and need no rebuild at a start. What is bounded is what is remembered of
// offenders: the trackedOffenders of each limit that hit it most, by the space-saving algorithm, and of their labels
// sketches of how many values they have. That memory is charged to an account; without room offenders have no names.
//
// A Limiter is safe for concurrent use. Run is its only goroutine. Asking costs one look into the index per rule under the
// store's lock for new series, about 0.2 us.
package limits

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Rule is one bound.
type Rule struct {
	Name   string // unique
	Label  string // each of whose values may have so many series; empty: all series together
	Max    int
	Refuse bool // new series beyond it are refused; else they are only told of
}

// Value is a value of a label and how many series have it.
type Value struct {
	Value  string `json:"value"`
	Series int    `json:"series"`
}

// Store knows the series of the head.
type Store interface {
	// SeriesWith returns how many have a label with a value; of an empty name: how many there are.
	SeriesWith(name, value string) int
	// TopValues returns the values of a label that the most series have, at most limit.
	TopValues(name string, limit int) []Value
}

// Options of a Limiter. Store is required.
type Options struct {
	Store      Store
	Account    *budget.Account       // for what is known of offenders; nil: not accounted
	Registerer prometheus.Registerer // nil: no metrics are registered
	Logger     *slog.Logger          // nil: nothing is logged
	Now        func() time.Time      // nil: time.Now
}

// Limiter applies the rules.
type Limiter struct {
	opts    Options
	hits    *prometheus.CounterVec
	applied sync.Mutex // held by Apply
	limits  atomic.Pointer[[]*limit]
}

// New returns a Limiter without rules.
func New(o Options) (*Limiter, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Limiter{opts: o, hits: newHits()}
	l.limits.Store(&[]*limit{})
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{l.hits, newCollector(l)} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of series limits: %w", err)
			}
		}
	}
	return l, nil
}

// Apply puts rules in the place of those before. What is known of the offenders of a rule stays where its name and its
// label do.
func (l *Limiter) Apply(rules []Rule) {
	l.applied.Lock()
	defer l.applied.Unlock()
	before := map[[2]string]*offenders{}
	for _, old := range *l.limits.Load() {
		before[[2]string{old.Name, old.Label}] = old.offenders
	}
	next := make([]*limit, 0, len(rules))
	for _, r := range rules {
		key := [2]string{r.Name, r.Label}
		known := before[key]
		delete(before, key)
		if known == nil {
			known = newOffenders(l.opts.Account)
		}
		next = append(next, newLimit(r, known, l.hits))
	}
	l.limits.Store(&next)
	for _, gone := range before {
		gone.forget()
	}
}

// Admit returns nothing where a series with these labels may be made, or why not. count tells how many series have a label
// with a value; of an empty name: how many there are.
func (l *Limiter) Admit(ls labels.Labels, count func(name, value string) int) (refusal string) {
	for _, x := range *l.limits.Load() {
		value := ""
		if x.Label != "" {
			if value = ls.Get(x.Label); value == "" {
				continue
			}
		}
		if count(x.Label, value) < x.Max {
			continue
		}
		x.hits.Inc()
		x.offenders.note(value, ls, l.opts.Now())
		if x.Refuse && refusal == "" {
			refusal = x.why
		}
	}
	return refusal
}

// lookEvery is how often Run looks for offenders; each is told of once, and again after tellAgain while it goes on.
const (
	lookEvery = time.Second
	tellAgain = 10 * time.Minute
)

// Run writes offenders to the log until ctx ends. The log is not written where series are made: who reads it may be slow.
func (l *Limiter) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			l.tell()
		}
	}
}

// tell logs what there is to be told.
func (l *Limiter) tell() {
	now := l.opts.Now()
	for _, x := range *l.limits.Load() {
		for _, o := range x.offenders.untold(now) {
			l.opts.Logger.Warn("a series limit is reached", "limit", x.Name, "action", x.action(), "per", x.per(), "value", o.Value, "max", x.Max,
				"series", l.opts.Store.SeriesWith(x.Label, o.Value), "beyond", o.Hits,
				"growing_label", o.GrowingLabel, "growing_values", o.GrowingValues, "example", o.Example)
		}
	}
}
