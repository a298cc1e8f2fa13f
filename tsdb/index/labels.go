// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// stringBytes is what a string takes beside its text.
const stringBytes = 16

// labelValues returns the values that name has in the series that match ms, sorted; limit 0: all of them. The task
// keeps what they take, and nothing where it ended.
func labelValues(t *budget.Task, src source, name string, ms []*labels.Matcher, limit int) (values []string, err error) {
	before := t.Taken()
	defer func() { t.Settle(before + stringsBytes(values)) }()
	var ids []uint32
	if len(ms) > 0 {
		if ids, err = selectIDs(t, src, ms); err != nil || len(ids) == 0 {
			return nil, err
		}
	}
	series, ok := src.(bySeries)
	switch {
	case len(ms) == 0:
		values = src.list(t, name, limit)
	case ok && len(ids)*seriesCost < series.values(name):
		values = valuesOf(t, series, name, ids, limit)
	default:
		src.scan(t, name, "", func(value string, list uint32, used bool) bool {
			if !used || len(ms) > 0 && !intersects(t, src, list, ids) {
				return t.Go(1)
			}
			if !t.Reserve(2*stringBytes + int64(len(value))) { // twice: the list grows by being copied
				return false
			}
			values = append(values, strings.Clone(value))
			return t.Go(1) && len(values) != limit
		})
	}
	if err := t.Err(); err != nil {
		return nil, err
	}
	return values, nil
}

// stringsBytes is what a list of strings takes.
func stringsBytes(list []string) int64 {
	n := stringBytes * int64(cap(list))
	for _, s := range list {
		n += int64(len(s))
	}
	return n
}

// valuesOf is labelValues by way of the series.
func valuesOf(t *budget.Task, src bySeries, name string, ids []uint32, limit int) []string {
	var lists []uint32
	src.eachOf(t, ids, name, func(_, list uint32, ok bool) bool {
		if ok && (len(lists) == 0 || lists[len(lists)-1] != list) {
			lists = appendCharged(t, lists, list)
		}
		return t.Err() == nil
	})
	lists = sortIDs(t, lists) // lists of one name are in the order of its values
	if limit > 0 && len(lists) > limit {
		lists = lists[:limit]
	}
	if !t.Reserve(stringBytes * int64(len(lists))) {
		return nil
	}
	values := make([]string, 0, len(lists))
	for _, list := range lists {
		text := src.text(list)
		if !t.Go(seriesCost) || !t.Reserve(int64(len(text))) {
			return nil
		}
		values = append(values, text)
	}
	return values
}

// labelNames returns the names that occur in the series that match ms, sorted; limit 0: all of them.
func labelNames(t *budget.Task, src source, ms []*labels.Matcher, limit int) ([]string, error) {
	names := src.names()
	if len(ms) > 0 {
		before := t.Taken()
		defer func() { t.Settle(before) }()
		ids, err := selectIDs(t, src, ms)
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		keep := names[:0]
		for _, name := range names {
			if limit > 0 && len(keep) == limit {
				break
			}
			if hasLabel(t, src, name, ids) {
				keep = append(keep, name)
			}
		}
		names = keep
	}
	if limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	if !t.Poll() {
		return nil, t.Err()
	}
	return names, nil
}

// hasLabel reports whether one of the series ids has the label. It holds the index still for a portion of the
// values at a time.
func hasLabel(t *budget.Task, src source, name string, ids []uint32) bool {
	if !src.fix() {
		return false
	}
	sure := src.having(name)+len(ids) > src.total()
	before := t.Taken()
	var lists []uint32
	if !sure {
		lists = src.listsOf(t, name)
	}
	src.unfix()
	if sure {
		return true
	}
	defer func() { t.Settle(before) }()
	for portion := range slices.Chunk(lists, portionValues) {
		if !t.Poll() || !src.fix() {
			return false
		}
		found := slices.ContainsFunc(portion, func(list uint32) bool { return intersectsFixed(t, src, list, ids) })
		src.unfix()
		if found {
			return true
		}
	}
	return false
}

// intersects reports whether one of ids is in the list.
func intersects(t *budget.Task, src source, list uint32, ids []uint32) bool {
	if !src.fix() {
		return false
	}
	defer src.unfix()
	return intersectsFixed(t, src, list, ids)
}

func intersectsFixed(t *budget.Task, src source, list uint32, ids []uint32) bool {
	n := src.size(list)
	if !t.Go(1 + min(n, len(ids))) {
		return false
	}
	// Two sets that together are larger than the whole have something in common.
	return n+len(ids) > src.total() || src.overlaps(t, list, ids)
}
