// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
)

// The form of an entry: the varint First step and the uvarint count of steps; 8 B stamp; uvarint number of series;
// for each the length of its labels and the labels, a byte that is 1 where every step has a point and else a bitmap of
// ceil(steps/8) bytes follows it; the values of the points there are, 8 B each. All fixed numbers are little endian.

// errDamaged says that bytes are no entry.
var errDamaged = errors.New("damaged entry of the result cache")

// size is how long the encoded entry is, or a little more.
func (e *Entry) size() int64 {
	n := int64(4 * binary.MaxVarintLen64)
	for i := range e.Series {
		s := &e.Series[i]
		n += int64(binary.MaxVarintLen64 + len(s.Labels) + 1 + (len(s.Present)+7)/8)
		for _, p := range s.Present {
			if p {
				n += 8
			}
		}
	}
	return n
}

func (e *Entry) encode(b []byte) []byte {
	b = binary.AppendVarint(b, e.From)
	b = binary.AppendUvarint(b, uint64(e.To-e.From))
	b = binary.LittleEndian.AppendUint64(b, e.Stamp)
	b = binary.AppendUvarint(b, uint64(len(e.Series)))
	for i := range e.Series {
		b = e.Series[i].encode(b)
	}
	return b
}

func (s *Series) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.Labels)))
	b = append(b, s.Labels...)
	full := true
	for _, p := range s.Present {
		full = full && p
	}
	if full {
		b = append(b, 1)
	} else {
		b = append(b, 0)
		at := len(b)
		for range (len(s.Present) + 7) / 8 {
			b = append(b, 0)
		}
		for i, p := range s.Present {
			if p {
				b[at+i/8] |= 1 << (i % 8)
			}
		}
	}
	for i, p := range s.Present {
		if p {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.Values[i]))
		}
	}
	return b
}

// What a point and a series take in memory.
const (
	pointBytes  = 9
	seriesBytes = 72
)

// decode reads an entry, which refers to b, after charging account for what it takes beside b. Entry.Bytes is both.
func decode(b []byte, account *budget.Account) (*Entry, error) {
	r := decbuf.Buf{B: b}
	e := &Entry{From: r.Varint()}
	n := r.AtMost(BlockSteps, "steps")
	e.To, e.Stamp = e.From+int64(n), r.LE64()
	count := uint64(r.Count(1))
	if r.Failed() || n == 0 {
		return nil, errDamaged
	}
	if e.check() != nil {
		return nil, errDamaged
	}
	beside := int64(count*n*pointBytes + count*seriesBytes)
	if err := account.Reserve(beside); err != nil {
		return nil, err
	}
	e.Bytes = int64(len(b)) + beside
	e.Series = make([]Series, count)
	present, values := make([]bool, count*n), make([]float64, count*n)
	for i := range e.Series {
		s := &e.Series[i]
		from, to := uint64(i)*n, uint64(i+1)*n
		s.Present, s.Values = present[from:to:to], values[from:to:to]
		s.decode(&r)
	}
	if r.Finish(); r.Failed() {
		account.Release(beside)
		return nil, errDamaged
	}
	return e, nil
}

func (s *Series) decode(r *decbuf.Buf) {
	s.Labels = r.Sized()
	var bits []byte
	if r.Byte() == 0 {
		bits = r.Bytes((len(s.Present) + 7) / 8)
	}
	if r.Failed() {
		return
	}
	points := 0
	for i := range s.Present {
		if s.Present[i] = bits == nil || bits[i/8]>>(i%8)&1 == 1; s.Present[i] {
			points++
		}
	}
	raw := r.Bytes(8 * points)
	if r.Failed() {
		return
	}
	for i, p := range s.Present {
		if p {
			s.Values[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw))
			raw = raw[8:]
		}
	}
}

// AppendLabels encodes labels: for each the length and the bytes of name and value, in order of names.
func AppendLabels(b []byte, ls labels.Labels) []byte {
	ls.Range(func(l labels.Label) {
		b = binary.AppendUvarint(b, uint64(len(l.Name)))
		b = append(b, l.Name...)
		b = binary.AppendUvarint(b, uint64(len(l.Value)))
		b = append(b, l.Value...)
	})
	return b
}

// DecodeLabels reads what AppendLabels wrote. The labels refer to no memory of b.
func DecodeLabels(b []byte, sb *labels.ScratchBuilder) (labels.Labels, error) {
	sb.Reset()
	r := decbuf.Buf{B: b}
	for r.Left() > 0 {
		name := r.Text()
		sb.Add(name, r.Text())
	}
	if r.Failed() {
		return labels.EmptyLabels(), errDamaged
	}
	return sb.Labels(), nil
}
