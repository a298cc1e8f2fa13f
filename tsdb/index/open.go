// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
)

// opener fills a Reader and checks every byte that the reader will later trust.
type opener struct {
	r                 *Reader
	version           int
	names, pairs, set int     // how many, from the header
	ends              [5]int  // of the parts
	labels            []int64 // per name: series that have it, by the series part
}

func (o *opener) header() error {
	b := o.r.b
	if len(b) < headerBytes {
		return &FormatError{Off: int64(len(b)), Msg: "shorter than its header"}
	}
	u32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[4*i:])) }
	if v := u32(0); v < firstVersion || v > formatVersion {
		return &FormatError{Off: 0, Msg: fmt.Sprintf("version %d, want %d to %d", v, firstVersion, formatVersion)}
	}
	o.version = int(u32(0))
	end := int64(headerBytes)
	for i := range o.ends {
		end += u32(5 + i)
		o.ends[i] = int(end)
	}
	if o.version == 1 {
		end += u32(1) * hashSize // which nobody needs
	}
	if end != int64(len(b)) {
		return &FormatError{Off: int64(len(b)), Msg: fmt.Sprintf("parts end at byte %d", end)}
	}
	// Each takes a byte at least, so what is allocated for them is in proportion to b.
	if most := int64(len(b)); u32(2) > most || u32(3) > most || u32(4) > most || u32(1) > maxID {
		return &FormatError{Off: 4, Msg: "more entries than bytes"}
	}
	o.r.n, o.names, o.pairs, o.set = int(u32(1)), int(u32(2)), int(u32(3)), int(u32(4))
	return nil
}

func (o *opener) part(i int) *cursor {
	from := headerBytes
	if i > 0 {
		from = o.ends[i-1]
	}
	return &cursor{b: o.r.b, off: from, end: o.ends[i]}
}

func (o *opener) openNames() error {
	c := o.part(0)
	o.r.dicts = make([]readerDict, 0, o.names)
	first, group := uint32(0), uint32(0)
	for i := 0; i < o.names && c.err == nil; i++ {
		name := string(c.bytes(c.uvarint()))
		d := readerDict{name: name, first: first, firstGroup: group}
		d.values = c.below(o.pairs-int(first)+1, "value")
		d.series = c.below(o.r.n+1, "series")
		if name == "" || i > 0 && name <= o.r.dicts[i-1].name || d.values == 0 {
			c.fail("names out of order or without values")
		}
		first += d.values
		group += (d.values + groupSize - 1) / groupSize
		o.r.dicts = append(o.r.dicts, d)
	}
	if c.err == nil && int(first) != o.pairs {
		c.fail(fmt.Sprintf("%d values of %d pairs", first, o.pairs))
	}
	o.r.groups = make([]uint32, 0, group)
	o.r.texts = make([]atomic.Pointer[groupText], group)
	o.labels = make([]int64, o.names)
	return c.finish("names")
}

func (o *opener) openDictionaries() error {
	c := o.part(1)
	var last, value []byte
	for _, d := range o.r.dicts {
		last = last[:0]
		for rank := range d.values {
			if c.err != nil {
				return c.finish("dictionaries")
			}
			shared := uint32(0)
			if rank%groupSize == 0 {
				o.r.groups = append(o.r.groups, uint32(c.off))
			} else {
				shared = c.below(len(last)+1, "shared bytes")
			}
			value = append(append(value[:0], last[:shared]...), c.bytes(c.uvarint())...)
			if c.err == nil && bytes.Compare(last, value) >= 0 {
				c.fail("values out of order")
			}
			o.r.valueBytes += int64(len(value))
			last, value = value, last
		}
	}
	return c.finish("dictionaries")
}

func (o *opener) openSets() error {
	c := o.part(2)
	o.r.setStarts = append(make([]uint32, 0, o.set+1), 0)
	for i := 0; i < o.set && c.err == nil; i++ {
		n := c.below(o.names+1, "labels")
		for k := range n {
			name := c.below(o.names, "name")
			if k > 0 && c.err == nil && name <= o.r.setNames[len(o.r.setNames)-1] {
				c.fail("labels of a set out of order")
			}
			if c.err != nil {
				break
			}
			o.r.setNames = append(o.r.setNames, name)
		}
		o.r.setStarts = append(o.r.setStarts, uint32(len(o.r.setNames)))
	}
	return c.finish("label sets")
}

func (o *opener) openSeries() error {
	c := o.part(3)
	o.r.series = make([]uint32, 0, (o.r.n+groupSize-1)/groupSize)
	var set []uint32
	for id := 0; id < o.r.n && c.err == nil; id++ {
		if id%groupSize == 0 {
			o.r.series = append(o.r.series, uint32(c.off))
		}
		shared := c.below(len(set)+2, "shared labels")
		if shared == 0 {
			k := c.below(o.set, "label set")
			if c.err != nil {
				break
			}
			set = o.r.setNames[o.r.setStarts[k]:o.r.setStarts[k+1]]
			shared = 1
		} else if id%groupSize == 0 {
			c.fail("group begins in the middle")
			break
		}
		for _, name := range set[shared-1:] {
			c.below(int(o.r.dicts[name].values), "value")
		}
		for _, name := range set {
			o.labels[name]++
		}
	}
	for i, d := range o.r.dicts {
		if c.err == nil && int64(d.series) != o.labels[i] {
			c.fail(fmt.Sprintf("label %q in %d series, want %d", d.name, o.labels[i], d.series))
		}
	}
	return c.finish("series")
}

func (o *opener) openPostings() error {
	c := o.part(4)
	o.r.lists = make([]uint32, 0, o.pairs)
	for _, d := range o.r.dicts {
		series := uint64(0)
		for range d.values {
			if c.err != nil {
				return c.finish("postings")
			}
			at, n := o.list(c)
			o.r.lists = append(o.r.lists, at)
			series += n
		}
		if c.err == nil && series != uint64(d.series) {
			c.fail(fmt.Sprintf("%d series in the lists of label %q, want %d", series, d.name, d.series))
		}
	}
	o.r.lists = slices.Clip(o.r.lists)
	return c.finish("postings")
}

// list checks one list of postings and returns where it is and its length.
func (o *opener) list(c *cursor) (at uint32, n uint64) {
	at = uint32(c.off)
	n = uint64(c.below(o.r.n+1, "series"))
	if n == 0 && o.version > 1 {
		back := c.below(len(o.r.lists)+1, "pairs before")
		if back == 0 {
			c.fail("list refers to itself")
			return 0, 0
		}
		at = o.r.lists[len(o.r.lists)-int(back)]
		same, _ := uvarintAt(o.r.b, at)
		return at, uint64(same)
	}
	if n == 0 {
		c.fail("empty list")
	}
	next := uint64(0) // first id that the next run may begin with
	for left := n; left > 0 && c.err == nil; {
		gap := c.uvarint()
		run := uint64(1)
		if gap&1 != 0 {
			run = uint64(c.uvarint()) + 2
		}
		first := next + uint64(gap>>1)
		if gap>>1 == 0 && next > 0 || run > left || first+run > uint64(o.r.n) {
			c.fail("malformed run")
		}
		left -= min(run, left)
		next = first + run
	}
	return at, n
}
