// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// source is what matcher evaluation needs of an index. A list is the number of the postings of one pair.
//
// Lists are found first, in as many steps as it takes; fix then holds the index still while their ids are
// combined. A source that cannot hold what it has told before answers fix with false, and what was evaluated
// so far is void.
//
// What takes a task returns early, with a part of the answer, when that ends. One list is decoded, marked or looked up
// without a look at the task: some nanoseconds for each series in it.
type source interface {
	fix() bool
	unfix()
	// find returns the list of name=value.
	find(name, value string) (list uint32, ok bool)
	// scan calls f with each value of name that begins with prefix, its list, and whether any series has it, in
	// the order of the values, until f returns false. The value is valid during the call.
	scan(t *budget.Task, name, prefix string, f func(value string, list uint32, used bool) bool)
	// list returns the values of a label that some series has, sorted, no more than limit unless that is 0. The task keeps what they take.
	list(t *budget.Task, name string, limit int) []string
	// names returns the label names, sorted.
	names() []string
	// having returns how many series have the label name at all.
	having(name string) int

	// The rest wants the index fixed.
	// total returns the number of series; more where the lists hold others as well.
	total() int
	// addNew adds the lists of values that m does not accept and that came after find and scan looked.
	addNew(t *budget.Task, lists []uint32, m *labels.Matcher) []uint32
	// live drops the ids of series that are half removed.
	live(t *budget.Task, ids []uint32) []uint32
	all(t *budget.Task) []uint32
	listsOf(t *budget.Task, name string) []uint32
	size(list uint32) int
	appendTo(dst []uint32, list uint32) []uint32
	mark(list uint32, ids []uint32, hit bitset)
	overlaps(t *budget.Task, list uint32, ids []uint32) bool
}

// portionValues is how many values are looked at under one hold of a lock.
const portionValues = 2048

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
	// eachOf calls f with each of ids, which ascend, and the list of the value that it has for a label; ok is false
	// where it has none.
	eachOf(t *budget.Task, ids []uint32, name string, f func(id, list uint32, ok bool) bool)
	// text returns the value that a list stands for.
	text(list uint32) string
}

// seriesCost is what finding one label of one series costs, in values of a dictionary scanned.
const seriesCost = 4

// matchCost is what matching an expression counts for: most take 100 ns, a large one takes a millisecond.
const matchCost = 128

// idBytes is what an id takes, or the number of a list.
const idBytes = 4

// selectIDs returns the ids of the series that match all of ms, ascending. The task keeps what they take, and nothing
// where it ended.
func selectIDs(t *budget.Task, src source, ms []*labels.Matcher) (ids []uint32, err error) {
	before := t.Taken()
	defer func() { t.Settle(before + idBytes*int64(cap(ids))) }()
	ids = evaluate(t, src, ms)
	if err := t.Err(); err != nil {
		return nil, err
	}
	return ids, nil
}

// evaluate is selectIDs, with anything for an answer where the task ended.
func evaluate(t *budget.Task, src source, ms []*labels.Matcher) []uint32 {
	ms = slices.Clone(ms)
	slices.SortStableFunc(ms, func(a, b *labels.Matcher) int { return cmp.Compare(scanCost(a), scanCost(b)) })
	var last []*labels.Matcher // put off until the others have left few series
	series, ok := src.(bySeries)
	if i := slices.IndexFunc(ms, func(m *labels.Matcher) bool { return scanCost(m) >= costScan }); ok && i > 0 {
		ms, last = ms[:i], ms[i:]
	}
	terms := make([]term, 0, len(ms))
	for _, m := range ms {
		x, some := resolve(t, src, m)
		if !some || t.Err() != nil {
			return nil
		}
		terms = append(terms, x)
	}
	if !src.fix() {
		return nil
	}
	defer src.unfix()
	ids := combine(t, src, terms)
	for i := 0; i < len(last) && len(ids) > 0; i++ {
		ids = filterLate(t, series, ids, last[i])
	}
	return ids
}

