// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Check is how a file is read through for damage. The zero value reads as fast as it can and tells nobody.
type Check struct {
	// Found is told of each damaged place.
	Found func(Damage)
	// Before is called before so many bytes are read; an error ends the check. nil: the error of the context does.
	Before func(ctx context.Context, bytes int64) error
}

// Damage is one place of a file that cannot be read, and what is missing without it.
type Damage struct {
	Off        int64
	MinT, MaxT int64    // of what is missing, where Series is not empty
	Series     []uint32 // whose samples are missing
	Err        error
}

// note adds a series. The first error says enough.
func (d *Damage) note(id uint32, err error) {
	if d.Series = append(d.Series, id); d.Err == nil {
		d.Err = err
	}
}

func newVerification(c Check) *verification {
	return &verification{Check: c, first: math.MaxInt64, last: math.MinInt64}
}

func (v *verification) tell(d Damage) {
	if v.Found != nil && d.Err != nil {
		v.Found(d)
	}
}

func (v *verification) before(ctx context.Context, bytes int64) error {
	if v.Before == nil {
		return ctx.Err()
	}
	return v.Before(ctx, bytes)
}

// Check reads the whole file from disk but for what Open has read, and tells of each damaged stripe. It returns the error
// of ctx or of c.Before alone.
func (b *Block) Check(ctx context.Context, c Check) error {
	v := newVerification(c)
	v.tell(Damage{Err: b.damage})
	if err := v.all(ctx, b); err != nil {
		return err
	}
	exemplars, err := b.verifyExemplars()
	v.tell(Damage{Err: err})
	m := b.meta
	if len(v.errs) == 0 && err == nil && (v.floats != m.Floats || v.histograms != m.Histograms || exemplars != m.Exemplars) {
		v.tell(Damage{Err: b.corrupt(0, fmt.Sprintf("the block holds %d floats, %d histograms, %d exemplars; its meta says %d, %d, %d",
			v.floats, v.histograms, exemplars, m.Floats, m.Histograms, m.Exemplars))})
	}
	return nil
}

// all reads all stripes. The damage of a stripe of times is told with the rows that need it, and by itself where none does.
func (v *verification) all(ctx context.Context, b *Block) error {
	if err := v.samples(ctx, b); err != nil {
		return err
	}
	told := len(v.errs)
	if err := v.times(ctx, b); err != nil {
		return err
	}
	if told == 0 {
		v.tell(Damage{Err: errors.Join(v.errs...)})
	}
	return nil
}

// Check reads the whole part from disk but for what OpenPart has read, as that of a block does. Series are numbers.
func (p *Part) Check(ctx context.Context, c Check) error {
	v := newVerification(c)
	m, err := p.Members()
	if err != nil {
		v.tell(Damage{Err: err})
	}
	m.Free()
	if err := v.all(ctx, &p.b); err != nil {
		return err
	}
	if rows := v.floats + v.histograms; len(v.errs) == 0 && rows != p.meta.Rows {
		v.tell(Damage{Err: p.b.corrupt(0, fmt.Sprintf("the part holds %d rows; its meta says %d", rows, p.meta.Rows))})
	}
	return nil
}
