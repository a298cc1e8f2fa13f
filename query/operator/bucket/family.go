// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser/posrange"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// pollBuckets is after how many buckets a loop over steps looks whether to stop.
const pollBuckets = 1 << 13

// end computes the rows of the family that is complete.
func (r *reader) end() error {
	f := &r.family
	if !f.inside {
		return nil
	}
	f.inside = false
	if err := r.node.env.Check(); err != nil {
		return err
	}
	f.shape.update(r.node.env, f.les, r.bounds)
	at := int(f.id)
	name := r.name(f.first)
	for step := range r.steps {
		if r.work += len(f.les) + 1; r.work > pollBuckets {
			r.work = 0
			if err := r.node.env.Check(); err != nil {
				return err
			}
		}
		n := r.gather(step)
		if f.solo && f.native[step] != nil {
			if n > 0 {
				r.node.noteMixed(name)
				continue
			}
			if err := r.native(at, step, f.native[step], name); err != nil {
				return err
			}
			continue
		}
		if n == 0 {
			continue
		}
		if err := r.classic(at, step, name); err != nil {
			return err
		}
	}
	return nil
}

// gather collects the bounds and counts of a step and returns how many there are.
func (r *reader) gather(step int) int {
	f := &r.family
	f.uppers, f.counts = f.shape.uppers, f.counts[:0]
	if !f.gaps {
		for _, row := range f.shape.order {
			f.counts = append(f.counts, f.values[row*r.steps+step])
		}
		return len(f.counts)
	}
	f.scratch = f.scratch[:0]
	for i, row := range f.shape.order {
		if at := row*r.steps + step; f.kinds[at] == vector.Float {
			f.scratch, f.counts = append(f.scratch, f.shape.uppers[i]), append(f.counts, f.values[at])
		}
	}
	f.uppers = f.scratch
	return len(f.counts)
}

// inOrderOfRows has the buckets of a step as Prometheus gets them, for what it does with equal bounds.
func (r *reader) inOrderOfRows(step int) promql.Buckets {
	f := &r.family
	f.buckets = f.buckets[:0]
	for row, le := range f.les {
		if at := row*r.steps + step; f.kinds[at] == vector.Float {
			f.buckets = append(f.buckets, promql.Bucket{UpperBound: r.bounds.upper(le), Count: f.values[at]})
		}
	}
	return f.buckets
}

// classic computes the cells of a step from the buckets gathered.
func (r *reader) classic(at, step int, name string) error {
	if r.node.cfg.Kind == Fraction {
		v := promql.BucketFraction(r.params[0][step], r.params[1][step], r.inOrderOfRows(step))
		return r.rows.set(at, 0, step, v)
	}
	fresh := true
	for i, p := range r.params {
		v, done := invalid(p[step])
		if !done {
			var fix forced
			v, fix = r.estimate(p[step], step, fresh)
			fresh = false
			if fix.happened {
				if err := r.node.noteForced(name, step, fix); err != nil {
					return err
				}
			}
		}
		if err := r.rows.set(at, i, step, v); err != nil {
			return err
		}
	}
	return nil
}

// estimate returns a quantile from the buckets of a step. Those are corrected for the first quantile that is computed
// from them, and are used as they then are for the others.
func (r *reader) estimate(q float64, step int, fresh bool) (float64, forced) {
	f := &r.family
	if f.shape.odd {
		if fresh {
			r.inOrderOfRows(step)
		}
		v, is, _, low, high, diff := promql.BucketQuantile(q, f.buckets)
		return v, forced{is, low, high, diff}
	}
	if !r.ended() {
		return math.NaN(), forced{}
	}
	var fix forced
	if fresh {
		fix = raise(f.uppers, f.counts)
	}
	return quantile(q, f.uppers, f.counts), fix
}

// ended tells whether the last of the buckets gathered has no bound.
func (r *reader) ended() bool { return math.IsInf(r.family.uppers[len(r.family.uppers)-1], 1) }

// native computes the cells of a step from a native histogram.
func (r *reader) native(at, step int, h *histogram.FloatHistogram, name string) error {
	if r.node.cfg.Kind == Fraction {
		v, annos := promql.HistogramFraction(r.params[0][step], r.params[1][step], h, name, posrange.PositionRange{})
		r.node.noteNative(name, annos)
		return r.rows.set(at, 0, step, v)
	}
	for i, p := range r.params {
		v, annos := promql.HistogramQuantile(p[step], h, name, posrange.PositionRange{})
		r.node.noteNative(name, annos)
		if err := r.rows.set(at, i, step, v); err != nil {
			return err
		}
	}
	return nil
}
