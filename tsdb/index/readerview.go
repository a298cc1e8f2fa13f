// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Select returns the ids of the series that match all of ms, ascending, which is label order. Without matchers
// it returns all of them. The task keeps what the ids take.
func (r *Reader) Select(t *budget.Task, ms []*labels.Matcher) ([]uint32, error) {
	return selectIDs(t, readerView{r}, ms)
}

// LabelNames returns the label names of the series that match ms, sorted; limit 0 returns all of them.
func (r *Reader) LabelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error) {
	return labelNames(t, readerView{r}, ms, limit)
}

// LabelValues returns the values of a label in the series that match ms, sorted; limit 0 returns all of them. The task
// keeps what they take.
func (r *Reader) LabelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	return labelValues(t, readerView{r}, name, ms, limit)
}

// readerView is the source that matcher evaluation sees of a Reader. A list is the number of its pair.
type readerView struct{ *Reader }

func (v readerView) fix() bool { return true }
func (v readerView) unfix()    {}

func (v readerView) dict(name string) *readerDict {
	i, ok := sort.Find(len(v.dicts), func(i int) int { return strings.Compare(name, v.dicts[i].name) })
	if !ok {
		return nil
	}
	return &v.dicts[i]
}

func (v readerView) having(name string) int {
	if d := v.dict(name); d != nil {
		return int(d.series)
	}
	return 0
}

func (v readerView) names() []string {
	names := make([]string, len(v.dicts))
	for i := range v.dicts {
		names[i] = v.dicts[i].name
	}
	return names
}

func (v readerView) find(name, value string) (list uint32, ok bool) {
	d := v.dict(name)
	if d == nil {
		return 0, false
	}
	v.eachInGroup(d, v.groupOf(d, value), func(i int, x []byte) bool {
		c := strings.Compare(unsafeString(x), value)
		if c == 0 {
			list, ok = d.first+v.groupOf(d, value)*groupSize+uint32(i), true
		}
		return c < 0
	})
	return list, ok
}

// groupOf returns the group of d that holds value if any does: the last that does not begin after it.
func (v readerView) groupOf(d *readerDict, value string) uint32 {
	groups := (int(d.values) + groupSize - 1) / groupSize
	k := sort.Search(groups, func(k int) bool {
		n, off := uvarintAt(v.b, v.groups[int(d.firstGroup)+k])
		return unsafeString(v.b[off:off+n]) > value
	})
	return uint32(max(k-1, 0))
}

// unsafeString returns b as a string that is valid for as long as b does not change.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (v readerView) scan(t *budget.Task, name, prefix string, f func(string, uint32, bool) bool) {
	d := v.dict(name)
	if d == nil {
		return
	}
	want, value := []byte(prefix), make([]byte, 0, 128)
	groups := (d.values + groupSize - 1) / groupSize
	on := true
	for k := v.groupOf(d, prefix); k < groups && on && t.Go(groupSize); k++ {
		value = v.decodeGroup(d, k, value, func(i int, value []byte) bool {
			if len(want) > 0 && !bytes.HasPrefix(value, want) {
				on = bytes.Compare(value, want) < 0
				return on
			}
			on = f(unsafeString(value), d.first+k*groupSize+uint32(i), true)
			return on
		})
	}
}

func (v readerView) total() int { return v.n }

func (v readerView) addNew(_ *budget.Task, lists []uint32, _ *labels.Matcher) []uint32 { return lists }

func (v readerView) live(_ *budget.Task, ids []uint32) []uint32 { return ids }

func (v readerView) all(t *budget.Task) []uint32 { return ascending(t, 0, v.n) }

func (v readerView) listsOf(t *budget.Task, name string) []uint32 {
	if d := v.dict(name); d != nil {
		return ascending(t, d.first, int(d.values))
	}
	return nil
}

// ascending returns n numbers in a row, fewer where the task ends.
func ascending(t *budget.Task, first uint32, n int) []uint32 {
	out := newList(t, n)
	for from, to := 0, t.Run(0, n); from < to; from, to = to, t.Run(to, n) {
		for i := from; i < to; i++ {
			out = append(out, first+uint32(i))
		}
	}
	return out
}

func (v readerView) size(list uint32) int {
	n, _ := uvarintAt(v.b, v.lists[list])
	return int(n)
}

// each calls f with the runs of a list, ascending, until f returns false.
func (v readerView) each(list uint32, f func(first, last uint32) bool) {
	left, off := uvarintAt(v.b, v.lists[list])
	for next := uint32(0); left > 0; {
		var gap, more uint32
		gap, off = uvarintAt(v.b, off)
		run := uint32(1)
		if gap&1 != 0 {
			more, off = uvarintAt(v.b, off)
			run = more + 2
		}
		first := next + gap>>1
		if !f(first, first+run-1) {
			return
		}
		next = first + run
		left -= run
	}
}

func (v readerView) appendTo(dst []uint32, list uint32) []uint32 {
	dst = slices.Grow(dst, v.size(list))
	v.each(list, func(first, last uint32) bool {
		for id := first; id <= last; id++ {
			dst = append(dst, id)
		}
		return true
	})
	return dst
}

func (v readerView) mark(list uint32, ids []uint32, hit bitset) { v.each(list, markRuns(ids, hit)) }

func (v readerView) overlaps(t *budget.Task, list uint32, ids []uint32) (found bool) {
	find := findRun(ids, &found)
	v.each(list, func(first, last uint32) bool { return t.Go(1) && find(first, last) })
	return found
}

func (v readerView) values(name string) int {
	if d := v.dict(name); d != nil {
		return int(d.values)
	}
	return 0
}

func (v readerView) list(t *budget.Task, name string, limit int) []string {
	d := v.dict(name)
	if d == nil {
		return nil
	}
	n := int(d.values)
	if limit > 0 {
		n = min(n, limit)
	}
	if !t.Reserve(stringBytes * int64(n)) {
		return nil
	}
	values := make([]string, 0, n)
	for k := uint32(0); len(values) < n; k++ {
		g := v.group(d, k)
		if !t.Go(groupSize) || !t.Reserve(int64(len(g.text))) {
			return nil
		}
		from := uint32(0)
		for i := 0; i < groupSize && len(values) < n; i++ {
			values = append(values, g.text[from:g.ends[i]])
			from = g.ends[i]
		}
	}
	return values
}

func (v readerView) eachOf(t *budget.Task, ids []uint32, name string, f func(id, list uint32, ok bool) bool) {
	sym := uint32(sort.Search(len(v.dicts), func(i int) bool { return v.dicts[i].name >= name }))
	on := true
	for from, to := 0, t.Run(0, len(ids)); from < to && on; from, to = to, t.Run(to, len(ids)) {
		i := from
		v.EachPairs(ids[from:to], func(pairs []uint32) {
			if !on {
				return
			}
			list, ok := uint32(0), false
			for k := 0; k < len(pairs) && pairs[k] <= sym; k += 2 {
				if ok = pairs[k] == sym && v.dicts[sym].name == name; ok {
					list = pairs[k+1] - uint32(len(v.dicts))
				}
			}
			on = f(ids[i], list, ok)
			i++
		})
	}
}

func (v readerView) text(list uint32) string { return v.Symbol(list + uint32(len(v.dicts))) }
