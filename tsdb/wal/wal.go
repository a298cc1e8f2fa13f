// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package wal is the codec of the records in the store's write-ahead log. The journal keeps them in order and
// checks their bytes; this package says what the bytes mean.
//
// A series record gives refs to label sets. A batch record is one Commit: all its rows, exemplars and
// descriptions, behind the Limits they were judged by, so that it is in the log as a whole or not at all, and
// replays to the same judgements. A delete record takes the samples of series in a range away, a free record the
// series themselves. Every record stands alone: nothing in it depends on an earlier one, so that a damaged record
// costs only itself.
//
// Encoders append to a slice and cannot fail. Decoders check everything before they allocate in proportion to it,
// and end in a *CorruptError. There is no state; all functions are safe for concurrent use.
//
// The format is described in docs/format-wal.md.
package wal

import (
	"encoding/binary"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The kinds of record. They are part of the format.
const (
	KindSeries = journal.FirstKind + iota
	KindBatch
	KindDelete
	KindFree
)

// The newest format of each kind, the first byte of its payload.
const (
	seriesFormat = 1
	batchPlain   = 1 // format of a batch whose columns follow as they are
	batchS2      = 2 // and of one whose columns follow as an S2 block
	batchFormat  = batchS2
	limitsFormat = 1
	deletePlain  = 1 // format of a delete that only names series
	deleteFormat = 2 // and of one with the matchers that named them
	freeFormat   = 1
)

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

func appendVarint(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendRefs appends refs as differences: series of one target have refs in a row.
func appendRefs(dst []byte, refs []sample.Ref) []byte {
	prev := sample.Ref(0)
	for _, ref := range refs {
		d := zigzag(int64(ref - prev))
		if d < 0x80 {
			dst = append(dst, byte(d))
		} else {
			dst = binary.AppendUvarint(dst, d)
		}
		prev = ref
	}
	return dst
}

// refs reads n refs onto dst; n was checked against the bytes left.
func (c *cursor) refs(dst []sample.Ref, n int) []sample.Ref {
	prev := sample.Ref(0)
	for range n {
		prev += sample.Ref(c.Varint())
		dst = append(dst, prev)
	}
	return dst
}

// AppendSeries appends the payload of a series record. Both slices have the same length. Label names and values
// come once, however many of the series have them.
func AppendSeries(dst []byte, refs []sample.Ref, ls []labels.Labels) []byte {
	dst = append(dst, seriesFormat)
	dst = binary.AppendUvarint(dst, uint64(len(refs)))
	dst = appendRefs(dst, refs)
	symbols := make(map[string]uint64, 4*len(ls))
	text := make([]byte, 0, 64*len(ls))
	index := make([]byte, 0, 32*len(ls))
	symbol := func(s string) uint64 {
		n, ok := symbols[s]
		if !ok {
			n = uint64(len(symbols))
			symbols[s] = n
			text = appendString(text, s)
		}
		return n
	}
	for _, l := range ls {
		index = binary.AppendUvarint(index, uint64(l.Len()))
		l.Range(func(x labels.Label) {
			index = binary.AppendUvarint(index, symbol(x.Name))
			index = binary.AppendUvarint(index, symbol(x.Value))
		})
	}
	dst = binary.AppendUvarint(dst, uint64(len(symbols)))
	dst = append(dst, text...)
	return append(dst, index...)
}

// DecodeSeries calls fn for each series of a series record. The label sets are fn's to keep. An error of fn ends
// the call and is returned.
func DecodeSeries(p []byte, fn func(sample.Ref, labels.Labels) error) error {
	c := newCursor("series", p)
	c.version(seriesFormat)
	n := c.Count(1)
	refs := c.refs(make([]sample.Ref, 0, n), n)
	symbols := make([]string, c.Count(1))
	text := string(p) // One copy; the label sets copy what they need of it.
	for i := range symbols {
		size := len(c.Sized())
		symbols[i] = text[c.Off-size : c.Off]
	}
	b := labels.NewScratchBuilder(16)
	for i := 0; i < len(refs) && !c.Failed(); i++ {
		b.Reset()
		for range c.Count(2) {
			name, value := c.Uvarint(), c.Uvarint()
			if name >= uint64(len(symbols)) || value >= uint64(len(symbols)) {
				c.Fail("no such symbol")
				break
			}
			b.Add(symbols[name], symbols[value])
		}
		if !c.Failed() {
			if err := fn(refs[i], b.Labels()); err != nil {
				return err
			}
		}
	}
	return c.done()
}

// Delete is the removal of samples: those of Refs with a time in [MinT, MaxT], in ms, and those of the blocks there were
// then, of the series that match.
type Delete struct {
	Refs       []sample.Ref
	MinT, MaxT int64
	// At is when it was asked for, Unix ms, and Match what for; both are missing in records of version 0.1.
	At    int64
	Match []*labels.Matcher
}

// AppendDelete appends the payload of a delete record.
func AppendDelete(dst []byte, d Delete) []byte {
	format := byte(deleteFormat)
	if d.At == 0 && len(d.Match) == 0 {
		format = deletePlain
	}
	dst = append(dst, format)
	dst = appendVarint(dst, d.MinT)
	dst = appendVarint(dst, d.MaxT)
	if format == deleteFormat {
		dst = appendVarint(dst, d.At)
		dst = binary.AppendUvarint(dst, uint64(len(d.Match)))
		for _, m := range d.Match {
			dst = appendString(appendString(append(dst, byte(m.Type)), m.Name), m.Value)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.Refs)))
	return appendRefs(dst, d.Refs)
}

// DecodeDelete is the inverse of AppendDelete.
func DecodeDelete(p []byte) (Delete, error) {
	c := newCursor("delete", p)
	format := c.version(deleteFormat)
	d := Delete{MinT: c.Varint(), MaxT: c.Varint()}
	if format == deleteFormat {
		d.At = c.Varint()
		for range c.Count(3) {
			kind, name, value := labels.MatchType(c.Byte()), c.Text(), c.Text()
			if kind > labels.MatchNotRegexp {
				c.Fail("no such kind of matcher")
				break
			}
			m, err := labels.NewMatcher(kind, name, value)
			if err != nil {
				c.Fail("matcher that cannot be read")
				break
			}
			d.Match = append(d.Match, m)
		}
	}
	n := c.Count(1)
	d.Refs = c.refs(make([]sample.Ref, 0, n), n)
	if err := c.done(); err != nil {
		return Delete{}, err
	}
	return d, nil
}

// AppendFree appends the payload of a record that lets series leave the store's head.
func AppendFree(dst []byte, refs []sample.Ref) []byte {
	dst = append(dst, freeFormat)
	dst = binary.AppendUvarint(dst, uint64(len(refs)))
	return appendRefs(dst, refs)
}

// DecodeFree is the inverse of AppendFree.
func DecodeFree(p []byte) ([]sample.Ref, error) {
	c := newCursor("free", p)
	c.version(freeFormat)
	n := c.Count(1)
	refs := c.refs(make([]sample.Ref, 0, n), n)
	if err := c.done(); err != nil {
		return nil, err
	}
	return refs, nil
}
