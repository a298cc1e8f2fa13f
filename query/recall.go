// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"math"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/cache"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// recall is what the cache knows about a query before it reads the storage. The counts of late changes were read
// before the view is opened and, of a joined run, before those of the entries it is joined from: whatever changes
// meanwhile makes an entry invalid, never a wrong one valid.
type recall struct {
	line     cache.Line
	from, to int64 // steps of the query, [from, to)
	blocks   []recalled
	reused   int64 // steps; see confirm
	outdated int64 // steps that were there once

	stamps    column.StampReader
	selectors [][]*labels.Matcher
	stmt      parser.EvalStmt // of which input changes the times
	account   *budget.Account
	charged   int64
}

// recalled is one block of a query.
type recalled struct {
	block    int64
	from, to int64        // steps of the query in this block, [from, to)
	entry    *cache.Entry // valid, or nil; it may reach beyond from and to
	keep     run          // what may be kept once all is computed: entry and the sealed part of [from, to)
	stamp    uint64       // count of changes over the input of keep
	changed  bool         // the input has changed since the query began
}

// known is how many steps of the query the entry has.
func (x *recalled) known() int64 {
	if x.entry == nil {
		return 0
	}
	return min(x.to, x.entry.To) - max(x.from, x.entry.From)
}

// run is consecutive steps, [from, to).
type run struct{ from, to int64 }

// missing lists the steps that have to be computed.
func (r *recall) missing() []run {
	var out []run
	add := func(from, to int64) {
		switch {
		case from >= to:
		case len(out) > 0 && out[len(out)-1].to == from:
			out[len(out)-1].to = to
		default:
			out = append(out, run{from, to})
		}
	}
	for _, x := range r.blocks {
		if x.entry == nil {
			add(x.from, x.to)
			continue
		}
		add(x.from, min(x.entry.From, x.to))
		add(max(x.entry.To, x.from), x.to)
	}
	return out
}

// recall looks the query up, or returns nil where it cannot be cached or where there is no memory for what is kept.
func (q *Query) recall(account *budget.Account) *recall {
	o := q.plan.Options()
	step := o.Interval.Milliseconds()
	stamps, ok := q.src.(column.StampReader)
	if q.use.NotKept = q.unkept(); q.use.NotKept != "" || !ok || step <= 0 {
		return nil
	}
	start := o.Start.UnixMilli()
	r := &recall{account: account, stamps: stamps, selectors: q.selectors, stmt: *q.plan.Statement(), line: cache.LineOf(q.text, q.semantics(), start, step)}
	r.from = r.line.Index(start)
	r.to = r.from + int64(vector.NewGrid(start, o.End.UnixMilli(), step).N)
	sealed := stamps.Sealed()
	for b := cache.BlockOf(r.from); b <= cache.BlockOf(r.to-1); b++ {
		x := recalled{block: b, from: max(r.from, b*cache.BlockSteps), to: min(r.to, (b+1)*cache.BlockSteps)}
		if err := r.look(q.engine.cache, &x, sealed); err != nil {
			r.free()
			q.use.NotKept = reasonOf(err)
			return nil // what it would take to remember, it does not take to compute
		}
		r.blocks = append(r.blocks, x)
	}
	return r
}

// confirm is called once the view is open: it forgets the entries of which the input has changed since they were found
// valid, so that those that are left tell what the view shows. Without it an answer might have the later one of two
// writes, read from the view, and lack the earlier one, behind an entry.
func (r *recall) confirm() {
	if r == nil {
		return
	}
	for i := range r.blocks {
		x := &r.blocks[i]
		switch {
		case x.entry == nil:
		case x.entry.Stamp != r.stamp(run{x.entry.From, x.entry.To}):
			r.outdated += x.known()
			x.entry, x.keep, x.changed = nil, run{}, true
		default:
			r.reused += x.known()
		}
	}
}

// semantics is what decides about an answer besides text and steps, of what can change while the server runs.
func (q *Query) semantics() string {
	o := q.plan.Options()
	return strconv.FormatInt(o.Lookback.Milliseconds(), 10) + "," + strconv.FormatInt(o.SubqueryStep(0), 10)
}

// look fills in the entry of a block, if there is a valid one that is of use. All entries together may take maxKeep.
func (r *recall) look(c *cache.Cache, x *recalled, sealed int64) error {
	fresh := run{x.from, r.sealedStep(x.to, sealed)}
	entry, err := c.Get(r.line, x.block, r.account)
	if err != nil {
		return err
	}
	if entry != nil {
		if r.charged += entry.Bytes; r.charged > maxKeep {
			return &inPartsError{unkeptLarge}
		}
		if entry.To > x.from && entry.From < x.to {
			x.keep = run{min(fresh.from, entry.From), max(fresh.to, entry.To)}
			x.stamp = r.stamp(x.keep)
			if entry.Stamp == r.stamp(run{entry.From, entry.To}) {
				x.entry = entry
				return nil
			}
			r.outdated += min(x.to, entry.To) - max(x.from, entry.From)
		}
	}
	if x.keep = fresh; fresh.from < fresh.to {
		x.stamp = r.stamp(fresh)
	}
	return nil
}

// stamp is the count of changes of the past over the input of some steps.
func (r *recall) stamp(of run) (sum uint64) {
	mint, maxt := r.input(of.from, of.to-1)
	for _, ms := range r.selectors {
		sum += r.stamps.Stamp(ms, mint, maxt)
	}
	return sum
}

// input returns the range of samples that the steps from first to last may read.
func (r *recall) input(first, last int64) (mint, maxt int64) {
	r.stmt.Start, r.stmt.End = time.UnixMilli(r.line.Time(first)), time.UnixMilli(r.line.Time(last))
	return promql.FindMinMaxTime(&r.stmt)
}

// sealedStep returns the step, to at most, before which no step's input reaches beyond sealed.
func (r *recall) sealedStep(to, sealed int64) int64 {
	reach := func(step int64) int64 {
		_, maxt := r.input(step, step)
		return maxt
	}
	beyond := reach(to-1) - sealed
	if beyond <= 0 {
		return to
	}
	end := to - (beyond+r.line.Step-1)/r.line.Step
	if reach(end-1) > sealed {
		return math.MinInt64 // an @ modifier reads there at every step
	}
	return end
}

// free gives back the memory of the entries; there are none afterwards, and nothing is to be kept.
func (r *recall) free() {
	if r == nil {
		return
	}
	r.account.Release(r.charged)
	r.charged, r.blocks, r.reused = 0, nil, 0
}
