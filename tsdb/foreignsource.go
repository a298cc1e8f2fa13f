// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"

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
	ids, err := s.b.Select(t.Context(), ms)
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
	damage, ok := errors.AsType[*ForeignDamage](err)
	if !ok {
		return err
	}
	s.b.damage.Store(damage)
	s.warn(err)
	return nil
}

// labels calls f with the labels of each of ids. Entries were found sound when they were selected.
func (s foreignSource) labels(ids []uint32, f func(ls labels.Labels)) {
	var sb labels.ScratchBuilder
	for _, id := range ids {
		ls, err := s.b.Labels(id, &sb)
		if err != nil {
			s.warn(err)
		}
		f(ls)
	}
}

func (s foreignSource) eachPairs(ids []uint32, f func(pairs []uint32)) {
	var pairs []uint32
	s.labels(ids, func(ls labels.Labels) {
		pairs = s.b.syms.pairs(pairs[:0], ls)
		f(pairs)
	})
}

func (s foreignSource) symbols() int { return s.b.syms.len() }

func (s foreignSource) texts(syms []uint32, dst []string) []string {
	return s.b.syms.appendTexts(dst, syms)
}

func (s foreignSource) hashes(_ *budget.Task, ids []uint32, dst []index.Hash128) []index.Hash128 {
	s.labels(ids, func(ls labels.Labels) { dst = append(dst, s.seed.Labels(ls)) })
	return dst
}

func (s foreignSource) labelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error) {
	names, err := s.b.LabelNames(t.Context(), ms, limit)
	if err != nil {
		return nil, s.tolerate(err)
	}
	return names, nil
}

func (s foreignSource) labelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	values, err := s.b.LabelValues(t.Context(), name, ms, limit)
	if err != nil {
		return nil, s.tolerate(err)
	}
	return values, nil
}

func (s foreignSource) reader(n column.Need) rowReader {
	return &foreignReader{block: s.b, rows: s.b.Reader(), need: n}
}

func (s foreignSource) exemplars(context.Context, uint32, int64, int64) ([]exemplar.Exemplar, error) {
	return nil, nil
}

func (s foreignSource) metadata(string) iter.Seq2[string, []metadata.Metadata] {
	return func(func(string, []metadata.Metadata) bool) {}
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

// foreignSymbols numbers the label texts of a foreign block as they are asked for. It is safe for concurrent use.
type foreignSymbols struct {
	account *budget.Account

	mu      sync.RWMutex
	texts   []string          // guarded by mu
	known   map[string]uint32 // guarded by mu
	charged int64             // guarded by mu
}

// foreignTextBytes is what a text takes beside itself: in the list, and as a key.
const foreignTextBytes = 56

// pairs appends the labels of a series as symbols.
func (s *foreignSymbols) pairs(dst []uint32, ls labels.Labels) []uint32 {
	n := len(dst)
	s.mu.RLock()
	complete := true
	ls.Range(func(l labels.Label) {
		name, ok1 := s.known[l.Name]
		val, ok2 := s.known[l.Value]
		complete = complete && ok1 && ok2
		dst = append(dst, name, val)
	})
	s.mu.RUnlock()
	if complete {
		return dst
	}
	dst = dst[:n]
	s.mu.Lock()
	defer s.mu.Unlock()
	ls.Range(func(l labels.Label) { dst = append(dst, s.symbolLocked(l.Name), s.symbolLocked(l.Value)) })
	return dst
}

func (s *foreignSymbols) symbolLocked(text string) uint32 {
	if sym, ok := s.known[text]; ok {
		return sym
	}
	if s.known == nil {
		s.known = map[string]uint32{}
	}
	text = strings.Clone(text) // not a piece of the labels of a whole series
	sym := uint32(len(s.texts))
	s.texts, s.known[text] = append(s.texts, text), sym
	n := int64(len(text)) + foreignTextBytes
	_ = s.account.Reserve(n) // upkeep is not refused
	s.charged += n
	return sym
}

func (s *foreignSymbols) appendTexts(dst []string, syms []uint32) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sym := range syms {
		dst = append(dst, s.texts[sym])
	}
	return dst
}

func (s *foreignSymbols) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.texts)
}

func (s *foreignSymbols) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account.Release(s.charged)
	s.texts, s.known, s.charged = nil, nil, 0
}
