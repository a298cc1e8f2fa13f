// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

const (
	alertsMetric   = "ALERTS"
	forStateMetric = "ALERTS_FOR_STATE"
	stateLabel     = "alertstate"

	// resolvedRetention is how long a resolved alert is kept and sent again, so that a receiver that was
	// away, or lost it, learns of the end all the same.
	resolvedRetention = 15 * time.Minute
)

// evalAlerts runs the query and one step of the state machine of every alert of the rule.
func (r *rule) evalAlerts(ctx context.Context, e *evaluation) error {
	vector, err := e.query(ctx, r.query, e.at())
	if err != nil {
		return err
	}
	result, err := r.instances(ctx, e, vector)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merge(result, e.ts)
	active := 0
	for h, a := range r.alerts.active {
		_, present := result[h]
		if !r.step(h, a, present, e) {
			continue
		}
		active++
		if r.alerts.restored {
			r.write(a, e.at())
		}
	}
	if e.limit > 0 && active > e.limit {
		clear(r.alerts.active)
		return fmt.Errorf("exceeded limit of %d with %d alerts", e.limit, active)
	}
	return nil
}

// instances makes a new alert of every element of the result.
func (r *rule) instances(ctx context.Context, e *evaluation, vector promql.Vector) (map[uint64]*alert, error) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	sb := labels.NewScratchBuilder(0)
	result := make(map[uint64]*alert, len(vector))
	for _, s := range vector {
		in := r.alerts.templates.forSample(ctx, e, s)
		lb.Reset(s.Metric)
		lb.Del(model.MetricNameLabel)
		in.expandLabels(lb, r.labels)
		lb.Set(model.AlertNameLabel, r.name)
		lset := lb.Labels()
		h := lset.Hash()
		if _, ok := result[h]; ok {
			return nil, ErrDuplicateAlertLabelSet
		}
		result[h] = &alert{
			state: StatePending, labels: lset, annotations: in.expandAnnotations(&sb, r.alerts.annotations),
			value: s.F, activeAt: e.ts,
		}
	}
	return result, nil
}

// merge takes the result's alerts into the active ones; an alert that is active keeps its times.
func (r *rule) merge(result map[uint64]*alert, ts time.Time) {
	for h, n := range result {
		a, ok := r.alerts.active[h]
		if ok && a.state != StateInactive {
			a.value, a.annotations = n.value, n.annotations
		} else {
			a = n
			r.alerts.active[h] = a
		}
		a.lastSeen = ts
	}
}

// step moves one alert on and reports whether it is active afterwards.
func (r *rule) step(h uint64, a *alert, present bool, e *evaluation) bool {
	if !present && a.state != StateInactive && e.hold.keeps(a) {
		return true // frozen: neither resolved nor promoted by a result that could not be there
	}
	if present {
		a.keepFiringSince = time.Time{}
	} else if !r.stepMissing(h, a, e.ts) {
		return false
	}
	held := e.ts.Sub(a.activeAt)
	switch {
	case a.state == StatePending && held >= r.alerts.hold:
		a.state, a.firedAt = StateFiring, e.ts
	case a.state == StateFiring && held < r.alerts.hold: // a reload made `for` longer
		a.state = StatePending
		a.firedAt, a.lastSentAt, a.keepFiringSince = time.Time{}, time.Time{}, time.Time{}
	}
	return true
}

// stepMissing moves on an alert that the result lacks and reports whether keep_firing_for keeps it firing.
func (r *rule) stepMissing(h uint64, a *alert, ts time.Time) bool {
	if a.state == StateFiring && r.alerts.keepFiringFor > 0 {
		if a.keepFiringSince.IsZero() {
			a.keepFiringSince = ts
		}
		if ts.Sub(a.keepFiringSince) < r.alerts.keepFiringFor {
			return true
		}
	}
	if a.state == StatePending || (!a.resolvedAt.IsZero() && ts.Sub(a.resolvedAt) > resolvedRetention) {
		delete(r.alerts.active, h)
	}
	if a.state != StateInactive {
		a.state, a.resolvedAt = StateInactive, ts
	}
	return false
}

// write puts the alert's samples into the output. The label sets are the rule's labels overridden by the
// alert's, which are the same ones expanded.
func (r *rule) write(a *alert, at time.Time) {
	build := func(metric string, state State) labels.Labels {
		lb := labels.NewBuilder(r.labels)
		a.labels.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
		lb.Set(model.MetricNameLabel, metric)
		lb.Set(model.AlertNameLabel, r.name)
		if metric == alertsMetric {
			lb.Set(stateLabel, state.String())
		}
		return lb.Labels()
	}
	lset := &a.pendingSeries
	if a.state == StateFiring {
		lset = &a.firingSeries
	}
	if lset.IsEmpty() {
		*lset = build(alertsMetric, a.state)
	}
	if a.forStateSeries.IsEmpty() {
		a.forStateSeries = build(forStateMetric, a.state)
	}
	t := millis(at)
	r.out.add(r.out.lookup(*lset), t, 1, nil)
	r.out.add(r.out.lookup(a.forStateSeries), t, float64(a.activeAt.Unix()), nil)
}

// due returns the notifications to send now and notes them as sent.
func (r *rule) due(ts time.Time, resendDelay, interval time.Duration) []Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Notification
	for _, a := range r.alerts.active {
		if !a.needsSending(ts, resendDelay) {
			continue
		}
		a.lastSentAt = ts
		// Long enough that two failed evaluations or sends do not resolve it at the receiver.
		a.validUntil = ts.Add(4 * max(interval, resendDelay))
		out = append(out, a.notification(r.alerts.generatorURL))
	}
	return out
}
