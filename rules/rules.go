// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Manager holds the rule groups and runs them.
type Manager struct {
	opts    Options
	metrics *metrics
	gate    gate
	outbox  *outbox
	keeper  *keeper // nil: no state is kept

	updating sync.Mutex // one Update at a time

	mu struct {
		sync.RWMutex
		groups  map[string]*group // by key; replaced as a whole
		loaded  bool              // an Update has succeeded
		running context.Context   // of the groups; nil before Run
		ended   bool
	}
	stop    sync.Once
	done    chan struct{}  // closed by Stop
	ending  chan struct{}  // closed when Run begins to end
	stopped chan struct{}  // closed when Run has returned
	tasks   sync.WaitGroup // groups and retired groups
}

// New returns a Manager without groups.
func New(o Options) (*Manager, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	m := &Manager{opts: o, done: make(chan struct{}), ending: make(chan struct{}), stopped: make(chan struct{})}
	var err error
	if m.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	if o.StateDir != "" {
		if m.keeper, err = newKeeper(&m.opts, m.metrics); err != nil {
			return nil, fmt.Errorf("alert state: %w", err)
		}
	}
	m.gate.stopped, m.gate.grace = o.IngestionStopped, o.ResumeGrace
	m.outbox = newOutbox(&m.opts, m.keeper)
	m.mu.groups = make(map[string]*group)
	return m, nil
}

// Run evaluates the groups until ctx is done or Stop is called, and returns when everything has ended and alert
// state is written. It is called once. Groups of an earlier or later Update alike run within it.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.mu.running != nil {
		m.mu.Unlock()
		return errors.New("rules: Run was called twice")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.gate.resume(time.Now())
	m.mu.running = ctx
	groups := m.mu.groups
	m.mu.Unlock()
	defer close(m.stopped)

	groupsDone, outboxDone := make(chan struct{}), make(chan struct{})
	var outbox, keeper sync.WaitGroup
	// What a finished evaluation left is delivered even when ctx is done.
	outbox.Go(func() { m.outbox.run(context.WithoutCancel(ctx), groupsDone) })
	if m.keeper != nil {
		keeper.Go(func() { m.keeper.run(outboxDone) })
	}
	for _, g := range groups {
		m.start(ctx, g)
	}
	select {
	case <-ctx.Done():
	case <-m.done:
	}
	m.endGroups()
	m.tasks.Wait()
	close(groupsDone)
	outbox.Wait()
	close(outboxDone)
	keeper.Wait()
	return nil
}

// start runs g in a goroutine that Run waits for.
func (m *Manager) start(ctx context.Context, g *group) {
	m.tasks.Go(func() { g.run(ctx) })
}

// endGroups tells all groups to end; an Update under way sees that it must not start new ones.
func (m *Manager) endGroups() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.ended = true
	close(m.ending)
	for _, g := range m.mu.groups {
		g.end()
	}
}

// Stop ends the evaluations and returns when Run has. A rule under evaluation is finished. Calling it before Run
// makes Run end at once. It does not cancel a query under way; the context of Run does.
func (m *Manager) Stop() {
	m.stop.Do(func() { close(m.done) })
	m.mu.RLock()
	running := m.mu.running != nil
	m.mu.RUnlock()
	if running {
		<-m.stopped
	}
}

// Update makes the rules of c the ones that are evaluated. On an error, which joins everything that is wrong
// with the files, the groups stay as they were. It waits for the groups that it replaces or removes to finish
// the rule that they evaluate.
func (m *Manager) Update(c Config) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	parsed, err := loadFiles(&c, &m.opts)
	if err != nil {
		return err
	}
	groups := m.makeGroups(parsed, &c)
	m.mu.RLock()
	old, first, ended := m.mu.groups, !m.mu.loaded, m.mu.ended
	m.mu.RUnlock()
	if ended {
		return nil
	}
	if first {
		if err := m.restore(groups); err != nil {
			return err
		}
	}
	fresh := m.replace(old, groups, first)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.groups, m.mu.loaded = groups, true
	if m.keeper != nil {
		m.keeper.use(groups)
	}
	if m.mu.running != nil && !m.mu.ended {
		for _, g := range fresh {
			m.start(m.mu.running, g)
		}
	}
	return nil
}

// restore reads the state of groups that are loaded for the first time.
func (m *Manager) restore(groups map[string]*group) error {
	for _, g := range groups {
		g.restoreSeries = true
		if m.keeper == nil {
			continue
		}
		s, err := m.keeper.read(g, m.opts.OutageTolerance)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		if err := g.loadState(s); err != nil {
			g.logger.Error("some alerts could not be restored", "err", err)
		}
	}
	if m.keeper == nil {
		return nil
	}
	if err := m.keeper.tidy(groups, m.opts.OutageTolerance); err != nil {
		m.opts.Logger.Warn("tidying alert state went wrong", "err", err)
	}
	return nil
}

// replace ends the old groups that groups does not keep, hands their state over, and returns the groups to be
// started. In groups, one that is unchanged is replaced by the running one.
func (m *Manager) replace(old, groups map[string]*group, first bool) []*group {
	var fresh []*group
	var changed []*group
	for key, g := range groups {
		if o := old[key]; o != nil && o.definition == g.definition {
			groups[key] = o
			continue
		}
		if o := old[key]; o != nil {
			changed = append(changed, o)
			o.end()
		}
		fresh = append(fresh, g)
	}
	for key, o := range old {
		if groups[key] == nil {
			changed = append(changed, o)
			o.end()
		}
	}
	m.waitEnded(changed)
	for _, g := range fresh {
		g.metrics = m.metrics.forGroup(g)
		g.adopt(old[g.key], first)
	}
	for _, o := range changed {
		if groups[o.key] == nil {
			m.metrics.dropGroup(o.key)
			m.retire(o)
		}
	}
	return fresh
}

// adopt gives a new group the state of the one it replaces, which may be nil. Only what the first load brings
// is restored from series; a rule that a reload brings has no past.
func (g *group) adopt(old *group, first bool) {
	if !first {
		for _, r := range g.rules {
			if r.alerts != nil {
				r.alerts.restored = true
			}
		}
	}
	if old != nil {
		g.takeOver(old)
	}
}

// waitEnded waits for groups that were told to end; before Run none has started.
func (m *Manager) waitEnded(groups []*group) {
	m.mu.RLock()
	running := m.mu.running != nil
	m.mu.RUnlock()
	if !running {
		return
	}
	for _, g := range groups {
		<-g.stopped
	}
}

// retire marks the series of a removed group stale in its own time.
func (m *Manager) retire(g *group) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.running == nil || m.mu.ended {
		return
	}
	ctx := m.mu.running
	m.tasks.Go(func() { g.retire(ctx, m.ending) })
}
