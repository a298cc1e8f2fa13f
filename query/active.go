// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Active describes a query that waits for its turn or runs.
type Active struct {
	ID      uint64
	Query   string
	Start   time.Time     // of its evaluation times
	End     time.Time     // of its evaluation times; Start for an instant query
	Step    time.Duration // 0 for an instant query
	Since   time.Time     // when it was asked
	Running bool          // false: it waits for its turn
	Rules   bool          // asked by a rule
	Memory  int64         // bytes it holds
	Peak    int64         // most bytes it held
	Samples int64         // samples read so far
	// Origin is what the caller said about itself: the client's address and path, or the rule's group.
	Origin map[string]any
}

// ErrCanceled is the cause of a query's end that Engine.Cancel brought about.
var ErrCanceled = errors.New("the query was canceled by an operator of this server (POST /api/v1/status/active_queries/cancel)")

// activeSet is the queries that wait or run. Its zero value is empty.
type activeSet struct {
	mu   sync.Mutex
	last uint64
	all  map[uint64]*activeQuery
}

// activeQuery is one entry; its fields are set before it is added, but for those that say otherwise.
type activeQuery struct {
	Active

	cancel  context.CancelCauseFunc
	account *budget.Account     // set by run
	samples *operator.Samplesum // set by run
}

// add lists a query and gives it an ID.
func (s *activeSet) add(q *activeQuery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	q.ID = s.last
	if s.all == nil {
		s.all = map[uint64]*activeQuery{}
	}
	s.all[q.ID] = q
}

// run notes that a query's turn has come.
func (s *activeSet) run(q *activeQuery, account *budget.Account, samples *operator.Samplesum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.Running, q.account, q.samples = true, account, samples
}

func (s *activeSet) remove(q *activeQuery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, q.ID)
}

// list returns what there is, the oldest first.
func (s *activeSet) list() []Active {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Active, 0, len(s.all))
	for q := range maps.Values(s.all) {
		a := q.Active
		a.Memory, a.Peak = q.account.Used(), q.account.Peak()
		if q.samples != nil {
			_, a.Samples, _, _ = q.samples.Sums()
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Active) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (s *activeSet) cancel(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.all[id]
	if ok {
		q.cancel(ErrCanceled)
	}
	return ok
}

// originOf returns what the context says about who asks.
func originOf(ctx context.Context) map[string]any {
	origin, _ := ctx.Value(promql.QueryOrigin{}).(map[string]any)
	return origin
}
