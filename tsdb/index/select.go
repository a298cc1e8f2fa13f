// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// source is what matcher evaluation needs of an index. A list is the number of the postings of one pair.
//
// Lists are found first, in as many steps as it takes; fix then holds the index still while their ids are
// combined. A source that cannot hold what it has told before answers fix with false, and what was evaluated
// so far is void.
type source interface {
	fix() bool
	unfix()
	// find returns the list of name=value.
	find(name, value string) (list uint32, ok bool)
	// scan calls f with each value of name that begins with prefix, its list, and whether any series has it, in
	// the order of the values. The value is valid during the call. It returns early with the first error of f, and with that of ctx.
	scan(ctx context.Context, name, prefix string, f func(value string, list uint32, used bool) error) error
	// names returns the label names, sorted.
	names() []string
	// having returns how many series have the label name at all.
	having(name string) int

	// The rest wants the index fixed.
	// total returns the number of series; more where the lists hold others as well.
	total() int
	// addNew adds the lists of values that m does not accept and that came after find and scan looked.
	addNew(lists []uint32, m *labels.Matcher) []uint32
	// live drops the ids of series that are half removed.
	live(ids []uint32) []uint32
	appendAll(dst []uint32) []uint32
	appendLists(dst []uint32, name string) []uint32
	size(list uint32) int
	appendTo(dst []uint32, list uint32) []uint32
	mark(list uint32, ids []uint32, hit bitset)
	overlaps(list uint32, ids []uint32) bool
}

// checkEvery is how many values or lists are looked at between two looks at the context.
const checkEvery = 2048

// term is what one matcher comes to: the series in any of its lists, or with exclude those in none of them.
type term struct {
	lists   []uint32
	exclude bool
	matcher *labels.Matcher
	whole   bool // the lists are all those of the matcher's label
	size    int  // series in the lists
}

// bySeries is a source that also knows the labels of each series and holds still without being fixed. Where few
// series are left, looking at theirs is cheaper than looking at all values of a label.
type bySeries interface {
	source
	// values returns how many values a label has.
	values(name string) int
	// listOf returns the list of the value that series id has for a label; ok is false where it has none.
	listOf(id uint32, name string) (list uint32, ok bool)
	// text returns the value that a list stands for.
	text(list uint32) string
}

// seriesCost is what finding one label of one series costs, in values of a dictionary scanned.
const seriesCost = 4

