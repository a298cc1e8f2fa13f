// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// GroupStatus is a rule group as the API shows it.
type GroupStatus struct {
	Name, File     string
	Interval       time.Duration
	QueryOffset    time.Duration
	Limit          int
	Rules          []RuleStatus
	EvaluationTime time.Duration // how long the last evaluation took
	LastEvaluation time.Time     // wall clock; zero: never
}

// RuleStatus is a rule as the API shows it. Fields from State on are set for alerting rules only.
type RuleStatus struct {
	Alerting       bool
	Name, Query    string
	Labels         labels.Labels
	Health         Health
	LastError      string
	EvaluationTime time.Duration
	LastEvaluation time.Time // wall clock; zero: never

	State         State
	Hold          time.Duration // `for`
	KeepFiringFor time.Duration
	Annotations   labels.Labels
	Alerts        []AlertStatus // pending and firing, by labels
}

// AlertStatus is an active alert as the API shows it.
type AlertStatus struct {
	Labels, Annotations labels.Labels
	State               State
	ActiveAt            time.Time
	KeepFiringSince     time.Time // zero unless only keep_firing_for holds it
	Value               string    // as Prometheus prints it, like 1.5e+01
}

// Groups returns the groups by file and name.
func (m *Manager) Groups() []GroupStatus {
	m.mu.RLock()
	groups := m.mu.groups
	m.mu.RUnlock()
	out := make([]GroupStatus, 0, len(groups))
	for _, g := range groups {
		out = append(out, g.status())
	}
	slices.SortFunc(out, func(a, b GroupStatus) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Alerts returns the pending and firing alerts of all groups, in the order of Groups.
func (m *Manager) Alerts() []AlertStatus {
	var out []AlertStatus
	for _, g := range m.Groups() {
		for _, r := range g.Rules {
			out = append(out, r.Alerts...)
		}
	}
	return out
}

func (g *group) status() GroupStatus {
	g.mu.Lock()
	s := GroupStatus{
		Name: g.name, File: g.file, Interval: g.interval, QueryOffset: g.queryOffset, Limit: g.limit,
		EvaluationTime: g.mu.evaluationTime, LastEvaluation: g.mu.lastEvaluation,
		Rules: make([]RuleStatus, 0, len(g.rules)),
	}
	g.mu.Unlock()
	for _, r := range g.rules {
		s.Rules = append(s.Rules, r.status())
	}
	return s
}

func (r *rule) status() RuleStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := RuleStatus{
		Name: r.name, Query: r.query, Labels: r.labels, Health: r.mu.health,
		EvaluationTime: r.mu.duration, LastEvaluation: r.mu.evaluatedAt,
	}
	if r.mu.lastError != nil {
		s.LastError = r.mu.lastError.Error()
	}
	if r.alerts == nil {
		return s
	}
	s.Alerting, s.Hold, s.KeepFiringFor = true, r.alerts.hold, r.alerts.keepFiringFor
	s.Annotations = r.alerts.annotations
	if !r.mu.evaluatedAt.IsZero() {
		s.State = StateInactive
	}
	for _, a := range r.alerts.active {
		if s.State != StateUnknown || a.state != StateInactive {
			s.State = max(s.State, a.state)
		}
		if a.resolvedAt.IsZero() {
			s.Alerts = append(s.Alerts, AlertStatus{
				Labels: a.labels, Annotations: a.annotations, State: a.state, ActiveAt: a.activeAt,
				KeepFiringSince: a.keepFiringSince, Value: strconv.FormatFloat(a.value, 'e', -1, 64),
			})
		}
	}
	slices.SortFunc(s.Alerts, func(a, b AlertStatus) int { return labels.Compare(a.Labels, b.Labels) })
	return s
}
