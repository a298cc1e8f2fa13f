// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Selector is a selector of a query.
type Selector struct {
	Matchers []*labels.Matcher
	// Offset is subtracted from the time of each step, or from At; milliseconds.
	Offset int64
	// At is the time of an @ modifier: every step sees that time.
	At *int64
	// Anchored and Smoothed are the extended selectors. An instant vector cannot be anchored.
	Anchored, Smoothed bool
	// StatsOnly reduces native histograms to count, sum and counter reset hint, as Prometheus does for functions
	// that look at nothing else.
	StatsOnly bool
	// ST asks for start timestamps, for a range vector.
	ST bool
	// AnyFirst says that nothing depends on whether the first histogram read goes on counting where one before it was:
	// none before it is looked for.
	AnyFirst bool
	// Differs says that of the histograms in a window nothing is looked at but the first, the last, and resets between them.
	Differs bool
	// Hint is what the view is told. Where it has no range, that is found out from the steps.
	Hint column.Hint
}

// times are those that a selector looks at: at step i the time start + i*step.
type times struct {
	start, step int64
	n           int
}

func (s *Selector) times(g vector.Grid) times {
	if s.At != nil {
		return times{*s.At - s.Offset, 0, g.N}
	}
	return times{g.Start - s.Offset, g.Step, g.N}
}

func (t times) last() int64 { return t.start + int64(max(t.n, 1)-1)*t.step }

// source is the series of a selector, and the blocks into which its cursors decode them.
type source struct {
	env  *operator.Env
	sel  Selector
	need column.Need
	// wide says that there are histograms: samples are decoded from a time before need.MinT on.
	wide atomic.Bool
	// tried says that some series were read to find that out.
	tried atomic.Bool

	set    *column.SeriesSet
	table  *vector.Table
	memory int64 // charged for the set, and for the table where that is another

	mu   sync.Mutex
	free []*column.Block // guarded by mu
	all  []uint32        // ids of all series, made on demand; guarded by mu
}

// init sets what is read: the times in (from, to].
func (s *source) init(env *operator.Env, sel Selector, from, to int64) {
	s.env, s.sel = env, sel
	s.need = column.Need{MinT: max(from, math.MinInt64+1) + 1, MaxT: to, ST: sel.ST, Float: true, HistStats: sel.StatsOnly}
	h := &s.sel.Hint
	if h.MinT == 0 && h.MaxT == 0 {
		h.MinT, h.MaxT = s.need.MinT, s.need.MaxT
		return
	}
	// Prometheus' storage gives nothing outside of the range of the hint. That is the range of what is read, but for
	// an @ modifier in the parameter of an aggregation, which moves along with the steps.
	s.need.MinT, s.need.MaxT = max(s.need.MinT, h.MinT), min(s.need.MaxT, h.MaxT)
}

func (s *source) open(ctx context.Context) error {
	hint := s.sel.Hint
	hint.Account = s.env.Account
	set, err := s.env.View.Series(ctx, s.sel.Matchers, hint)
	if err != nil {
		return fmt.Errorf("expanding series: %w", err)
	}
	s.memory += set.Bytes
	if err := s.charge(int64(set.N) * symbolBytes); err != nil { // the ids
		return err
	}
	columns := int64(set.N) * int64(len(set.Names)) * symbolBytes
	if set.Bytes > 0 && s.env.Dict.Len() == 1 {
		columns = 0 // the symbols of the first set are those of the query
	}
	if err := s.charge(columns); err != nil {
		return err
	}
	s.set = set
	if s.table, err = s.env.Dict.Table(set); err != nil {
		return err
	}
	if set.Bytes > 0 && sameColumns(set.Syms, s.table.Cols) {
		s.env.Account.Release(columns)
		s.memory -= columns
	}
	if keepsHints(s.env.View) {
		// Storages of others may give a series twice.
		s.table.Distinct = false
		s.table.Distinct, err = s.table.Unique()
	}
	return err
}

// symbolBytes is what a symbol takes, and an id.
const symbolBytes = 4

// charge charges for n bytes until Close.
func (s *source) charge(n int64) error {
	if err := s.env.Account.Reserve(n); err != nil {
		return err
	}
	s.memory += n
	return nil
}

// sameColumns reports whether a table has taken over the columns of its set.
func sameColumns(a, b [][]uint32) bool {
	return len(a) == 0 || len(a[0]) == 0 || &a[0][0] == &b[0][0]
}

// ids returns ids, or those of all series for nil.
func (s *source) ids(ids []uint32) []uint32 {
	if ids != nil {
		return ids
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make([]uint32, s.set.N)
		for i := range s.all {
			s.all[i] = uint32(i)
		}
	}
	return s.all
}

// block lends a block, which give takes back.
func (s *source) block() *column.Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return s.env.TakeBlock()
}

func (s *source) give(b *column.Block) {
	b.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, b)
}

// Table implements operator.Node.
func (s *source) Table() *vector.Table { return s.table }

// Close implements operator.Node.
func (s *source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.free {
		s.env.GiveBlock(b)
	}
	s.free = nil
	s.env.Account.Release(s.memory)
	s.memory = 0
}