// selectIDs returns the ids of the series that match all of ms, ascending.
func selectIDs(ctx context.Context, src source, ms []*labels.Matcher) ([]uint32, error) {
	ms = slices.Clone(ms)
	slices.SortStableFunc(ms, func(a, b *labels.Matcher) int { return cmp.Compare(scanCost(a), scanCost(b)) })
	var last []*labels.Matcher // put off until the others have left few series
	series, ok := src.(bySeries)
	if i := slices.IndexFunc(ms, func(m *labels.Matcher) bool { return scanCost(m) >= costScan }); ok && i > 0 {
		ms, last = ms[:i], ms[i:]
	}
	terms := make([]term, 0, len(ms))
	for _, m := range ms {
		t, some, err := resolve(ctx, src, m)
		if err != nil || !some {
			return nil, err
		}
		terms = append(terms, t)
	}
	if !src.fix() {
		return nil, nil
	}
	defer src.unfix()
	ids, err := combine(ctx, src, terms)
	for i := 0; i < len(last) && len(ids) > 0 && err == nil; i++ {
		ids, err = filterLate(ctx, series, ids, last[i])
	}
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// filterLate returns the ids that match m, by way of the series or of the values, whichever are fewer. It
// overwrites ids.
func filterLate(ctx context.Context, src bySeries, ids []uint32, m *labels.Matcher) ([]uint32, error) {
	if len(ids)*seriesCost >= src.values(m.Name) {
		t, some, err := resolve(ctx, src, m)
		if err != nil || !some {
			return nil, err
		}
		if t.whole {
			t.lists = src.appendLists(nil, m.Name)
		}
		for _, list := range t.lists {
			t.size += src.size(list)
		}
		return filter(ctx, src, ids, t)
	}
	known := map[uint32]bool{} // list: whether its value matches
	empty := m.Matches("")
	keep := ids[:0]
	for i, id := range ids {
		if i%checkEvery == checkEvery-1 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		matches := empty
		if list, has := src.listOf(id, m.Name); has {
			var seen bool
			if matches, seen = known[list]; !seen {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				matches = m.Matches(src.text(list))
				known[list] = matches
			}
		}
		if matches {
			keep = append(keep, id)
		}
	}
	return keep, ctx.Err()
}

// scanCost orders matchers by what finding their lists costs: a look-up, several, some values, all values.
func scanCost(m *labels.Matcher) int {
	regexp := m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp
	switch {
	case !regexp || m.Value == ".*" || m.Value == ".+":
		return costFind
	case len(m.SetMatches()) > 0:
		return costFindEach
	case m.Prefix() != "":
		return costScanSome
	}
	return costScan
}

const (
	costFind = iota
	costFindEach
	costScanSome
	costScan
)

// resolve finds the lists of one matcher; some is false when no series can match. A matcher looks at the empty
// string where a series lacks the label, so one that accepts it is answered by what it does not accept.
func resolve(ctx context.Context, src source, m *labels.Matcher) (t term, some bool, err error) {
	empty := m.Matches("")
	t = term{matcher: m, exclude: empty}
	positive := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
	switch {
	case m.Value == "" && m.Type != labels.MatchRegexp && m.Type != labels.MatchNotRegexp,
		m.Value == ".+" && (m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp):
		t.whole = true // the label is there, or it is not
		return t, true, nil
	case m.Value == ".*" && m.Type == labels.MatchRegexp:
		return t, true, nil // everything: nothing is excluded
	case m.Value == ".*" && m.Type == labels.MatchNotRegexp:
		return t, false, nil
	case m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual:
		if list, ok := src.find(m.Name, m.Value); ok {
			t.lists = append(t.lists, list)
		}
	case len(m.SetMatches()) > 0 && positive != empty:
		// The listed values are those wanted (=~ without the empty one) or those not wanted (!~).
		t.lists = findEach(src, m.Name, m.SetMatches())
	default:
		prefix := ""
		if positive && !empty || !positive && empty {
			prefix = m.Prefix() // values without it match neither the expression nor what is asked for
		}
		err = src.scan(ctx, m.Name, prefix, func(value string, list uint32, _ bool) error {
			if m.Matches(value) != empty {
				t.lists = append(t.lists, list)
			}
			return ctx.Err() // a large expression takes a millisecond for a value
		})
	}
	return t, t.exclude || len(t.lists) > 0, err
}

func findEach(src source, name string, values []string) (found []uint32) {
	for _, value := range values {
		if list, ok := src.find(name, value); ok {
			found = append(found, list)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// combine intersects the terms, the smallest first.
func combine(ctx context.Context, src source, terms []term) ([]uint32, error) {
	kept := terms[:0]
	for _, t := range terms {
		if t.whole && src.having(t.matcher.Name) == src.total() {
			if t.exclude {
				return nil, nil
			}
			continue // every series has the label
		}
		switch {
		case t.whole:
			t.lists = src.appendLists(nil, t.matcher.Name)
		case t.exclude:
			t.lists = src.addNew(t.lists, t.matcher)
		}
		for _, list := range t.lists {
			t.size += src.size(list)
		}
		if t.size == 0 && !t.exclude {
			return nil, nil
		}
		kept = append(kept, t)
	}
	slices.SortStableFunc(kept, func(a, b term) int {
		if a.exclude != b.exclude {
			return cmp.Compare(b2i(a.exclude), b2i(b.exclude))
		}
		return cmp.Compare(a.size, b.size)
	})
	var ids []uint32
	var err error
	if len(kept) > 0 && !kept[0].exclude {
		ids, err = union(ctx, src, kept[0])
		kept = kept[1:]
	} else {
		ids = src.appendAll(nil)
	}
	for i := 0; i < len(kept) && len(ids) > 0 && err == nil; i++ {
		ids, err = filter(ctx, src, ids, kept[i])
	}
	if err != nil {
		return nil, err
	}
	return src.live(ids), nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// union returns the ids in any list of t, ascending.
func union(ctx context.Context, src source, t term) ([]uint32, error) {
	ids := make([]uint32, 0, t.size)
	for i, list := range t.lists {
		if i%checkEvery == checkEvery-1 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ids = src.appendTo(ids, list)
	}
	if len(t.lists) > 1 {
		ids = sortIDs(ids)
	}
	return ids, ctx.Err()
}

// sortIDs sorts ids and removes repeated ones. Where they are dense a bitmap is several times faster than
// comparing them.
func sortIDs(ids []uint32) []uint32 {
	if slices.IsSorted(ids) {
		return slices.Compact(ids)
	}
	highest := slices.Max(ids)
	if len(ids) < 256 || int(highest)/64 > 4*len(ids) {
		slices.Sort(ids)
		return slices.Compact(ids)
	}
	set := newBitset(int(highest) + 1)
	for _, id := range ids {
		set.set(int(id))
	}
	return set.appendTo(ids[:0])
}

// filter returns the ids that are in t's lists, or not in them where t excludes. It overwrites ids.
func filter(ctx context.Context, src source, ids []uint32, t term) ([]uint32, error) {
	hit := newBitset(len(ids))
	// Looking each id up in each list is about 16 times the work of decoding one id of a list.
	if len(t.lists)*min(len(ids), t.size)*16 <= t.size || len(t.lists) == 1 {
		for i, list := range t.lists {
			if i%checkEvery == checkEvery-1 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			src.mark(list, ids, hit)
		}
	} else {
		all, err := union(ctx, src, t)
		if err != nil {
			return nil, err
		}
		markSorted(all, ids, hit)
	}
	keep := ids[:0]
	for i, id := range ids {
		if hit.has(i) != t.exclude {
			keep = append(keep, id)
		}
	}
	return keep, ctx.Err()
}

// errEnough ends a scan when the limit is reached.
var errEnough = errors.New("enough")

// labelValues returns the values that name has in the series that match ms, sorted; limit 0: all of them.
func labelValues(ctx context.Context, src source, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	var ids []uint32
	if len(ms) > 0 {
		var err error
		if ids, err = selectIDs(ctx, src, ms); err != nil || len(ids) == 0 {
			return nil, err
		}
	}
	if series, ok := src.(bySeries); ok && len(ms) > 0 && len(ids)*seriesCost < series.values(name) {
		return valuesOf(ctx, series, name, ids, limit)
	}
	var values []string
	err := src.scan(ctx, name, "", func(value string, list uint32, used bool) error {
		if !used || len(ms) > 0 && !intersects(src, list, ids) {
			return nil
		}
		if values = append(values, strings.Clone(value)); len(values) == limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return values, nil
}

// valuesOf is labelValues by way of the series.
func valuesOf(ctx context.Context, src bySeries, name string, ids []uint32, limit int) ([]string, error) {
	var lists []uint32
	for i, id := range ids {
		if i%checkEvery == checkEvery-1 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if list, ok := src.listOf(id, name); ok {
			lists = append(lists, list)
		}
	}
	slices.Sort(lists) // lists of one name are in the order of its values
	lists = slices.Compact(lists)
	if limit > 0 && len(lists) > limit {
		lists = lists[:limit]
	}
	values := make([]string, len(lists))
	for i, list := range lists {
		values[i] = src.text(list)
	}
	return values, ctx.Err()
}

// labelNames returns the names that occur in the series that match ms, sorted; limit 0: all of them.
func labelNames(ctx context.Context, src source, ms []*labels.Matcher, limit int) ([]string, error) {
	names := src.names()
	if len(ms) > 0 {
		ids, err := selectIDs(ctx, src, ms)
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		keep := names[:0]
		for _, name := range names {
			if limit > 0 && len(keep) == limit {
				break
			}
			has, err := hasLabel(ctx, src, name, ids)
			if err != nil {
				return nil, err
			}
			if has {
				keep = append(keep, name)
			}
		}
		names = keep
	}
	if limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	return names, nil
}

// hasLabel reports whether one of the series ids has the label. It holds the index still for a portion of the
// values at a time.
func hasLabel(ctx context.Context, src source, name string, ids []uint32) (bool, error) {
	if !src.fix() {
		return false, nil
	}
	sure := src.having(name)+len(ids) > src.total()
	lists := src.appendLists(nil, name)
	src.unfix()
	if sure {
		return true, nil
	}
	for portion := range slices.Chunk(lists, checkEvery) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if !src.fix() {
			return false, nil
		}
		found := slices.ContainsFunc(portion, func(list uint32) bool { return intersectsFixed(src, list, ids) })
		src.unfix()
		if found {
			return true, nil
		}
	}
	return false, nil
}

// intersects reports whether one of ids is in the list.
func intersects(src source, list uint32, ids []uint32) bool {
	if !src.fix() {
		return false
	}
	defer src.unfix()
	return intersectsFixed(src, list, ids)
}

func intersectsFixed(src source, list uint32, ids []uint32) bool {
	// Two sets that together are larger than the whole have something in common.
	return src.size(list)+len(ids) > src.total() || src.overlaps(list, ids)
}
