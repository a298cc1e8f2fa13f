// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"iter"
	"maps"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// source is one part of a view: the head at its pin, or a block. Series are known by ids and label texts by
// symbols, both its own.
type source interface {
	selectIDs(t *budget.Task, ms []*labels.Matcher) ([]uint32, error) // ascending; the task keeps what they take
	// eachPairs calls f with the labels of each of ids, which ascend: name, value, name, value, … in label order. They
	// are valid during the call, which may ask for texts and nothing else.
	eachPairs(ids []uint32, f func(pairs []uint32))
	symbols() int                               // symbols are below it, but for those that came just now
	texts(syms []uint32, dst []string) []string // appended
	// hashes appends the hash of each of ids, which ascend; of fewer where the task ends.
	hashes(t *budget.Task, ids []uint32, dst []index.Hash128) []index.Hash128
	labelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error)
	labelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error)
	// reader returns a reader of samples, of one goroutine, to be closed before the source is released.
	reader(n column.Need) rowReader
	exemplars(ctx context.Context, id uint32, mint, maxt int64) ([]exemplar.Exemplar, error)
	metadata(metric string) iter.Seq2[string, []metadata.Metadata] // newest first per family
	// priority decides between two values of one series at one time: the lower one wins.
	priority() sample.LSN
	release()
}

// spanned is a source that holds a stretch of time, both ends included, and never changes: a block.
type spanned interface {
	span() (id string, mint, maxt int64)
}

// rowReader reads series of one source, some hundred at a time.
type rowReader interface {
	// load makes ids, which stay as they are, the series that next reads one after the other.
	load(ids []uint32)
	// next appends the rows of the next series that are wanted, ascending. Where a part of them is damaged, which the
	// error says, the others.
	next(ctx context.Context, dst *column.Block) error
	// resume prepares the reader for another Scan, which goes on where the last one ended: dst is charged for what the
	// reader holds. It reports false where it must not be used any more, nor closed.
	resume(n column.Need, dst *column.Block) bool
	close()
}

type headSource struct {
	pin   *head.Pin
	index *index.Mem
	once  *onceReader // for who reads all of one stretch of time, by one goroutine; nil else
}

// onceReader is one reader for all scans: what it has of parts of the head is not read again by the next scan, and does
// not push out of the cache what queries read.
type onceReader struct{ headReader }

func (onceReader) close() {}

func (s headSource) selectIDs(t *budget.Task, ms []*labels.Matcher) ([]uint32, error) {
	return s.pin.Select(t, ms)
}
func (s headSource) eachPairs(ids []uint32, f func(pairs []uint32)) { s.pin.EachPairs(ids, f) }
func (s headSource) symbols() int                                   { return s.index.Symbols() }
func (s headSource) texts(syms []uint32, dst []string) []string     { return s.index.Texts(syms, dst) }

func (s headSource) hashes(_ *budget.Task, ids []uint32, dst []index.Hash128) []index.Hash128 {
	return s.pin.Hashes(ids, dst)
}

func (s headSource) labelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error) {
	return s.index.LabelNames(t, ms, limit)
}

func (s headSource) labelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	return s.index.LabelValues(t, name, ms, limit)
}

func (s headSource) reader(n column.Need) rowReader {
	if s.once == nil {
		return headReader{s.pin.Reader(n.MinT, n.MaxT, n.ST)}
	}
	if s.once.r == nil {
		s.once.r = s.pin.ReaderOnce(n.MinT, n.MaxT, n.ST)
	}
	return s.once
}

func (s headSource) exemplars(_ context.Context, id uint32, mint, maxt int64) ([]exemplar.Exemplar, error) {
	return s.pin.Exemplars(id, mint, maxt), nil
}

func (s headSource) metadata(metric string) iter.Seq2[string, []metadata.Metadata] {
	return maps.All(s.pin.Metadata(metric))
}

// priority of the head is the last: what it holds was committed after all that the blocks hold of its slot.
func (s headSource) priority() sample.LSN { return ^sample.LSN(0) }
func (s headSource) release()             {}

type blockSource struct {
	b    storedBlock
	idx  *index.Reader
	seed index.Seed
}

// newBlockSource returns the source of a block, whose hashes are those of seed.
func newBlockSource(b storedBlock, seed index.Seed) blockSource {
	return blockSource{b: b, idx: b.Index(), seed: seed}
}

func (s blockSource) span() (id string, mint, maxt int64) {
	m := s.b.Meta()
	return m.ULID, m.MinT, m.MaxT
}

func (s blockSource) selectIDs(t *budget.Task, ms []*labels.Matcher) ([]uint32, error) {
	return s.idx.Select(t, ms)
}
func (s blockSource) eachPairs(ids []uint32, f func(pairs []uint32)) { s.idx.EachPairs(ids, f) }
func (s blockSource) symbols() int                                   { return s.idx.Symbols() }
func (s blockSource) texts(syms []uint32, dst []string) []string {
	for _, sym := range syms {
		dst = append(dst, s.idx.Symbol(sym))
	}
	return dst
}

func (s blockSource) hashes(t *budget.Task, ids []uint32, dst []index.Hash128) []index.Hash128 {
	return s.idx.Hashes(t, s.seed, ids, dst)
}

func (s blockSource) labelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error) {
	return s.idx.LabelNames(t, ms, limit)
}

func (s blockSource) labelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	return s.idx.LabelValues(t, name, ms, limit)
}

func (s blockSource) reader(n column.Need) rowReader {
	return &blockReader{block: s.b, stripes: s.b.Reader(), need: n}
}

func (s blockSource) exemplars(ctx context.Context, id uint32, mint, maxt int64) ([]exemplar.Exemplar, error) {
	return s.b.Exemplars(ctx, id, mint, maxt)
}

func (s blockSource) metadata(metric string) iter.Seq2[string, []metadata.Metadata] {
	return s.b.Metadata(metric)
}

func (s blockSource) priority() sample.LSN { return s.b.Meta().LSN }
func (s blockSource) release()             { s.b.Release() }

type headReader struct{ r *head.Reader }

func (r headReader) load(ids []uint32)                               { r.r.Load(ids) }
func (r headReader) next(_ context.Context, dst *column.Block) error { return r.r.Next(dst) }
func (r headReader) close()                                          { r.r.Close() }

func (r headReader) resume(n column.Need, dst *column.Block) bool {
	return r.r.Wants(n.MinT, n.MaxT, n.ST) && r.r.ChargeTo(dst) == nil
}

type blockReader struct {
	block   storedBlock
	stripes block.Reader
	need    column.Need
	ids     []uint32
}

func (r *blockReader) load(ids []uint32) { r.ids = ids }

func (r *blockReader) next(ctx context.Context, dst *column.Block) error {
	from, id := len(dst.T), r.ids[0]
	r.ids = r.ids[1:]
	err := r.stripes.Read(ctx, id, r.need.MinT, r.need.MaxT, r.need.ST, dst)
	r.block.dead.drop(id, dst, from)
	return err
}

func (r *blockReader) close() { r.stripes.Close() }

func (r *blockReader) resume(n column.Need, dst *column.Block) bool {
	r.need = n
	return r.stripes.ChargeTo(dst) == nil
}
