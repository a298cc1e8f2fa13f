// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Trial evaluates rule groups at times that its caller chooses, one group after another, with the same state machine
// as a Manager: for unit tests of rule files and for looking at what rules would have done. It keeps no state on disk,
// restores none, and waits for no disk. A Trial is used by one goroutine.
type Trial struct {
	groups  []*group // in the order of evaluation
	outbox  *outbox
	metrics *metrics
	states  map[*rule]map[uint64]seenAlert // of the alerts that were active when Events looked last
	tallies map[*rule]*Tally
}

// NewTrial reads the rule files of c. Of o it uses Query, Appender, Notifier, which is called while Eval runs,
// ResendDelay, and what parsing needs.
func NewTrial(c Config, o Options) (*Trial, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	o.StateDir, o.IngestionStopped, o.Registerer = "", nil, nil
	o.Appender = visible{o.Appender}
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	parsed, err := loadFiles(&c, &o)
	if err != nil {
		return nil, err
	}
	m := &Manager{opts: o}
	m.outbox = newOutbox(&m.opts, nil)
	t := &Trial{outbox: m.outbox, states: make(map[*rule]map[uint64]seenAlert), tallies: make(map[*rule]*Tally)}
	if t.metrics, err = newMetrics(nil); err != nil {
		return nil, err
	}
	position := make(map[string]int, len(parsed))
	for i, p := range parsed {
		position[p.file+";"+p.group.Name] = i
	}
	for _, g := range m.makeGroups(parsed, &c) {
		g.metrics = t.metrics.forGroup(g)
		g.adopt(nil, false)
		t.groups = append(t.groups, g)
	}
	slices.SortFunc(t.groups, func(a, b *group) int { return cmp.Compare(position[a.key], position[b.key]) })
	return t, nil
}

// Order has groups evaluated in the order of their names; groups that are not named are evaluated with the first one.
func (t *Trial) Order(names []string) error {
	place := make(map[string]int, len(names))
	for i, name := range names {
		if _, again := place[name]; again {
			return fmt.Errorf("group name repeated in evaluation order: %s", name)
		}
		place[name] = i
	}
	slices.SortStableFunc(t.groups, func(a, b *group) int { return cmp.Compare(place[a.name], place[b.name]) })
	return nil
}

// Eval evaluates every group once, for the time ts, which is later than that of the call before. How each rule went
// is in Groups.
func (t *Trial) Eval(ctx context.Context, ts time.Time) {
	for _, g := range t.groups {
		t.eval(ctx, g, ts)
	}
	t.outbox.deliver(ctx)
}

// Next returns the first time after t at which a server evaluates one of the groups; zero if there are none.
func (t *Trial) Next(after time.Time) time.Time {
	var next time.Time
	for _, g := range t.groups {
		if slot := g.slotAfter(after); next.IsZero() || slot.Before(next) {
			next = slot
		}
	}
	return next
}

// EvalDue evaluates the groups that a server evaluates at ts, which Next returned.
func (t *Trial) EvalDue(ctx context.Context, ts time.Time) {
	for _, g := range t.groups {
		if g.slotAfter(ts.Add(-1)).Equal(ts) {
			t.eval(ctx, g, ts)
		}
	}
	t.outbox.deliver(ctx)
}

// eval evaluates a group and counts how its rules went.
func (t *Trial) eval(ctx context.Context, g *group, ts time.Time) {
	g.eval(ctx, ts)
	for _, r := range g.rules {
		n := t.tallies[r]
		if n == nil {
			n = &Tally{}
			t.tallies[r] = n
		}
		n.Evaluations++
		r.mu.Lock()
		err := r.mu.lastError
		r.mu.Unlock()
		if err != nil {
			n.Failures++
			n.LastError, n.FailedAt = err.Error(), ts
			continue
		}
		n.Samples += int64(r.out.storedNow)
	}
}

// Tally counts how the evaluations of a rule went.
type Tally struct {
	Evaluations, Failures int64
	Samples               int64 // written, those of the series of alerts included
	LastError             string
	FailedAt              time.Time // the last time; zero: never
}

// Tallies returns the tallies of the rules, in the order of Groups.
func (t *Trial) Tallies() [][]Tally {
	out := make([][]Tally, len(t.groups))
	for i, g := range t.groups {
		out[i] = make([]Tally, len(g.rules))
		for j, r := range g.rules {
			if n := t.tallies[r]; n != nil {
				out[i][j] = *n
			}
		}
	}
	return out
}

func (g *group) slotAfter(t time.Time) time.Time {
	return schedule{offset: g.slotOffset(), interval: g.interval}.before(t).Add(g.interval)
}

// Groups returns the groups in the order of evaluation.
func (t *Trial) Groups() []GroupStatus {
	out := make([]GroupStatus, 0, len(t.groups))
	for _, g := range t.groups {
		out = append(out, g.status())
	}
	return out
}

type seenAlert struct {
	state  State
	labels labels.Labels
}

// Event is a step of one alert in the evaluation of a Trial.
type Event struct {
	Group, Rule int // positions in Groups
	Labels      labels.Labels
	Annotations labels.Labels
	State       State // after the evaluation; StateInactive: it ended
	Changed     bool  // the state is another one than before
	Sent        bool  // the receivers were told
	Value       float64
}

// Events calls visit with the alerts that the last evaluation, which was for ts, moved on or sent.
func (t *Trial) Events(ts time.Time, visit func(Event)) {
	for gi, g := range t.groups {
		for ri, r := range g.rules {
			if r.alerts != nil {
				t.events(r, ts, func(e Event) {
					e.Group, e.Rule = gi, ri
					visit(e)
				})
			}
		}
	}
}

func (t *Trial) events(r *rule, ts time.Time, visit func(Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := t.states[r]
	if len(r.alerts.active) == 0 && len(before) == 0 {
		return
	}
	now := make(map[uint64]seenAlert, len(r.alerts.active))
	for h, a := range r.alerts.active {
		was := StateInactive
		if b, known := before[h]; known {
			was = b.state
		}
		if a.state != StateInactive {
			now[h] = seenAlert{a.state, a.labels}
		}
		changed, sent := a.state != was, a.lastSentAt.Equal(ts)
		if changed || sent {
			visit(Event{Labels: a.labels, Annotations: a.annotations, State: a.state, Changed: changed, Sent: sent, Value: a.value})
		}
		delete(before, h)
	}
	for _, gone := range before { // pending ones, of which nothing is kept
		visit(Event{Labels: gone.labels, State: StateInactive, Changed: true})
	}
	t.states[r] = now
}

// visible is an Appender whose samples need not survive anything.
type visible struct{ sample.Appender }

// Durable implements sample.Appender.
func (visible) Durable(context.Context, sample.LSN) error { return nil }
