// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"
)

// entries reads the series of an index file: the labels of each as symbols and where its chunks are. Prometheus' own
// reader looks every text up by walking over its neighbours, ten times a series, which is most of what listing a
// series costs it; here the texts are read once, in one piece.
//
//	entry at 16*id:  length uvarint | labels | chunks | crc32c of labels and chunks
//	labels:          n uvarint | n times: name uvarint, value uvarint
//	chunks:          n uvarint | first: min time varint, length uvarint, ref uvarint
//	                 | the others: min time - last max time uvarint, length uvarint, ref - last ref varint
type entries struct {
	file *fileutil.MmapFile
	raw  []byte

	texts string   // of all symbols, one after the other; set by load
	ends  []uint32 // of each symbol in texts
}

const (
	entryAlign   = 16
	entryVersion = 2 // of the format, since Prometheus 2.3
	versionAt    = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openEntries(name string) (*entries, error) {
	f, err := fileutil.OpenMmapFile(name)
	if err != nil {
		return nil, err
	}
	e := &entries{file: f, raw: f.Bytes()}
	if len(e.raw) <= versionAt || e.raw[versionAt] != entryVersion {
		return nil, errors.Join(errors.New("its index is not of format 2, which Prometheus writes since 2.3"), f.Close())
	}
	return e, nil
}

func (e *entries) close() error { return e.file.Close() }

// load reads the symbols and returns the memory they take.
func (e *entries) load(symbols index.StringIter) (int64, error) {
	var texts strings.Builder
	e.ends = e.ends[:0]
	for symbols.Next() {
		texts.WriteString(symbols.At())
		if uint64(texts.Len()) > math.MaxUint32 {
			return 0, errors.New("more than 4 GiB of label texts")
		}
		e.ends = append(e.ends, uint32(texts.Len()))
	}
	if err := symbols.Err(); err != nil {
		return 0, fmt.Errorf("read symbols: %w", err)
	}
	e.texts = texts.String()
	return int64(texts.Cap()) + 4*int64(cap(e.ends)), nil
}

// symbol returns the text of a symbol that pairs gave.
func (e *entries) symbol(sym uint32) string {
	from := uint32(0)
	if sym > 0 {
		from = e.ends[sym-1]
	}
	return e.texts[from:e.ends[sym]]
}

// entry returns the labels and chunks of a series, with their checksum behind them.
func (e *entries) entry(id uint32) (body, sum []byte, err error) {
	at := uint64(id) * entryAlign
	if at >= uint64(len(e.raw)) {
		return nil, nil, fmt.Errorf("series %d is beyond the index", id)
	}
	n, k := binary.Uvarint(e.raw[at:])
	rest := e.raw[at+uint64(max(k, 0)):]
	if k <= 0 || n > math.MaxUint32 || n+crc32.Size > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("series %d ends beyond the index", id)
	}
	return rest[:n], rest[n : n+crc32.Size], nil
}

// check returns an error where the entry of a series is not what was written.
func (e *entries) check(id uint32) error {
	body, sum, err := e.entry(id)
	if err != nil {
		return err
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return fmt.Errorf("series %d: wrong checksum", id)
	}
	_, err = e.pairs(id, nil)
	return err
}

// pairs appends the labels of a series.
func (e *entries) pairs(id uint32, dst []uint32) ([]uint32, error) {
	body, _, err := e.entry(id)
	if err != nil {
		return dst, err
	}
	d := uvarints{p: body}
	for range 2 * d.next() {
		sym := d.next()
		if d.bad || sym >= uint64(len(e.ends)) {
			return dst, fmt.Errorf("series %d: symbol %d of %d", id, sym, len(e.ends))
		}
		dst = append(dst, uint32(sym))
	}
	return dst, nil
}

// chunks replaces dst by the chunks of a series.
func (e *entries) chunks(id uint32, dst []chunks.Meta) ([]chunks.Meta, error) {
	dst = dst[:0]
	body, _, err := e.entry(id)
	if err != nil {
		return dst, err
	}
	d := uvarints{p: body}
	for range 2 * d.next() {
		if d.next(); d.bad {
			break
		}
	}
	var last chunks.Meta
	for i := range d.next() {
		m := chunks.Meta{}
		if i == 0 {
			m.MinTime = d.signed()
			m.MaxTime = m.MinTime + int64(d.next())
			m.Ref = chunks.ChunkRef(d.next())
		} else {
			m.MinTime = last.MaxTime + int64(d.next())
			m.MaxTime = m.MinTime + int64(d.next())
			m.Ref = chunks.ChunkRef(int64(last.Ref) + d.signed())
		}
		if d.bad {
			break
		}
		dst, last = append(dst, m), m
	}
	if d.bad {
		return dst[:0], fmt.Errorf("series %d: its entry ends in the middle", id)
	}
	return dst, nil
}

// uvarints reads numbers; bad sticks once the bytes do not hold one, and all others are 0.
type uvarints struct {
	p   []byte
	bad bool
}

func (d *uvarints) next() uint64 {
	x, n := binary.Uvarint(d.p)
	if n <= 0 || d.bad {
		d.p, d.bad = nil, true
		return 0
	}
	d.p = d.p[n:]
	return x
}

func (d *uvarints) signed() int64 {
	x, n := binary.Varint(d.p)
	if n <= 0 || d.bad {
		d.p, d.bad = nil, true
		return 0
	}
	d.p = d.p[n:]
	return x
}
