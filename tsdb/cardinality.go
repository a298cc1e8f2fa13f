// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// CardinalityQuery says of what Cardinality is asked.
type CardinalityQuery struct {
	MinT, MaxT int64 // Unix ms, both inclusive
	// Sets are of matchers; series count that match all of any of them. None: all series.
	Sets [][]*labels.Matcher
	// Limit is how long each list may be.
	Limit int
}

// maxTallied is how many series one answer looks at one by one, over all blocks: some seconds of work.
const maxTallied = 20e6

// Cardinality returns the longest lists of the head's labels, limit entries each.
func (db *DB) Cardinality(limit int) index.Stats { return db.head.Index().Stats(limit) }

// CardinalityIn is Cardinality of the blocks, and of the head, that hold samples of a range, as index.StatsOf counts
// them: of each all the series that it has. No sample is read. Without matchers each value of each index is looked at
// once; with matchers, and in blocks of another program, each series that matches. The answer carries the warnings.
func (db *DB) CardinalityIn(ctx context.Context, q CardinalityQuery) (index.Stats, annotations.Annotations, error) {
	return db.cardinality(ctx, q, maxTallied)
}

func (db *DB) cardinality(ctx context.Context, q CardinalityQuery, most int) (index.Stats, annotations.Annotations, error) {
	if err := db.Await(ctx, q.MinT, q.MaxT); err != nil {
		return index.Stats{}, nil, err
	}
	if err := db.users.enter(); err != nil {
		return index.Stats{}, nil, err
	}
	v, err := db.view(ctx, q.MinT, q.MaxT)
	if err != nil {
		return index.Stats{}, nil, err
	}
	defer func() { _ = v.Close() }() // twice is allowed, and nothing else fails
	t := budget.NewTask(ctx, db.opts.Budget)
	defer t.Settle(0)
	c := counting{task: t, sets: q.Sets, left: most}
	for _, s := range v.sources {
		if _, ok := s.(headSource); ok && !db.headHas(q.MinT, q.MaxT) {
			continue
		}
		if err := c.add(s); err != nil {
			return index.Stats{}, nil, fmt.Errorf("count series: %w", err)
		}
	}
	stats, err := index.StatsOf(t, q.Limit, c.of...)
	return stats, v.Warnings(), err
}

// headHas reports whether the head holds samples of [mint, maxt], by its slots.
func (db *DB) headHas(mint, maxt int64) bool {
	newest, ok := db.head.MaxTime()
	return ok && newest >= mint && slices.ContainsFunc(db.head.Slots(), func(s head.Slot) bool { return s.MinT <= maxt })
}

// counting collects what statistics are taken of.
type counting struct {
	task *budget.Task
	sets [][]*labels.Matcher
	left int // series that may be looked at
	of   []index.Countable
}

func (c *counting) add(s source) error {
	if len(c.sets) == 0 {
		switch s := s.(type) {
		case blockSource:
			c.of = append(c.of, s.idx)
			return nil
		case headSource:
			c.of = append(c.of, s.index)
			return nil
		}
	}
	ids, err := c.matching(s)
	if err != nil || len(ids) == 0 {
		return err
	}
	if c.left -= len(ids); c.left < 0 {
		return fmt.Errorf("more than %d would have to be looked at, in all blocks together: ask for less time or with narrower selectors", c.left+len(ids))
	}
	y := index.NewTally(c.task)
	for from, to := 0, c.task.Run(0, len(ids)); from < to; from, to = to, c.task.Run(to, len(ids)) {
		s.eachPairs(ids[from:to], func(pairs []uint32) { y.Add(pairs) })
	}
	c.of = append(c.of, y)
	return y.Name(s.texts)
}

// matching returns the series of a source that match any of the sets.
func (c *counting) matching(s source) ([]uint32, error) {
	if len(c.sets) == 0 {
		return s.selectIDs(c.task, nil)
	}
	var all []uint32
	for _, ms := range c.sets {
		ids, err := s.selectIDs(c.task, ms)
		if err != nil {
			return nil, err
		}
		if len(c.sets) == 1 {
			return ids, nil
		}
		if !c.task.Reserve(numberBytes * int64(len(ids))) {
			return nil, c.task.Err()
		}
		all = append(all, ids...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
