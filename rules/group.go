// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// group is a list of rules evaluated in order at the slots of one interval.
type group struct {
	name, file  string
	key         string // file;name, the rule_group label of the metrics
	interval    time.Duration
	queryOffset time.Duration
	limit       int
	rules       []*rule
	definition  string // what a reload compares

	opts    *Options
	metrics *groupMetrics
	gate    *gate
	outbox  *outbox
	logger  *slog.Logger

	// restoreSeries tells that for-timers are to be restored from ALERTS_FOR_STATE after the second
	// evaluation. stateAt is when the state that came from a file was valid; zero: there was none.
	restoreSeries bool
	stateAt       time.Time
	// orphans are series of rules that a reload removed, to be marked stale at the end of an evaluation.
	orphans []labels.Labels

	stop     chan struct{} // closed: finish the rule under evaluation and end
	stopOnce sync.Once
	stopped  chan struct{}

	mu struct {
		sync.Mutex
		evaluationTime time.Duration
		lastEvaluation time.Time // wall clock
		lastSlot       time.Time
	}
}

// run evaluates the group until ctx is done or the group is stopped.
func (g *group) run(ctx context.Context) {
	defer close(g.stopped)
	if g.isStopped() {
		return // replaced before it began: its state is somebody else's
	}
	ctx = promql.NewOriginContext(ctx, map[string]any{
		"ruleGroup": map[string]string{"file": g.file, "name": g.name},
	})
	s := schedule{offset: g.slotOffset(), interval: g.interval}
	slot := s.before(time.Now()).Add(g.interval)
	g.resumeState(time.Now())
	for n := 1; g.wait(ctx, &s, &slot); n++ {
		g.iterate(ctx, slot)
		if n == 2 && g.restoreSeries {
			// Not before the second evaluation: at the first, what the rules look at may not have been
			// scraped or recorded yet.
			g.restoreFromSeries(ctx, time.Now())
		}
		next, missed := s.next(slot, time.Now())
		g.metrics.missed.Add(float64(missed))
		g.metrics.scheduled.Add(float64(missed))
		slot = next
	}
}

// wait returns true at the slot, and false when the group is to end. It moves the slot when the clock did.
func (g *group) wait(ctx context.Context, s *schedule, slot *time.Time) bool {
	for {
		d := time.Until(*slot)
		if d > g.interval { // the clock was set back
			*slot = s.before(time.Now()).Add(g.interval)
			d = time.Until(*slot)
		}
		timer := time.NewTimer(max(d, 0))
		select {
		case <-g.stop:
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		switch {
		case g.isStopped() || ctx.Err() != nil:
			return false
		case time.Until(*slot) <= 0:
			return true
		}
	}
}

// isStopped reports whether the group is to end.
func (g *group) isStopped() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}

// end tells the group to end; stopped is closed when it has.
func (g *group) end() { g.stopOnce.Do(func() { close(g.stop) }) }

// iterate runs one evaluation of the group and notes how long it took.
func (g *group) iterate(ctx context.Context, slot time.Time) {
	g.metrics.scheduled.Inc()
	start := time.Now()
	g.mu.Lock()
	g.mu.lastSlot = slot // before the rules: what they change may be saved while the next ones run
	g.mu.Unlock()
	g.eval(ctx, slot)
	took := time.Since(start)
	g.metrics.observeIteration(start, took, g.ruleTime())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.evaluationTime, g.mu.lastEvaluation = took, start
}

// ruleTime returns the sum of the rules' last evaluation times.
func (g *group) ruleTime() time.Duration {
	var sum time.Duration
	for _, r := range g.rules {
		r.mu.Lock()
		sum += r.mu.duration
		r.mu.Unlock()
	}
	return sum
}

// eval evaluates all rules for the time ts.
func (g *group) eval(ctx context.Context, ts time.Time) {
	e := &evaluation{ts: ts, offset: g.queryOffset, limit: g.limit, hold: g.gate.look(ts), query: g.opts.Query}
	total := 0
	for i, r := range g.rules {
		if g.isStopped() {
			return
		}
		start := time.Now()
		total += g.evalRule(ctx, i, r, e)
		took := time.Since(start)
		r.setTiming(start, took)
		g.metrics.observeRule(took)
	}
	g.metrics.samples.Set(float64(total))
	g.markOrphans(ctx, ts)
}

