// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// blockMerge reads several blocks as one, series by series in label order. It holds the rows of one series, and of each
// block the stripes of one group. It belongs to one goroutine.
type blockMerge struct {
	inputs []*mergeInput // by LSN
	rows   column.Block
	merge  rowMerge
	// each is called before a series is read; an error ends the merge.
	each func(ctx context.Context) error
	// lost is told of what of a series cannot be read and is left out; nil: it ends the merge.
	lost func(error)
	same []*mergeInput // that have the series at hand
	// pages are those of the series at hand where they may be copied.
	pages []block.Page
	hide  hideMerge
	out   uint32 // series yielded that are written
}

// mergeInput is one of the blocks.
type mergeInput struct {
	b       storedBlock
	ids     []uint32 // those that are wanted, ascending; nil: all
	next    int      // into ids, or the id
	id      uint32   // of the series at hand
	labels  labels.Labels
	done    bool
	rows    block.Reader
	builder labels.ScratchBuilder
}

// heldStripe is about what a stripe takes that a reader holds: its bytes, and the times that go with it.
const heldStripe = 96 << 10

// newBlockMerge returns a merge of blocks that stay open while it runs, all their series or those of ids. Samples that a
// final delete hides are left out; those of others are kept, and tombstones returns what hides them.
func newBlockMerge(blocks []storedBlock, ids [][]uint32, final func(sample.LSN) bool) *blockMerge {
	m := &blockMerge{each: func(context.Context) error { return nil }, hide: newHideMerge(blocks, final)}
	for i, b := range blocks {
		in := &mergeInput{b: b, rows: b.ReaderOnce()}
		if ids != nil {
			in.ids = ids[i]
			if in.ids == nil {
				in.ids = []uint32{}
			}
		}
		m.inputs = append(m.inputs, in)
	}
	slices.SortStableFunc(m.inputs, func(a, b *mergeInput) int {
		x, y := a.b.Meta(), b.b.Meta()
		return cmp.Or(cmp.Compare(x.LSN, y.LSN), cmp.Compare(x.MinT, y.MinT), cmp.Compare(x.ULID, y.ULID))
	})
	return m
}

// bytes is what the merge holds of its blocks at most, beside the rows.
func (m *blockMerge) bytes() int64 {
	n := int64(0)
	for _, in := range m.inputs {
		meta := in.b.Meta()
		n += heldStripe * (1 + (meta.MaxT-meta.MinT)/max(1, meta.Slot))
	}
	return n
}

// advance moves to the next series.
func (in *mergeInput) advance() {
	switch {
	case in.ids == nil && in.next < in.b.Index().N():
		in.id = uint32(in.next)
	case in.next < len(in.ids):
		in.id = in.ids[in.next]
	default:
		in.done = true
		return
	}
	in.next++
	in.labels = in.b.Index().Labels(in.id, &in.builder)
}

// series yields the series that any of the blocks has. A damaged part of a block ends it with an error: what is merely
// missing from an answer must not become missing from the store.
func (m *blockMerge) series(ctx context.Context) iter.Seq2[block.Series, error] {
	return func(yield func(block.Series, error) bool) {
		for _, in := range m.inputs {
			in.advance()
		}
		for m.first() {
			s, err := m.read(ctx)
			if !yield(s, err) || err != nil {
				return
			}
			for _, in := range m.same {
				in.advance()
			}
		}
	}
}

// first finds the inputs whose series at hand comes first; there is none at the end.
func (m *blockMerge) first() bool {
	m.same = m.same[:0]
	for _, in := range m.inputs {
		if in.done {
			continue
		}
		order := -1
		if len(m.same) > 0 {
			order = labels.Compare(in.labels, m.same[0].labels)
		}
		switch {
		case order < 0:
			m.same = append(m.same[:0], in)
		case order == 0:
			m.same = append(m.same, in)
		}
	}
	return len(m.same) > 0
}

