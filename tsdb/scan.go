// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// scanRows is how many rows a Scan decodes before it returns: 16 B each, so 1 MiB, which stays in the second
// level cache while a kernel reads it.
const scanRows = 1 << 16

// Scan decodes the next series of ids; see column.View.
func (v *view) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	h, err := v.handleOf(s)
	if err != nil {
		return 0, fmt.Errorf("scan: %w", err)
	}
	n.MinT, n.MaxT = v.span(n.MinT, n.MaxT)
	dst.Reset()
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		if err := v.scanRow(ctx, h, id, n, dst); err != nil {
			return i, err
		}
		dst.EndSeries()
		if len(dst.T) >= scanRows {
			return i + 1, nil
		}
	}
	return len(ids), nil
}

// scanRow appends the rows of one series. Sources come oldest first, so that in the common case each appends
// after the other; only where times meet or cross are they merged.
func (v *view) scanRow(ctx context.Context, h *handle, row uint32, n column.Need, dst *column.Block) error {
	start := len(dst.T)
	var m rowMerge
	for _, loc := range h.of(row) {
		src := h.sources[loc.source]
		from := len(dst.T)
		err := src.read(ctx, loc.id, n, dst)
		if damaged(err) {
			truncateRows(dst, from)
			v.unreadable(err)
			continue
		}
		if err != nil {
			return fmt.Errorf("read samples: %w", err)
		}
		if len(dst.T) == from {
			continue
		}
		m.runs = append(m.runs, run{from: from, to: len(dst.T), priority: src.priority()})
		if from > start && dst.T[from] <= dst.T[from-1] {
			m.crossed = true
		}
	}
	if m.crossed {
		m.merge(dst, start)
	}
	return nil
}

// run is the rows that one source gave for a series, ascending in time.
type run struct {
	from, to int
	priority sample.LSN
}

// rowMerge brings the runs of one series into one order. At equal times the run of the lower priority number, the
// earlier commit, wins.
type rowMerge struct {
	runs    []run
	crossed bool
}

func (m *rowMerge) merge(b *column.Block, start int) {
	n := len(b.T) - start
	order := make([]int, n)
	prio := make([]sample.LSN, n)
	for _, r := range m.runs {
		for i := r.from; i < r.to; i++ {
			order[i-start], prio[i-start] = i, r.priority
		}
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(b.T[x], b.T[y]), cmp.Compare(prio[x-start], prio[y-start]))
	})
	order = slices.CompactFunc(order, func(x, y int) bool { return b.T[x] == b.T[y] })
	reorderRows(b, order, start)
}

// reorderRows replaces the rows of b from start on by those that order names.
func reorderRows(b *column.Block, order []int, start int) {
	permute(&b.T, order, start)
	permute(&b.V, order, start)
	if len(b.ST) > 0 {
		permute(&b.ST, order, start)
	}
	if len(b.Kind) > 0 {
		permute(&b.Kind, order, start)
		permute(&b.H.Int, order, start)
		permute(&b.H.Float, order, start)
	}
}

// permute replaces the entries of s from start on by those that order names.
func permute[T any](s *[]T, order []int, start int) {
	moved := make([]T, len(order))
	for i, from := range order {
		moved[i] = (*s)[from]
	}
	*s = append((*s)[:start], moved...)
}

// truncateRows drops the rows from n on, which a source that failed half way had appended.
func truncateRows(b *column.Block, n int) {
	b.T, b.V = b.T[:n], b.V[:n]
	if len(b.ST) > 0 {
		b.ST = b.ST[:n]
	}
	if len(b.Kind) > 0 {
		b.Kind, b.H.Int, b.H.Float = b.Kind[:n], b.H.Int[:n], b.H.Float[:n]
	}
}
