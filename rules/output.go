// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// output is what one rule writes: the series of its last successful evaluation with their refs, so that a
// known series costs a hash and a comparison, and the batch of the evaluation under way.
//
// An evaluation calls begin, then add or record per sample, then commit; an evaluation that fails before
// commit leaves the set of known series as it was.
type output struct {
	known map[uint64]*series // by hash of labels; series of equal hash are chained
	// memo maps the labels of a recording rule's query result to the series it is recorded as, so that the
	// label set is built once per series, not once per evaluation.
	memo map[uint64]*memoEntry
	// round numbers the evaluations; a series with another round was not returned by the current one.
	round uint64
	// live counts the series that the last successful evaluation stored, again those of them that the
	// current one returned, storedNow those that the current one stored: equal counts mean that nothing
	// vanished, and the walk over all series is saved.
	live, again, storedNow int
	memoLen                int // entries of memo, chained ones counted

	batch   sample.Batch
	rows    []*series // the series of each row
	pending []*series // rows whose ref is not known yet are resolved together
	result  sample.Result
	lset    []labels.Labels
	refs    []sample.Ref
}

// series is one series that a rule writes.
type series struct {
	lset      labels.Labels
	ref       sample.Ref
	round     uint64 // the evaluation that last returned it
	stored    uint64 // the last evaluation whose sample the store took; 0: none
	histogram bool   // whether its last sample was a native histogram: a stale marker has the same type
	next      *series
}

type memoEntry struct {
	in    labels.Labels
	out   *series
	round uint64 // the evaluation that last returned in
	next  *memoEntry
}

func newOutput() *output {
	return &output{known: make(map[uint64]*series), memo: make(map[uint64]*memoEntry)}
}

// begin starts the batch of one evaluation.
func (o *output) begin() {
	o.round++
	o.again = 0
	o.batch.Reset()
	o.rows, o.pending = o.rows[:0], o.pending[:0]
}

// lookup returns the series of lset, making it where it is new.
func (o *output) lookup(lset labels.Labels) *series {
	h := lset.Hash()
	for s := o.known[h]; s != nil; s = s.next {
		if labels.Equal(s.lset, lset) {
			return s
		}
	}
	s := &series{lset: lset, next: o.known[h]}
	o.known[h] = s
	return s
}

// lookupRecorded returns the series that a result with the labels in is recorded as; build makes its labels.
func (o *output) lookupRecorded(in labels.Labels, build func(labels.Labels) labels.Labels) *series {
	h := in.Hash()
	for m := o.memo[h]; m != nil; m = m.next {
		if labels.Equal(m.in, in) {
			m.round = o.round
			return m.out
		}
	}
	s := o.lookup(build(in))
	o.memo[h] = &memoEntry{in: in, out: s, round: o.round, next: o.memo[h]}
	o.memoLen++
	return s
}

// add puts one sample of s into the batch; h is nil for a float. It reports false when the current evaluation
// has a sample of s already.
func (o *output) add(s *series, t int64, v float64, h *histogram.FloatHistogram) bool {
	if s.round == o.round {
		return false
	}
	if s.stored != 0 {
		o.again++
	}
	s.round, s.histogram = o.round, h != nil
	o.addRow(s, t, v, h)
	return true
}

func (o *output) addRow(s *series, t int64, v float64, h *histogram.FloatHistogram) {
	if s.ref == 0 {
		o.pending = append(o.pending, s)
	}
	o.rows = append(o.rows, s)
	if h != nil {
		o.batch.AppendHistogram(s.ref, 0, t, nil, h, sample.RejectOutOfOrder)
		return
	}
	o.batch.AppendFloat(s.ref, 0, t, v, sample.RejectOutOfOrder)
}

// addStale puts a stale marker of s into the batch.
func (o *output) addStale(s *series, t int64) {
	marker := math.Float64frombits(value.StaleNaN)
	if s.histogram {
		o.addRow(s, t, 0, &histogram.FloatHistogram{Sum: marker})
		return
	}
	o.addRow(s, t, marker, nil)
}

// rejection says which samples of an evaluation the store did not take.
type rejection struct {
	byReason [sample.Reasons]int
	unknown  int   // rows whose series could not be resolved
	err      error // the last one, naming a series
}

// commit writes the batch with a stale marker at staleT for every series that the last successful evaluation
// had and this one has not, and forgets those. On error nothing is known to be written, and the set of known
// series is as before.
func (o *output) commit(ctx context.Context, app sample.Appender, staleT int64) (sample.LSN, rejection, error) {
	returned := len(o.rows)
	vanished := o.again < o.live
	if vanished {
		for _, s := range o.known {
			for ; s != nil; s = s.next {
				if s.round != o.round && s.stored != 0 {
					o.addStale(s, staleT)
				}
			}
		}
	}
	var rej rejection
	lsn, err := o.write(ctx, app, returned, &rej)
	if err != nil {
		o.sweep(func(s *series) bool { return s.stored != 0 })
		return 0, rej, err
	}
	if vanished || o.storedNow < returned || o.memoLen > returned {
		// Different results may be recorded as one series in turn: then nothing vanished, but the memo grew.
		o.sweep(func(s *series) bool { return s.stored == o.round })
	}
	o.live = o.storedNow
	return lsn, rej, nil
}

// abort ends an evaluation that writes nothing: what only it returned is forgotten.
func (o *output) abort() {
	o.sweep(func(s *series) bool { return s.stored != 0 })
}

// labels returns the label sets of the series that would be marked stale if the rule returned nothing.
func (o *output) labels() []labels.Labels {
	var out []labels.Labels
	for _, s := range o.known {
		for ; s != nil; s = s.next {
			if s.stored != 0 {
				out = append(out, s.lset)
			}
		}
	}
	return out
}