// filterLate returns the ids that match m, by way of the series or of the values, whichever are fewer. It
// overwrites ids.
func filterLate(t *budget.Task, src bySeries, ids []uint32, m *labels.Matcher) []uint32 {
	memory, keeps := src.(keeper)
	if keeps {
		_, keeps = memory.known(m)
	}
	if keeps || len(ids)*seriesCost >= src.values(m.Name) {
		x, some := resolve(t, src, m)
		if !some {
			return nil
		}
		if x.whole {
			x.lists = src.listsOf(t, m.Name)
		}
		x.size = sizeOf(t, src, x.lists)
		return filter(t, src, ids, x)
	}
	known := map[uint32]bool{} // list: whether its value matches
	empty := m.Matches("")
	keep := ids[:0]
	src.eachOf(t, ids, m.Name, func(id, list uint32, has bool) bool {
		matches := empty
		if has {
			var seen bool
			if matches, seen = known[list]; !seen {
				if !t.Go(matchCost) || !t.Reserve(knownBytes) {
					return false
				}
				matches = m.Matches(src.text(list))
				known[list] = matches
			}
		}
		if matches {
			keep = append(keep, id)
		}
		return true
	})
	return keep
}

// knownBytes is what an entry of a map of lists takes, with the room that the map keeps.
const knownBytes = 24

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
func resolve(t *budget.Task, src source, m *labels.Matcher) (x term, some bool) {
	empty := m.Matches("")
	x = term{matcher: m, exclude: empty}
	positive := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
	switch {
	case m.Value == "" && m.Type != labels.MatchRegexp && m.Type != labels.MatchNotRegexp,
		m.Value == ".+" && (m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp):
		x.whole = true // the label is there, or it is not
		return x, true
	case m.Value == ".*" && m.Type == labels.MatchRegexp:
		return x, true // everything: nothing is excluded
	case m.Value == ".*" && m.Type == labels.MatchNotRegexp:
		return x, false
	case m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual:
		if list, ok := src.find(m.Name, m.Value); ok {
			x.lists = append(x.lists, list)
		}
	case len(m.SetMatches()) > 0 && positive != empty:
		// The listed values are those wanted (=~ without the empty one) or those not wanted (!~).
		x.lists = findEach(src, m.Name, m.SetMatches())
	default:
		x.lists = scanFor(t, src, m)
	}
	return x, x.exclude || len(x.lists) > 0
}

// scanFor returns the lists of the values that an expression tells apart from the empty one.
func scanFor(t *budget.Task, src source, m *labels.Matcher) (lists []uint32) {
	memory, ok := src.(keeper)
	if ok {
		if lists, known := memory.known(m); known {
			return lists
		}
	}
	empty := m.Matches("")
	prefix := ""
	if (m.Type == labels.MatchRegexp) != empty {
		prefix = m.Prefix() // values without it match neither the expression nor what is asked for
	}
	src.scan(t, m.Name, prefix, func(value string, list uint32, _ bool) bool {
		if m.Matches(value) != empty {
			lists = appendCharged(t, lists, list)
		}
		return t.Go(matchCost)
	})
	if ok && t.Err() == nil {
		memory.learn(m, lists)
	}
	return lists
}

// appendCharged appends to a list that the task pays for. It leaves the list as it is where the task ends.
func appendCharged(t *budget.Task, lists []uint32, list uint32) []uint32 {
	if len(lists) == cap(lists) {
		more := 16 + len(lists)/2
		if !t.Reserve(idBytes * int64(more)) {
			return lists
		}
		lists = append(make([]uint32, 0, len(lists)+more), lists...)
	}
	return append(lists, list)
}

