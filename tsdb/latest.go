// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
)

var _ column.LatestReader = (*view)(nil)

// latestRun is how many series are asked of the head at a time.
const latestRun = 512

// Latest finds the newest samples that the head knows; see column.LatestReader. A sample counts where it is newer
// than every block that has its series: then nothing of a block, and nothing late, can stand between it and at.
//
// Cost: two cache misses for each series, about 20 ns, and no allocation.
func (v *view) Latest(ctx context.Context, s *column.SeriesSet, ids []uint32, at int64, dst *column.Latest) error {
	h, err := v.handleOf(s)
	if err != nil {
		return fmt.Errorf("latest samples: %w", err)
	}
	if n := len(ids); len(dst.Known) < n || len(dst.T) < n || len(dst.V) < n {
		return errors.New("latest samples: the columns are too short for the series")
	}
	if v.pin == nil {
		clear(dst.Known[:len(ids)])
		return nil
	}
	at = min(at, v.maxt)
	var run [latestRun]uint32
	var blocks [latestRun]int64
	for from := 0; from < len(ids); from += latestRun {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := min(from+latestRun, len(ids))
		for i, row := range ids[from:to] {
			run[i], blocks[i] = h.inHead(row)
		}
		part := column.Latest{Known: dst.Known[from:to], T: dst.T[from:to], V: dst.V[from:to]}
		v.pin.Latest(run[:to-from], at, &part)
		for i, known := range part.Known {
			switch {
			case known && part.T[i] <= blocks[i]:
				part.Known[i] = false
			case known && part.T[i] < v.mint:
				part.T[i] = math.MinInt64
			}
		}
	}
	return nil
}

// inHead returns the id of a series in the head, and the time of the newest sample that any block may have of it.
func (h *handle) inHead(row uint32) (id uint32, newest int64) {
	id, newest = head.NoSeries, math.MinInt64
	for _, p := range h.of(row) {
		switch s := h.sources[p.source].(type) {
		case headSource:
			id = p.id
		case spanned:
			_, _, last := s.span()
			newest = max(newest, last)
		}
	}
	return id, newest
}
