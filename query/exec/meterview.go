// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// meterView returns v with what is read through it counted by m. It offers what v does.
func meterView(v column.View, m *meter) column.View {
	w := &meteredView{v, m}
	if l, ok := v.(column.LatestReader); ok {
		return &meteredLatest{w, l}
	}
	return w
}

type meteredView struct {
	column.View
	m *meter
}

// Series implements column.View.
func (v *meteredView) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	s, err := v.View.Series(ctx, ms, h)
	if err != nil {
		return s, err
	}
	v.m.selections.Add(1)
	v.m.series.Add(int64(s.N))
	if s.Cached {
		v.m.selectionsCached.Add(1)
	}
	return s, nil
}

// Scan implements column.View.
func (v *meteredView) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	done, err := v.View.Scan(ctx, s, ids, n, dst)
	v.m.samples.Add(int64(len(dst.T)))
	v.m.bytes.Add(decodedBytes(dst))
	return done, err
}

// decodedBytes is what the samples of a block take decoded.
func decodedBytes(b *column.Block) int64 {
	n := int64(len(b.T)+len(b.V)+len(b.ST)) * 8
	for _, h := range b.H.Float {
		if h != nil {
			n += int64(h.Size())
		}
	}
	return n
}

// KeepsResetHints tells what the view itself tells.
func (v *meteredView) KeepsResetHints() bool {
	k, ok := v.View.(interface{ KeepsResetHints() bool })
	return ok && k.KeepsResetHints()
}

type meteredLatest struct {
	*meteredView
	latest column.LatestReader
}

// Latest implements column.LatestReader.
func (v *meteredLatest) Latest(ctx context.Context, s *column.SeriesSet, ids []uint32, at int64, dst *column.Latest) error {
	err := v.latest.Latest(ctx, s, ids, at, dst)
	if err != nil {
		return err
	}
	for _, known := range dst.Known {
		if known {
			v.m.latest.Add(1)
		}
	}
	return nil
}
