// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// checkQuantiles notes values that are no quantiles. Of two places with the same value the later evaluated counts.
func (n *Node) checkQuantiles() {
	type wrong struct {
		text string
		q    float64
		slot int
	}
	var found []wrong
	for step := range n.Grid().N {
		for i, p := range n.cfg.Params {
			q := p.Values()[step]
			if q >= 0 && q <= 1 {
				continue
			}
			w := wrong{fmt.Sprintf("%g", q), q, n.cfg.paramSlot(i)}
			if at := slices.IndexFunc(found, func(x wrong) bool { return x.text == w.text }); at >= 0 {
				found[at] = w
				continue
			}
			found = append(found, w)
		}
	}
	for _, w := range found {
		n.notes.Append(w.slot, func(p posrange.PositionRange) error {
			return annotations.NewInvalidQuantileWarning(w.q, p)
		})
	}
}

func (n *Node) noteBadBound(name, le string) {
	if !n.env.DelayedNameRemoval {
		name = ""
	}
	n.notes.Add(n.cfg.inputSlot(), "bound "+le, name, func(p posrange.PositionRange) error {
		return annotations.NewBadBucketLabelWarning(name, le, p)
	})
}

func (n *Node) noteMixed(name string) {
	n.notes.Add(n.cfg.inputSlot(), "mixed", name, func(p posrange.PositionRange) error {
		return annotations.NewMixedClassicNativeHistogramsWarning(name, p)
	})
}

// noteNative notes what a function of a native histogram had to say.
func (n *Node) noteNative(name string, annos annotations.Annotations) {
	for _, err := range annos {
		kind, anno := "", annotations.NewNativeHistogramFractionNaNsInfo
		switch {
		case errors.Is(err, annotations.NativeHistogramQuantileNaNResultInfo):
			kind, anno = "result", annotations.NewNativeHistogramQuantileNaNResultInfo
		case errors.Is(err, annotations.NativeHistogramQuantileNaNSkewInfo):
			kind, anno = "skew", annotations.NewNativeHistogramQuantileNaNSkewInfo
		}
		n.notes.Add(n.cfg.inputSlot(), "native "+kind, name, func(p posrange.PositionRange) error {
			return anno(name, p)
		})
	}
}

// tally is how often, and where, the counts of buckets had to be raised.
type tally struct {
	forced
	by          []uint64 // occurrences by step
	first, last int      // steps
}

// noteForced adds to the tally of a metric name. It is told as one annotation, made when the reader is done.
func (n *Node) noteForced(name string, step int, f forced) error {
	t, ok := n.tallies[name]
	if !ok {
		by, err := retain.Make[uint64](&n.memory, n.Grid().N)
		if err != nil {
			return err
		}
		t = &tally{forced: f, by: by, first: step, last: step}
		if n.tallies == nil {
			n.tallies = map[string]*tally{}
		}
		n.tallies[name] = t
		n.notes.Add(n.cfg.inputSlot(), "forced", name, func(p posrange.PositionRange) error {
			return t.annotation(name, n.Grid(), p)
		})
	}
	t.by[step]++
	t.first, t.last = min(t.first, step), max(t.last, step)
	t.low, t.high, t.diff = min(t.low, f.low), max(t.high, f.high), max(t.diff, f.diff)
	return nil
}

// count returns the number of samples that the annotation tells of. Prometheus merges what the steps so far had to say
// with itself at every step after the first that had anything, which doubles it; so does this, overflow and all.
func (t *tally) count() uint64 {
	n := t.by[t.first]
	for _, k := range t.by[t.first+1:] {
		n = 2 * (n + k)
	}
	return n
}

// annotation makes the one annotation that as many as were counted would have merged into. Annotations of this kind
// add up when they meet, so that twice the same one is a double: the count is put together from powers of two.
func (t *tally) annotation(name string, g vector.Grid, p posrange.PositionRange) error {
	one := func(step int) error {
		return annotations.NewHistogramQuantileForcedMonotonicityInfo(name, p, g.At(step), t.low, t.high, t.diff)
	}
	sum, power := one(t.first), one(t.last)
	for rest := t.count() - 1; rest > 0; rest >>= 1 {
		if rest&1 == 1 {
			sum = merge(power, sum)
		}
		power = merge(power, power)
	}
	return sum
}

func merge(a, b error) error {
	if m, ok := a.(interface{ Merge(error) error }); ok {
		return m.Merge(b)
	}
	return b
}