// evalRule evaluates one rule, writes its samples and posts its alerts. It returns how many samples there were.
func (g *group) evalRule(ctx context.Context, i int, r *rule, e *evaluation) int {
	logger := g.logger.With("name", r.name, "index", i)
	g.metrics.evals.Inc()
	n, err := r.eval(ctx, e)
	if err != nil {
		r.setResult(err)
		g.metrics.failures.Inc()
		if !isCanceled(ctx, err) {
			logger.Warn("evaluating a rule went wrong", "rule", r.query, "err", err)
		}
		return 0
	}
	// A commit under way is not given up with ctx: the store would take it all the same.
	lsn, rej, err := r.out.commit(context.WithoutCancel(ctx), g.opts.Appender, millis(e.at()))
	if err != nil {
		// A line per rule and evaluation would fill a disk that is full already.
		if !r.setResult(err) {
			logger.Warn("writing a rule's samples went wrong", "err", err)
		}
		g.metrics.failures.Inc()
	} else {
		r.setResult(rej.err)
		g.metrics.countRejected(&rej)
		rej.log(logger)
	}
	if r.alerts != nil {
		// Alerts go out even where their series could not be written: that is when they are needed most.
		g.outbox.post(posting{lsn: lsn, alerts: r.due(e.ts, g.opts.ResendDelay, g.interval), group: g})
	}
	return n
}

// isCanceled reports whether an evaluation ended because the server does: nothing to report.
func isCanceled(ctx context.Context, err error) bool {
	_, canceled := errors.AsType[promql.ErrQueryCanceled](err)
	return ctx.Err() != nil || canceled
}

// log says which samples were not taken, in one line per cause.
func (rej *rejection) log(logger *slog.Logger) {
	for reason, n := range rej.byReason {
		if n > 0 {
			logger.Warn("samples of a rule's result were rejected",
				"reason", sample.Reason(reason).String(), "num_dropped", n, "last", rej.err)
		}
	}
	if rej.unknown > 0 {
		logger.Warn("series of a rule's result were refused", "num_dropped", rej.unknown, "last", rej.err)
	}
}

// markOrphans writes a stale marker for every series whose rule a reload removed. Where another rule writes the
// series by now, the store refuses the marker, which is what is wanted.
func (g *group) markOrphans(ctx context.Context, ts time.Time) {
	if len(g.orphans) == 0 {
		return
	}
	var b sample.Batch
	refs := make([]sample.Ref, len(g.orphans))
	if err := g.opts.Appender.Resolve(g.orphans, refs); err != nil {
		g.logger.Warn("marking series of removed rules stale went wrong", "err", err)
	}
	t := millis(ts.Add(-g.queryOffset))
	for _, ref := range refs {
		if ref != 0 {
			b.AppendFloat(ref, 0, t, math.Float64frombits(value.StaleNaN), sample.RejectOutOfOrder)
		}
	}
	if b.Len() > 0 {
		if _, err := g.opts.Appender.Commit(context.WithoutCancel(ctx), &b, &sample.Result{}); err != nil {
			g.logger.Warn("marking series of removed rules stale went wrong", "err", err)
			return // they are tried again after the next evaluation
		}
	}
	g.orphans = nil
}

// retire waits two intervals, in which a renamed group may take over the series of this one, and marks stale
// what nobody writes any more. The group must have ended; done ends the wait with nothing written.
func (g *group) retire(ctx context.Context, done <-chan struct{}) {
	now := time.Now()
	for _, r := range g.rules {
		g.orphans = append(g.orphans, r.out.labels()...)
	}
	timer := time.NewTimer(2 * g.interval)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		g.markOrphans(ctx, now)
	}
}

// takeOver moves the state of a group that has ended into g, which replaces it and has not started. Rules are
// matched by identity; of equal ones the first is matched with the first.
func (g *group) takeOver(old *group) {
	g.mu.evaluationTime, g.mu.lastEvaluation = old.mu.evaluationTime, old.mu.lastEvaluation
	g.mu.lastSlot, g.stateAt = old.mu.lastSlot, old.stateAt
	byIdentity := make(map[string][]*rule)
	for _, r := range old.rules {
		byIdentity[r.identity()] = append(byIdentity[r.identity()], r)
	}
	for _, r := range g.rules {
		from := byIdentity[r.identity()]
		if len(from) == 0 {
			continue
		}
		byIdentity[r.identity()] = from[1:]
		r.out = from[0].out
		if r.alerts != nil {
			// Copies: somebody may still be reading the old rule.
			for h, a := range from[0].alerts.active {
				c := *a
				r.alerts.active[h] = &c
			}
			r.alerts.restored = from[0].alerts.restored
			g.restoreSeries = g.restoreSeries || !r.alerts.restored
		}
	}
	g.orphans = old.orphans
	for _, rest := range byIdentity {
		for _, r := range rest {
			g.orphans = append(g.orphans, r.out.labels()...)
		}
	}
}
