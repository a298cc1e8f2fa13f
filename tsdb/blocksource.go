// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
)

// slotReadRun is how many series are read at a time.
const slotReadRun = scanRun

// slotSource yields what a pin sees of one slot of the head, in label order. Memory: the label columns of the
// slot's series, as for a query of all of them, and the samples of slotReadRun series at a time.
func (db *DB) slotSource(ctx context.Context, pin *head.Pin, slot int64) block.Source {
	v := &view{db: db, pin: pin, mint: slot, maxt: db.slotLast(slot)}
	v.sources = []source{headSource{pin: pin, index: db.head.Index(), once: &onceReader{}}}
	return block.Source{Series: v.eachSeries(ctx), Metadata: sortedFamilies(pin.Metadata("")), Account: db.upkeep}
}

// slotLast is the last millisecond of a slot.
func (db *DB) slotLast(slot int64) int64 {
	if last := slot + db.meta.SlotMillis - 1; last > slot {
		return last
	}
	return maxTime
}

// eachSeries yields the series of the view that match with their samples and exemplars.
func (v *view) eachSeries(ctx context.Context, ms ...*labels.Matcher) iter.Seq2[block.Series, error] {
	return func(yield func(block.Series, error) bool) {
		set, err := v.Series(ctx, ms, column.Hint{Account: v.db.upkeep})
		if err != nil {
			yield(block.Series{}, err)
			return
		}
		defer v.db.upkeep.Release(set.Bytes)
		ids := make([]uint32, 0, slotReadRun)
		var b column.Block
		var sb labels.ScratchBuilder
		h, err := v.handleOf(set)
		if err != nil {
			yield(block.Series{}, err)
			return
		}
		for next := uint32(0); int(next) < set.N; {
			ids = ids[:0]
			for i := next; int(i) < set.N && len(ids) < slotReadRun; i++ {
				ids = append(ids, i)
			}
			n, err := v.Scan(ctx, set, ids, column.Need{ST: true}, &b)
			if err != nil {
				yield(block.Series{}, err)
				return
			}
			for i := range n {
				s := block.Series{Labels: set.Labels(ids[i], &sb), Rows: &b}
				s.From, s.To = b.Rows(i)
				loc := h.of(ids[i])[0]
				s.Exemplars, err = h.sources[loc.source].exemplars(ctx, loc.id, v.mint, v.maxt)
				if err != nil {
					yield(block.Series{}, fmt.Errorf("read exemplars of %s: %w", s.Labels, err))
					return
				}
				if !yield(s, nil) {
					return
				}
			}
			next += uint32(n)
		}
	}
}

// withoutExemplars yields series without their exemplars.
func withoutExemplars(series iter.Seq2[block.Series, error]) iter.Seq2[block.Series, error] {
	return func(yield func(block.Series, error) bool) {
		for s, err := range series {
			s.Exemplars = nil
			if !yield(s, err) {
				return
			}
		}
	}
}

// sortedFamilies yields m in name order.
func sortedFamilies(m map[string][]metadata.Metadata) iter.Seq2[string, []metadata.Metadata] {
	return func(yield func(string, []metadata.Metadata) bool) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}