// newList returns an empty list with room for n ids, none where the task ends.
func newList(t *budget.Task, n int) []uint32 {
	if !t.Reserve(idBytes * int64(n)) {
		return nil
	}
	return make([]uint32, 0, n)
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
func combine(t *budget.Task, src source, terms []term) []uint32 {
	kept := terms[:0]
	for _, x := range terms {
		if x.whole && src.having(x.matcher.Name) == src.total() {
			if x.exclude {
				return nil
			}
			continue // every series has the label
		}
		switch {
		case x.whole:
			x.lists = src.listsOf(t, x.matcher.Name)
		case x.exclude:
			x.lists = src.addNew(t, x.lists, x.matcher)
		}
		x.size = sizeOf(t, src, x.lists)
		// Lists of one label have no series in common; addNew may have brought one twice.
		all := x.size == src.total() && (!x.exclude || len(x.lists) == 1)
		if x.size == 0 && !x.exclude || all && x.exclude || t.Err() != nil {
			return nil
		}
		if all {
			continue
		}
		kept = append(kept, x)
	}
	slices.SortStableFunc(kept, func(a, b term) int {
		if a.exclude != b.exclude {
			return cmp.Compare(b2i(a.exclude), b2i(b.exclude))
		}
		return cmp.Compare(a.size, b.size)
	})
	var ids []uint32
	if len(kept) > 0 && !kept[0].exclude {
		ids = union(t, src, kept[0])
		kept = kept[1:]
	} else {
		ids = src.all(t)
	}
	for i := 0; i < len(kept) && len(ids) > 0; i++ {
		ids = filter(t, src, ids, kept[i])
	}
	return src.live(t, ids)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sizeOf returns how many series are in the lists, those in two of them twice.
func sizeOf(t *budget.Task, src source, lists []uint32) (n int) {
	for from, to := 0, t.Run(0, len(lists)); from < to; from, to = to, t.Run(to, len(lists)) {
		for _, list := range lists[from:to] {
			n += src.size(list)
		}
	}
	return n
}

// union returns the ids in any list of x, ascending.
func union(t *budget.Task, src source, x term) []uint32 {
	ids := newList(t, x.size)
	for _, list := range x.lists {
		if !t.Go(1 + src.size(list)) {
			return nil
		}
		ids = src.appendTo(ids, list)
	}
	if len(x.lists) > 1 {
		ids = sortIDs(t, ids)
	}
	return ids
}

// sortIDs sorts ids and removes repeated ones. Where they are dense a bitmap is several times faster than
// comparing them.
func sortIDs(t *budget.Task, ids []uint32) []uint32 {
	if slices.IsSorted(ids) {
		return slices.Compact(ids)
	}
	highest := slices.Max(ids)
	if len(ids) < 256 {
		slices.Sort(ids)
		return slices.Compact(ids)
	}
	if int(highest)/64 > 4*len(ids) {
		slices.SortFunc(ids, budget.Until(t, cmp.Compare[uint32]))
		return slices.Compact(ids)
	}
	set := chargedBitset(t, int(highest)+1)
	if set == nil {
		return nil
	}
	for from, to := 0, t.Run(0, len(ids)); from < to; from, to = to, t.Run(to, len(ids)) {
		for _, id := range ids[from:to] {
			set.set(int(id))
		}
	}
	return set.appendTo(ids[:0])
}

// chargedBitset returns n bits that the task pays for, nil where it ends.
func chargedBitset(t *budget.Task, n int) bitset {
	if !t.Reserve(int64(n)/8 + 8) {
		return nil
	}
	return newBitset(n)
}

// filter returns the ids that are in x's lists, or not in them where x excludes. It overwrites ids.
func filter(t *budget.Task, src source, ids []uint32, x term) []uint32 {
	hit := chargedBitset(t, len(ids))
	if hit == nil {
		return nil
	}
	// Looking each id up in each list is about 16 times the work of decoding one id of a list.
	if len(x.lists)*min(len(ids), x.size)*16 <= x.size || len(x.lists) == 1 {
		for _, list := range x.lists {
			if !t.Go(1 + min(len(ids), src.size(list))) {
				return nil
			}
			src.mark(list, ids, hit)
		}
	} else {
		all := union(t, src, x)
		for from, to := 0, t.Run(0, len(ids)); from < to; from, to = to, t.Run(to, len(ids)) {
			all = all[gallop(all, ids[from]):]
			markSorted(all, ids[from:to], hit, from)
		}
	}
	keep := ids[:0]
	for from, to := 0, t.Run(0, len(ids)); from < to; from, to = to, t.Run(to, len(ids)) {
		for i := from; i < to; i++ {
			if hit.has(i) != x.exclude {
				keep = append(keep, ids[i])
			}
		}
	}
	return keep
}
