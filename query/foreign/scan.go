// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

const (
	// enoughRows is after how many rows a Scan ends with the series at hand.
	enoughRows = 8192
	// pollRows is after how many samples the context is looked at, and room is made for as many.
	pollRows = 512
)

// Scan implements column.View.
func (v *View) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	dst.Reset()
	list, ok := s.Handle.([]storage.Series)
	if !ok {
		return 0, errors.New("the series set is not one of a foreign storage")
	}
	if n.MinT == 0 && n.MaxT == 0 {
		n.MinT, n.MaxT = v.mint, v.maxt
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return 0, errClosed
	}
	for i, id := range ids {
		v.iterator = list[id].Iterator(v.iterator)
		if err := read(ctx, v.iterator, n, dst); err != nil {
			v.iterator = nil
			return 0, err
		}
		dst.EndSeries()
		if len(dst.T) >= enoughRows {
			return i + 1, nil
		}
	}
	return len(ids), nil
}

// read appends the samples of one series that are needed. Like Prometheus' engine it calls Next before Seek.
func read(ctx context.Context, it chunkenc.Iterator, n column.Need, dst *column.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	kind := it.Next()
	if kind != chunkenc.ValNone && it.AtT() < n.MinT {
		kind = it.Seek(n.MinT)
	}
	last, first := int64(math.MinInt64), true
	for rows := 0; kind != chunkenc.ValNone; kind = it.Next() {
		t := it.AtT()
		if t > n.MaxT {
			break
		}
		if t < n.MinT || t <= last && !first {
			continue
		}
		if rows%pollRows == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := dst.Reserve(pollRows); err != nil {
				return err
			}
		}
		rows++
		last, first = t, false
		if err := add(it, kind, n.ST, dst); err != nil {
			return err
		}
	}
	return it.Err()
}

// add appends the sample that the iterator stands on.
func add(it chunkenc.Iterator, kind chunkenc.ValueType, withST bool, dst *column.Block) error {
	var st int64
	if withST {
		if st = it.AtST(); st != 0 {
			if err := dst.UseST(); err != nil {
				return err
			}
		}
	}
	switch kind {
	case chunkenc.ValFloat:
		t, v := it.At()
		dst.AppendFloat(t, st, v)
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		t, h := it.AtFloatHistogram(nil)
		if err := dst.Charge(int64(h.Size())); err != nil {
			return err
		}
		dst.AppendHistogram(t, st, nil, h)
	default:
		return fmt.Errorf("unknown value type %v", kind)
	}
	return nil
}
