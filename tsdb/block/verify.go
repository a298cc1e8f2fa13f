// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Verify reads the whole file and checks that it holds what its meta says. It returns what it finds wrong, all
// of it joined, or the error of ctx.
func (b *Block) Verify(ctx context.Context) error {
	v := newVerification(Check{})
	v.note(b.damage)
	if err := v.samples(ctx, b); err != nil {
		return err
	}
	if err := v.times(ctx, b); err != nil {
		return err
	}
	exemplars, err := b.verifyExemplars()
	v.note(err)
	if err := errors.Join(v.errs...); err != nil {
		return err
	}
	m := b.meta
	if v.floats != m.Floats || v.histograms != m.Histograms || exemplars != m.Exemplars ||
		v.floats+v.histograms > 0 && (v.first != m.MinT || v.last != m.MaxT) {
		return b.corrupt(0, fmt.Sprintf("the block holds %d floats, %d histograms, %d exemplars in [%d, %d]; its meta says %d, %d, %d in [%d, %d]",
			v.floats, v.histograms, exemplars, v.first, v.last, m.Floats, m.Histograms, m.Exemplars, m.MinT, m.MaxT))
	}
	return nil
}

// verification is what Verify counts and finds.
type verification struct {
	Check

	errs               []error
	floats, histograms uint64
	first, last        int64
}

// note adds an error, but one that the series before had too: that of their stripe.
func (v *verification) note(err error) {
	if n := len(v.errs); err != nil && (n == 0 || !errors.Is(err, v.errs[n-1])) {
		v.errs = append(v.errs, err)
	}
}

// samples reads all rows, stripe after stripe. It returns the error of ctx alone.
func (v *verification) samples(ctx context.Context, b *Block) error {
	r := b.Reader()
	for i := range b.directory.groups {
		r.begin(i)
		g := &b.directory.groups[i]
		for k := range int(g.to - g.from) {
			if err := v.before(ctx, int64(b.directory.stripes[g.from+uint32(k)].size)); err != nil {
				return err
			}
			v.stripe(ctx, &r, k)
		}
	}
	return nil
}

// stripe reads the rows of all series of the k-th stripe of the group that r holds.
func (v *verification) stripe(ctx context.Context, r *Reader, k int) {
	var dst column.Block
	g := &r.block.directory.groups[r.group]
	s := &r.block.directory.stripes[g.from+uint32(k)]
	d := Damage{Off: s.off, MinT: s.minT, MaxT: s.maxT}
	defer func() { v.tell(d) }()
	for id := g.first; id < g.first+g.series; id++ {
		dst.Reset()
		if err := r.readStripe(ctx, k, id, wanted{math.MinInt64, math.MaxInt64, true, &dst}); err != nil {
			v.note(err)
			d.note(id, err)
			continue
		}
		h := histogramRows(&dst)
		n := len(dst.T)
		v.histograms += h
		v.floats += uint64(n) - h
		if n > 0 {
			v.first, v.last = min(v.first, dst.T[0]), max(v.last, dst.T[n-1])
		}
	}
}

// times reads the columns of times, also those that no page has. Those that are parts of others are left to the pages
// that have them.
func (v *verification) times(ctx context.Context, b *Block) error {
	for i := range b.directory.times {
		if err := v.before(ctx, int64(b.directory.times[i].size)); err != nil {
			return err
		}
		l, err := b.loadTimes(uint32(i))
		if err != nil {
			v.note(err)
			continue
		}
		for k := range l.parsed {
			if l.bases[k] > 0 {
				continue
			}
			if _, at, msg := l.column(uint32(k), nil); msg != "" {
				v.note(b.corrupt(b.directory.times[i].off+at, "times: "+msg))
			}
		}
	}
	return nil
}

func histogramRows(b *column.Block) (n uint64) {
	for _, k := range b.Kind {
		if k != sample.Float {
			n++
		}
	}
	return n
}
