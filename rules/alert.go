// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// State is the state of an alert, or the highest one among the alerts of a rule.
type State uint8

// The states, in rising order. A resolved alert is Inactive with its ResolvedAt set.
const (
	StateUnknown State = iota // the rule has not been evaluated yet
	StateInactive
	StatePending
	StateFiring
)

// String returns the word that the API and the alertstate label use.
func (s State) String() string {
	switch s {
	case StateInactive:
		return "inactive"
	case StatePending:
		return "pending"
	case StateFiring:
		return "firing"
	default:
		return "unknown"
	}
}

// alert is one instance of an alerting rule. It is guarded by its rule's lock.
type alert struct {
	state       State
	labels      labels.Labels
	annotations labels.Labels
	value       float64 // of the last evaluation that returned it

	activeAt        time.Time
	firedAt         time.Time
	resolvedAt      time.Time // zero while active
	keepFiringSince time.Time // set while only keep_firing_for holds it
	lastSentAt      time.Time
	validUntil      time.Time

	// lastSeen is when an evaluation last returned it; zero for an alert restored and not seen since.
	lastSeen time.Time
	// The label sets of its series, built once: what ALERTS_FOR_STATE has, and ALERTS pending and firing.
	forStateSeries, pendingSeries, firingSeries labels.Labels
}

// needsSending reports whether a is due at ts.
func (a *alert) needsSending(ts time.Time, resendDelay time.Duration) bool {
	switch {
	case a.state == StatePending:
		return false
	case a.resolvedAt.After(a.lastSentAt):
		return true
	default:
		return a.lastSentAt.Add(resendDelay).Before(ts)
	}
}

// notification returns what a receiver is told about a.
func (a *alert) notification(generatorURL string) Notification {
	n := Notification{
		Labels: a.labels, Annotations: a.annotations,
		StartsAt: a.firedAt, EndsAt: a.validUntil, GeneratorURL: generatorURL,
	}
	if !a.resolvedAt.IsZero() {
		n.EndsAt = a.resolvedAt
	}
	return n
}