// sweep forgets the series that are not to be kept, and the results that the current evaluation has not seen.
func (o *output) sweep(keep func(*series) bool) {
	for h, s := range o.known {
		if o.known[h] = s.sweep(keep); o.known[h] == nil {
			delete(o.known, h)
		}
	}
	o.memoLen = 0
	for h, m := range o.memo {
		if o.memo[h] = m.sweep(o, keep); o.memo[h] == nil {
			delete(o.memo, h)
		}
	}
}

func (s *series) sweep(keep func(*series) bool) *series {
	if s == nil {
		return nil
	}
	s.next = s.next.sweep(keep)
	if !keep(s) {
		return s.next
	}
	return s
}

func (m *memoEntry) sweep(o *output, keep func(*series) bool) *memoEntry {
	if m == nil {
		return nil
	}
	m.next = m.next.sweep(o, keep)
	if m.round != o.round || !keep(m.out) {
		return m.next
	}
	o.memoLen++
	return m
}

// write resolves what is new and commits the batch; results whose series has left the store since are resolved
// again and written once more. The first returned rows are results, the rest stale markers.
func (o *output) write(ctx context.Context, app sample.Appender, returned int, rej *rejection) (sample.LSN, error) {
	o.storedNow = 0
	if len(o.rows) == 0 {
		return 0, nil
	}
	o.resolve(app, rej)
	lsn, gone, err := o.commitRows(ctx, app, returned, rej)
	if err != nil || len(gone) == 0 {
		return lsn, err
	}
	first, rows := o.batch, o.rows
	o.batch, o.rows, o.pending = sample.Batch{}, nil, nil
	for _, i := range gone {
		rows[i].ref = 0
		var h *histogram.FloatHistogram
		if first.KindAt(i) == sample.FloatHistogram {
			h = first.FH[i]
		}
		o.addRow(rows[i], first.T[i], first.V[i], h)
	}
	o.resolve(app, rej)
	again, _, err := o.commitRows(ctx, app, len(o.rows), rej)
	return max(lsn, again), err
}

// resolve fills the refs of the new series. A label set that the store refuses does not keep the others out.
func (o *output) resolve(app sample.Appender, rej *rejection) {
	for todo := o.pending; len(todo) > 0; {
		o.lset, o.refs = o.lset[:0], o.refs[:0]
		for _, s := range todo {
			o.lset, o.refs = append(o.lset, s.lset), append(o.refs, 0)
		}
		err := app.Resolve(o.lset, o.refs)
		if _, full := errors.AsType[*budget.ExceededError](err); full { // what exists has its ref, for the rest there is no memory
			for i, ref := range o.refs {
				if todo[i].ref = ref; ref == 0 {
					rej.unknown++
					rej.err = fmt.Errorf("series %s: %w", todo[i].lset, err)
				}
			}
			break
		}
		done := 0
		for done < len(todo) && o.refs[done] != 0 {
			todo[done].ref = o.refs[done]
			done++
		}
		if done < len(todo) {
			rej.unknown++
			if err == nil {
				err = errors.New("the store gave it no reference")
			}
			rej.err = fmt.Errorf("series %s: %w", todo[done].lset, err)
			done++
		}
		todo = todo[done:]
	}
	clear(o.lset) // label sets of removed series are not to be kept alive
	for i, s := range o.rows {
		o.batch.Ref[i] = s.ref
	}
}

// commitRows commits the rows that have a ref, notes which series were stored, and returns the results whose
// series has left the store.
func (o *output) commitRows(ctx context.Context, app sample.Appender, returned int, rej *rejection) (sample.LSN, []int, error) {
	b, at := &o.batch, []int(nil)
	if rej.unknown > 0 {
		b, at = withRefs(b)
	}
	if b.Len() == 0 {
		return 0, nil, nil
	}
	lsn, err := app.Commit(ctx, b, &o.result)
	if err != nil {
		return 0, nil, err
	}
	var gone []int
	for i := range b.Len() {
		row := i
		if at != nil {
			row = at[i]
		}
		reason := o.result.At(i)
		switch {
		case row >= returned: // expected where another rule writes the series now
		case reason.Stored():
			o.rows[row].stored = o.round
			o.storedNow++
		case reason == sample.StaleRef:
			gone = append(gone, row)
		default:
			rej.byReason[reason]++
			rej.err = fmt.Errorf("series %s: %w", o.rows[row].lset, reasonError(reason))
		}
	}
	return lsn, gone, nil
}

// withRefs returns a batch of the rows of b that have a ref, and which rows those are.
func withRefs(b *sample.Batch) (*sample.Batch, []int) {
	out, at := &sample.Batch{}, make([]int, 0, b.Len())
	for i, ref := range b.Ref {
		if ref == 0 {
			continue
		}
		at = append(at, i)
		if b.KindAt(i) == sample.FloatHistogram {
			out.AppendHistogram(ref, 0, b.T[i], nil, b.FH[i], sample.RejectOutOfOrder)
			continue
		}
		out.AppendFloat(ref, 0, b.T[i], b.V[i], sample.RejectOutOfOrder)
	}
	return out, at
}

// reasonError returns the error that Prometheus' users know for a reason.
func reasonError(r sample.Reason) error {
	switch r {
	case sample.OutOfOrder:
		return storage.ErrOutOfOrderSample
	case sample.TooOld:
		return storage.ErrTooOldSample
	case sample.Conflict:
		return storage.ErrDuplicateSampleForTimestamp
	default:
		return fmt.Errorf("the store rejected the sample: %s", r)
	}
}
