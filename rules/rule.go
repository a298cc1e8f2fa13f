// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql/parser"
	"gopkg.in/yaml.v3"
)

// Errors of an evaluation whose result cannot be written.
var (
	ErrDuplicateRecordingLabelSet = errors.New("vector contains metrics with the same labelset after applying rule labels")
	ErrDuplicateAlertLabelSet     = errors.New("vector contains metrics with the same labelset after applying alert labels")
)

// Health is how the last evaluation of a rule went, in the API's words.
type Health string

// The healths.
const (
	HealthUnknown Health = "unknown"
	HealthGood    Health = "ok"
	HealthBad     Health = "err"
)

// rule is one recording or alerting rule of a group.
type rule struct {
	name   string
	expr   parser.Expr
	query  string        // expr, printed once
	labels labels.Labels // the group's and the rule's own, of which the rule's win
	alerts *alerting     // nil: a recording rule
	out    *output

	mu struct {
		sync.Mutex
		health      Health
		lastError   error
		duration    time.Duration
		evaluatedAt time.Time // wall clock; zero: never
	}
}

// alerting is the part of a rule that makes alerts. active is guarded by the rule's lock.
type alerting struct {
	hold          time.Duration
	keepFiringFor time.Duration
	annotations   labels.Labels
	templates     templates
	generatorURL  string

	active map[uint64]*alert // by hash of the alert's labels
	// restored tells that old state is in place, or that there is none: only then are series written.
	restored bool
}

// evaluation is what one evaluation of a group's rules has in common.
type evaluation struct {
	ts     time.Time
	offset time.Duration
	limit  int
	hold   hold
	query  QueryFunc
}

// at returns the time at which the rule looks, and at which its samples are written.
func (e *evaluation) at() time.Time { return e.ts.Add(-e.offset) }

func newRule(name string, expr parser.Expr, lset labels.Labels, a *alerting) *rule {
	r := &rule{name: name, expr: expr, query: expr.String(), labels: lset, alerts: a, out: newOutput()}
	r.mu.health = HealthUnknown
	return r
}

// eval evaluates the rule into its output and returns how many samples it wrote there.
func (r *rule) eval(ctx context.Context, e *evaluation) (int, error) {
	r.out.begin()
	var err error
	if r.alerts != nil {
		err = r.evalAlerts(ctx, e)
	} else {
		err = r.evalRecording(ctx, e)
	}
	if err != nil {
		r.out.abort()
		return 0, err
	}
	return len(r.out.rows), nil
}

func (r *rule) evalRecording(ctx context.Context, e *evaluation) error {
	vector, err := e.query(ctx, r.query, e.at())
	if err != nil {
		return err
	}
	lb := labels.NewBuilder(labels.EmptyLabels())
	build := func(in labels.Labels) labels.Labels {
		lb.Reset(in)
		lb.Set(model.MetricNameLabel, r.name)
		r.labels.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
		return lb.Labels()
	}
	for i := range vector {
		s := &vector[i]
		if !r.out.add(r.out.lookupRecorded(s.Metric, build), s.T, s.F, s.H) {
			return ErrDuplicateRecordingLabelSet
		}
	}
	if e.limit > 0 && len(vector) > e.limit {
		return fmt.Errorf("exceeded limit of %d with %d series", e.limit, len(vector))
	}
	return nil
}

// setResult notes how an evaluation went. It reports whether that is the very error of the one before.
func (r *rule) setResult(err error) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again = err != nil && r.mu.lastError != nil && err.Error() == r.mu.lastError.Error()
	r.mu.health, r.mu.lastError = HealthGood, err
	if err != nil {
		r.mu.health = HealthBad
	}
	return again
}

func (r *rule) setTiming(start time.Time, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.evaluatedAt, r.mu.duration = start, took
}

// identity is what state is carried over by: rules of the same kind, name and labels are the same rule.
func (r *rule) identity() string {
	kind := "record "
	if r.alerts != nil {
		kind = "alert "
	}
	return kind + r.name + r.labels.String()
}

// definition is what a rule is defined by: two rules of the same definition need no restart.
func (r *rule) definition() string {
	f := rulefmt.Rule{Record: r.name, Expr: r.query, Labels: r.labels.Map()}
	if a := r.alerts; a != nil {
		f.Record, f.Alert = "", r.name
		f.For, f.KeepFiringFor = model.Duration(a.hold), model.Duration(a.keepFiringFor)
		f.Annotations = a.annotations.Map()
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return err.Error() // durations, strings and maps of strings always marshal
	}
	return string(text)
}

func millis(t time.Time) int64 { return timestamp.FromTime(t) }
