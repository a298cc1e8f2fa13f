// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// The form of an entry: the varint First step and the uvarint count of steps; 8 B stamp; uvarint number of series;
// for each the length of its labels and the labels, a byte that is 1 where every step has a point and else a bitmap of
// ceil(steps/8) bytes follows it; the values of the points there are, 8 B each. All fixed numbers are little endian.

// errDamaged says that bytes are no entry.
var errDamaged = errors.New("damaged entry of the result cache")

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
		b = append(b, make([]byte, (len(s.Present)+7)/8)...)
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

// reader takes an entry apart. The first mistake sticks.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// take returns the next n bytes.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// What a point and a series take in memory.
const (
	pointBytes  = 9
	seriesBytes = 72
)

// decode reads an entry, which refers to b, after charging account for both.
func decode(b []byte, account *budget.Account) (*Entry, error) {
	r := reader{b: b}
	e := &Entry{From: r.varint()}
	n := r.uvarint()
	stamp := r.take(8)
	count := r.uvarint()
	if r.bad || n == 0 || n > BlockSteps || count > uint64(len(r.b)) {
		return nil, errDamaged
	}
	e.To, e.Stamp = e.From+int64(n), binary.LittleEndian.Uint64(stamp)
	if e.check() != nil {
		return nil, errDamaged
	}
	e.Bytes = int64(len(b)) + int64(count*n*pointBytes+count*seriesBytes)
	if err := account.Reserve(e.Bytes); err != nil {
		return nil, err
	}
	e.Series = make([]Series, count)
	present, values := make([]bool, count*n), make([]float64, count*n)
	for i := range e.Series {
		s := &e.Series[i]
		from, to := uint64(i)*n, uint64(i+1)*n
		s.Present, s.Values = present[from:to:to], values[from:to:to]
		s.decode(&r)
	}
	if r.bad || len(r.b) > 0 {
		account.Release(e.Bytes)
		return nil, errDamaged
	}
	return e, nil
}

func (s *Series) decode(r *reader) {
	s.Labels = r.take(r.uvarint())
	full := r.take(1)
	if r.bad {
		return
	}
	var bits []byte
	if full[0] == 0 {
		bits = r.take(uint64(len(s.Present)+7) / 8)
	}
	if r.bad {
		return
	}
	points := uint64(0)
	for i := range s.Present {
		if s.Present[i] = bits == nil || bits[i/8]>>(i%8)&1 == 1; s.Present[i] {
			points++
		}
	}
	raw := r.take(8 * points)
	if r.bad {
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
	r := reader{b: b}
	for len(r.b) > 0 {
		name := r.take(r.uvarint())
		value := r.take(r.uvarint())
		if r.bad {
			break
		}
		sb.Add(string(name), string(value))
	}
	if r.bad {
		return labels.EmptyLabels(), errDamaged
	}
	return sb.Labels(), nil
}
