// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// foreignSource is a foreign block as a part of a view. What cannot be read of its series is missing from answers, with
// a warning.
type foreignSource struct {
	b    storedForeign
	warn func(error)
	seed index.Seed // of the hashes
}

func (s foreignSource) span() (id string, mint, maxt int64) {
	return s.b.info.ID, s.b.info.MinT, s.b.info.MaxT
}

func (s foreignSource) selectIDs(t *budget.Task, ms []*labels.Matcher) ([]uint32, error) {
	ids, err := s.b.find(t.Context(), ms)
	if err != nil {
		return nil, s.tolerate(err)
	}
	if !t.Reserve(numberBytes * int64(len(ids))) {
		return nil, t.Err()
	}
	return ids, nil
}

// tolerate warns of damage; another error it returns.
func (s foreignSource) tolerate(err error) error {
	if _, ok := errors.AsType[*ForeignDamage](err); !ok {
		return err
	}
	s.warn(err)
	return nil
}

// eachPairs finds entries sound: they were checked when the block was loaded.
func (s foreignSource) eachPairs(ids []uint32, f func(pairs []uint32)) {
	var pairs []uint32
	for _, id := range ids {
		var err error
		if pairs, err = s.b.Pairs(id, pairs[:0]); err != nil {
			s.warn(err)
		}
		f(pairs)
	}
}

func (s foreignSource) symbols() int { return s.b.Symbols() }

func (s foreignSource) texts(syms []uint32, dst []string) []string {
	for _, sym := range syms {
		dst = append(dst, strings.Clone(s.b.Symbol(sym))) // not a piece of all texts of the block, which may end before
	}
	return dst
}

func (s foreignSource) hashes(_ *budget.Task, ids []uint32, dst []index.Hash128) []index.Hash128 {
	s.eachPairs(ids, func(pairs []uint32) { dst = append(dst, s.seed.Pairs(pairs, s.b.Symbol)) })
	return dst
}

func (s foreignSource) labelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error) {
	err := s.b.load(t.Context())
	if err != nil {
		return nil, s.tolerate(err)
	}
	names, err := s.b.LabelNames(t.Context(), ms, limit)
	if err != nil {
		return nil, s.tolerate(err)
	}
	return names, nil
}

func (s foreignSource) labelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	err := s.b.load(t.Context())
	if err != nil {
		return nil, s.tolerate(err)
	}
	values, err := s.b.LabelValues(t.Context(), name, ms, limit)
	if err != nil {
		return nil, s.tolerate(err)
	}
	return values, nil
}

func (s foreignSource) reader(n column.Need) rowReader {
	return &foreignReader{block: s.b, rows: s.b.Reader(), need: n}
}

func (s foreignSource) exemplars(_ context.Context, id uint32, mint, maxt int64) ([]exemplar.Exemplar, error) {
	return s.b.Exemplars(id, mint, maxt)
}

func (s foreignSource) metadata(metric string) iter.Seq2[string, []metadata.Metadata] {
	return s.b.descriptions(metric)
}

// priority of a foreign block is the first: what it holds was there before the store.
func (s foreignSource) priority() sample.LSN { return 0 }
func (s foreignSource) release()             { s.b.leave() }

// foreignReader reads the samples of series of one foreign block.
type foreignReader struct {
	block storedForeign
	rows  ForeignReader
	need  column.Need
	ids   []uint32
}

func (r *foreignReader) load(ids []uint32) { r.ids = ids }

func (r *foreignReader) next(ctx context.Context, dst *column.Block) error {
	from, id := len(dst.T), r.ids[0]
	r.ids = r.ids[1:]
	if err := r.rows.Read(ctx, id, r.need, dst); err != nil {
		return err
	}
	r.block.dead.drop(id, dst, from)
	return nil
}

func (r *foreignReader) close() {}

// resume reports false: what the reader holds was charged to the Scan before.
func (r *foreignReader) resume(column.Need, *column.Block) bool { return false }
