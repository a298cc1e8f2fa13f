// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"sort"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// valueTable is the values of a label in order, their texts one after the other, so that looking at all of them reads
// memory in one direction and takes no lock. It is made when somebody asks, and immutable.
type valueTable struct {
	text    string
	entries []tableValue
}

// tableValue is a value and the number of its pair.
type tableValue struct {
	off     uint64
	n, list uint32
}

const tableValueBytes = 16 // unsafe.Sizeof(tableValue{})

func (x *valueTable) len() int {
	if x == nil {
		return 0
	}
	return len(x.entries)
}

func (x *valueTable) at(i int) string {
	e := x.entries[i]
	return x.text[e.off : e.off+uint64(e.n)]
}

// bytes returns what the table takes.
func (x *valueTable) bytes() int64 {
	if x == nil {
		return 0
	}
	return int64(len(x.text)) + tableValueBytes*int64(cap(x.entries))
}

// from returns the index of the first value that is not below text.
func (x *valueTable) from(text string) int {
	return sort.Search(x.len(), func(i int) bool { return x.at(i) >= text })
}

// with returns a table that has fresh, which is sorted, as well; nil where the task ends.
func (x *valueTable) with(t *budget.Task, fresh []valueList) *valueTable {
	size := 0
	for _, v := range fresh {
		size += len(v.text)
	}
	n := x.len()
	if n > 0 {
		size += len(x.text)
	}
	if !t.Reserve(int64(size) + tableValueBytes*int64(n+len(fresh))) {
		return nil
	}
	var text strings.Builder
	text.Grow(size)
	out := &valueTable{entries: make([]tableValue, 0, n+len(fresh))}
	add := func(value string, list uint32) {
		out.entries = append(out.entries, tableValue{uint64(text.Len()), uint32(len(value)), list})
		text.WriteString(value)
	}
	i := 0
	for _, v := range fresh {
		for ; i < n && x.at(i) < v.text && t.Go(1); i++ {
			add(x.at(i), x.entries[i].list)
		}
		if !t.Go(1) {
			return nil
		}
		add(v.text, v.list)
	}
	for ; i < n && t.Go(1); i++ {
		add(x.at(i), x.entries[i].list)
	}
	out.text = text.String()
	if t.Err() != nil {
		return nil
	}
	return out
}

// without returns the table without the values that dead names; they stay in its text.
func (x *valueTable) without(dead func(list uint32) bool) *valueTable {
	if x == nil {
		return nil
	}
	out := &valueTable{text: x.text, entries: make([]tableValue, 0, len(x.entries))}
	live := 0
	for _, e := range x.entries {
		if !dead(e.list) {
			out.entries = append(out.entries, e)
			live += int(e.n)
		}
	}
	if 2*live < len(x.text) {
		out.compact(live)
	}
	return out
}

// compact copies the texts that are left, which are of so many bytes.
func (x *valueTable) compact(live int) {
	var text strings.Builder
	text.Grow(live)
	for i, e := range x.entries {
		value := x.text[e.off : e.off+uint64(e.n)]
		x.entries[i].off = uint64(text.Len())
		text.WriteString(value)
	}
	x.text = text.String()
	x.entries = append(make([]tableValue, 0, len(x.entries)), x.entries...)
}
