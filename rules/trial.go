// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Trial evaluates rule groups at times that its caller chooses, one group after another, with the same state machine
// as a Manager: for unit tests of rule files and for looking at what rules would have done. It keeps no state on disk,
// restores none, and waits for no disk. A Trial is used by one goroutine.
type Trial struct {
	groups  []*group // in the order of evaluation
	outbox  *outbox
	metrics *metrics
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
	t := &Trial{outbox: m.outbox}
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
		g.eval(ctx, ts)
	}
	t.outbox.deliver(ctx)
}

// Groups returns the groups in the order of evaluation.
func (t *Trial) Groups() []GroupStatus {
	out := make([]GroupStatus, 0, len(t.groups))
	for _, g := range t.groups {
		out = append(out, g.status())
	}
	return out
}

// visible is an Appender whose samples need not survive anything.
type visible struct{ sample.Appender }

// Durable implements sample.Appender.
func (visible) Durable(context.Context, sample.LSN) error { return nil }
