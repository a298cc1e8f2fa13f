// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"sync"
	"time"
)

// gate knows when ingestion was stopped, so that an alert is not resolved only because nobody could deliver
// its samples: a server that cannot write, and one that was down, both see empty results for a while.
type gate struct {
	stopped func() bool
	grace   time.Duration

	mu struct {
		sync.Mutex
		wasStopped bool
		resumedAt  time.Time // when ingestion last came back; the start of Run counts as such
	}
}

// resume notes that ingestion is back as of now.
func (g *gate) resume(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.resumedAt = now
}

// hold is one evaluation's view of the gate.
type hold struct {
	all bool // ingestion is stopped: every alert keeps its state
	// Alerts not seen since resumedAt keep their state, if this evaluation lies within the grace.
	within    bool
	resumedAt time.Time
}

// look asks whether ingestion is stopped and returns the rule for an evaluation at ts.
func (g *gate) look(ts time.Time) hold {
	stopped := g.stopped != nil && g.stopped()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.wasStopped && !stopped {
		g.mu.resumedAt = ts
	}
	g.mu.wasStopped = stopped
	return hold{
		all:       stopped,
		within:    !g.mu.resumedAt.IsZero() && ts.Before(g.mu.resumedAt.Add(g.grace)),
		resumedAt: g.mu.resumedAt,
	}
}

// keeps reports whether a missing alert keeps its state.
func (h hold) keeps(a *alert) bool {
	return h.all || (h.within && a.lastSeen.Before(h.resumedAt))
}