// read reads the series at hand.
func (m *blockMerge) read(ctx context.Context) (block.Series, error) {
	s := block.Series{Labels: m.same[0].labels, Rows: &m.rows}
	if err := m.each(ctx); err != nil {
		return s, err
	}
	for _, in := range m.same {
		more, err := in.b.Exemplars(ctx, in.id, math.MinInt64, math.MaxInt64)
		if err = m.tolerate(err); err != nil {
			return s, fmt.Errorf("block %s: exemplars: %w", in.b.Meta().ULID, err)
		}
		s.Exemplars = joinExemplars(s.Exemplars, more)
	}
	copies, err := m.copies(ctx)
	switch {
	case err != nil:
		return s, err
	case copies:
		s.Pages = m.pages
		s.Decode = func() (block.Series, error) {
			err := m.decode(ctx, &s)
			return s, err
		}
	default:
		if err := m.decode(ctx, &s); err != nil {
			return s, err
		}
	}
	if s.To > 0 || len(s.Pages) > 0 || len(s.Exemplars) > 0 {
		m.out++
	}
	return s, nil
}

// copies finds the pages of the series at hand, and reports whether they may be copied: where nothing of them is left out
// or hidden, and they come one after the other. The rows that the merge holds are reset.
func (m *blockMerge) copies(ctx context.Context) (bool, error) {
	m.rows.Reset()
	m.rows.Want(column.Need{ST: true})
	m.pages = m.pages[:0]
	if m.lost != nil {
		return false, nil // what is damaged within a page must be found
	}
	for _, in := range m.same {
		if m.hide.touches(in) {
			return false, nil
		}
		var ok bool
		var err error
		if m.pages, ok, err = in.rows.Pages(ctx, in.id, &m.rows, m.pages); err != nil || !ok {
			return false, err
		}
	}
	return block.InOrder(m.pages), nil
}

// decode reads the rows of the series at hand.
func (m *blockMerge) decode(ctx context.Context, s *block.Series) error {
	m.merge.runs, m.merge.crossed = m.merge.runs[:0], false
	m.hide.begin(m.same)
	for i, in := range m.same {
		if err := m.tolerate(m.append(ctx, in, sample.LSN(i))); err != nil {
			return fmt.Errorf("block %s: %w", in.b.Meta().ULID, err)
		}
	}
	switch {
	case m.hide.any:
		m.hide.merge(&m.rows, m.merge.runs, m.out)
	case m.merge.crossed:
		m.merge.merge(&m.rows, 0)
	}
	s.To = len(m.rows.T)
	return nil
}

// append appends the rows of an input, over which those of a lower place win.
func (m *blockMerge) append(ctx context.Context, in *mergeInput, place sample.LSN) error {
	from := len(m.rows.T)
	damage := in.rows.Read(ctx, in.id, math.MinInt64, math.MaxInt64, true, &m.rows)
	if damage != nil && (m.lost == nil || !damaged(damage)) {
		return damage
	}
	m.hide.final(in).drop(in.id, &m.rows, from)
	if len(m.rows.T) == from {
		return damage
	}
	m.merge.runs = append(m.merge.runs, run{from: from, to: len(m.rows.T), priority: place})
	if from > 0 && m.rows.T[from] <= m.rows.T[from-1] {
		m.merge.crossed = true
	}
	return damage
}

// tolerate tells of err and lets the merge go on, where it is about what is to be left out.
func (m *blockMerge) tolerate(err error) error {
	if err == nil || m.lost == nil || !damaged(err) {
		return err
	}
	m.lost(err)
	return nil
}

// joinExemplars returns both in time order, equal ones once.
func joinExemplars(a, b []exemplar.Exemplar) []exemplar.Exemplar {
	if len(a) == 0 {
		return b
	}
	all := append(slices.Clip(a), b...)
	slices.SortStableFunc(all, func(x, y exemplar.Exemplar) int { return cmp.Compare(x.Ts, y.Ts) })
	return slices.CompactFunc(all, func(x, y exemplar.Exemplar) bool { return x.Equals(y) })
}

// maxDescriptions is how many descriptions of a metric family are kept.
const maxDescriptions = 10

// metadata yields the descriptions of the metric families, each family's newest first.
func (m *blockMerge) metadata() iter.Seq2[string, []metadata.Metadata] {
	all := map[string][]metadata.Metadata{}
	for _, in := range slices.Backward(m.inputs) {
		for family, ds := range in.b.Metadata("") {
			for _, d := range ds {
				if have := all[family]; len(have) < maxDescriptions && !slices.Contains(have, d) {
					all[family] = append(have, d)
				}
			}
		}
	}
	return sortedFamilies(all)
}
