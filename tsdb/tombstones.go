// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// interval is a closed range of times, Unix ms.
type interval struct{ mint, maxt int64 }

// tombstones are what is hidden of one block: one mask for each delete, by its id. They are immutable; a delete makes new
// ones.
type tombstones []mask

// mask is what one delete hides of a block.
type mask struct {
	id     sample.LSN // of the delete; 0: for ever
	all    []interval // of every series
	series map[uint32][]interval
}

// tombstoneSuffix is that of the file beside a block; docs/format-tombstones.md.
const tombstoneSuffix = ".del"

const (
	tombstoneMagic  = "TMDL\x02"
	tombstoneMagic1 = "TMDL\x01"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func tombstonePath(blockPath string) string {
	return strings.TrimSuffix(blockPath, block.Suffix) + tombstoneSuffix
}

// of returns what is hidden of a series.
func (m *mask) of(id uint32) []interval {
	ivs := m.series[id]
	if len(ivs) == 0 {
		return m.all
	}
	return unite(ivs, m.all)
}

// find returns where the mask of a delete is, or would be.
func (t tombstones) find(id sample.LSN) (int, bool) {
	return slices.BinarySearchFunc(t, id, func(m mask, id sample.LSN) int { return cmp.Compare(m.id, id) })
}

// get returns the mask of a delete, an empty one where there is none.
func (t tombstones) get(id sample.LSN) mask {
	if i, ok := t.find(id); ok {
		return t[i]
	}
	return mask{id: id}
}

// put returns t with a mask in place of that of the same delete.
func (t tombstones) put(m mask) tombstones {
	i, ok := t.find(m.id)
	out := slices.Clone(t)
	if ok {
		out[i] = m
		return out
	}
	return slices.Insert(out, i, m)
}

// without returns t but for the masks of which f says that they go; nil if that is all.
func (t tombstones) without(f func(id sample.LSN) bool) tombstones {
	var out tombstones
	for _, m := range t {
		if !f(m.id) {
			out = append(out, m)
		}
	}
	return out
}

// only returns the masks of t that f names.
func (t tombstones) only(f func(id sample.LSN) bool) tombstones {
	return t.without(func(id sample.LSN) bool { return !f(id) })
}

// with returns t plus iv of each of ids, hidden by a delete.
func (t tombstones) with(id sample.LSN, ids []uint32, iv interval) tombstones {
	m := t.get(id)
	series := make(map[uint32][]interval, len(m.series)+len(ids))
	maps.Copy(series, m.series)
	for _, s := range ids {
		series[s] = addInterval(series[s], iv)
	}
	return t.put(mask{id: id, all: m.all, series: series})
}

// same reports whether t and x are the same tombstones, not merely equal ones.
func (t tombstones) same(x tombstones) bool {
	return len(t) == len(x) && (len(t) == 0 || &t[0] == &x[0])
}

// equal reports whether t and x hide the same by the same deletes.
func (t tombstones) equal(x tombstones) bool {
	return slices.EqualFunc(t, x, func(a, b mask) bool {
		return a.id == b.id && slices.Equal(a.all, b.all) && maps.EqualFunc(a.series, b.series, slices.Equal)
	})
}

// covers reports whether one of the masks hides all samples of [mint, maxt].
func (t tombstones) covers(mint, maxt int64) bool {
	for i := range t {
		for _, iv := range t[i].all {
			if iv.mint <= mint && iv.maxt >= maxt {
				return true
			}
		}
	}
	return false
}

// addInterval returns ivs with x, joined with those it touches.
func addInterval(ivs []interval, x interval) []interval { return unite(ivs, []interval{x}) }

// unite returns what is in a or in b, both of which are disjoint intervals in time order, as such.
func unite(a, b []interval) []interval {
	out := make([]interval, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		next := &a
		if len(a) == 0 || len(b) > 0 && b[0].mint < a[0].mint {
			next = &b
		}
		x := (*next)[0]
		*next = (*next)[1:]
		if n := len(out); n > 0 && !apart(out[n-1], x) {
			out[n-1].maxt = max(out[n-1].maxt, x.maxt)
			continue
		}
		out = append(out, x)
	}
	return out
}

// apart reports whether neither touches the other. The ends are compared without adding 1, which could overflow.
func apart(a, b interval) bool {
	if a.mint > b.mint {
		a, b = b, a
	}
	return a.maxt < b.mint && b.mint-a.maxt != 1
}

func deleted(ivs []interval, t int64) bool {
	_, found := slices.BinarySearchFunc(ivs, t, func(iv interval, t int64) int {
		switch {
		case iv.maxt < t:
			return -1
		case iv.mint > t:
			return 1
		}
		return 0
	})
	return found
}

// hidden returns what all masks together hide of a series.
func (t tombstones) hidden(id uint32) []interval {
	var out []interval
	for i := range t {
		ivs := t[i].of(id)
		if len(out) == 0 {
			out = ivs
			continue
		}
		if len(ivs) > 0 {
			out = unite(out, ivs)
		}
	}
	return out
}

// drop removes the rows of b from from on that are hidden.
func (t tombstones) drop(id uint32, b *column.Block, from int) {
	ivs := t.hidden(id)
	if len(ivs) == 0 {
		return
	}
	keep := make([]int, 0, len(b.T)-from)
	for i := from; i < len(b.T); i++ {
		if !deleted(ivs, b.T[i]) {
			keep = append(keep, i)
		}
	}
	if len(keep) < len(b.T)-from {
		reorderRows(b, keep, from)
	}
}

// appendTo encodes t: magic, crc32c of the rest, then masks by id, and the series of each by theirs.
func (t tombstones) appendTo(dst []byte) []byte {
	body := binary.AppendUvarint(nil, uint64(len(t)))
	last := sample.LSN(0)
	for i := range t {
		m := &t[i]
		body = binary.AppendUvarint(body, uint64(m.id-last))
		last = m.id
		body = appendIntervals(body, m.all)
		body = binary.AppendUvarint(body, uint64(len(m.series)))
		prev := uint32(0)
		for _, id := range slices.Sorted(maps.Keys(m.series)) {
			body = binary.AppendUvarint(body, uint64(id-prev))
			prev = id
			body = appendIntervals(body, m.series[id])
		}
	}
	dst = append(dst, tombstoneMagic...)
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...)
}

func appendIntervals(dst []byte, ivs []interval) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ivs)))
	for _, iv := range ivs {
		dst = binary.AppendVarint(dst, iv.mint)
		dst = binary.AppendVarint(dst, iv.maxt)
	}
	return dst
}

var errTombstones = errors.New("not a tombstone file, or a damaged one")

// parseTombstones decodes what appendTo made, and what version 1 did: one mask without id.
func parseTombstones(p []byte) (tombstones, error) {
	const header = len(tombstoneMagic) + 4
	if len(p) < header {
		return nil, errTombstones
	}
	magic, body := string(p[:len(tombstoneMagic)]), p[header:]
	if magic != tombstoneMagic && magic != tombstoneMagic1 ||
		crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(p[len(tombstoneMagic):]) {
		return nil, errTombstones
	}
	d := tombstoneReader{decbuf.Buf{B: body}}
	var t tombstones
	if magic == tombstoneMagic1 {
		t = tombstones{{series: d.series()}}
	} else {
		id := sample.LSN(0)
		for i := range d.Count(3) {
			step := d.Uvarint()
			if i > 0 && (step == 0 || id+sample.LSN(step) < id) {
				return nil, errTombstones
			}
			id += sample.LSN(step)
			t = append(t, mask{id: id, all: d.intervals(), series: d.series()})
		}
	}
	if d.Finish(); d.Failed() {
		return nil, errTombstones
	}
	return t, nil
}

type tombstoneReader struct{ decbuf.Buf }

func (d *tombstoneReader) series() map[uint32][]interval {
	n := d.Count(2)
	if n == 0 {
		return nil
	}
	out := make(map[uint32][]interval, n)
	id := uint64(0)
	for i := range n {
		step := d.Uvarint()
		if id += step; id > 1<<32-1 || step > id || i > 0 && step == 0 {
			d.Fail("no such series")
		}
		ivs := d.intervals()
		if d.Failed() {
			return nil
		}
		out[uint32(id)] = ivs
	}
	return out
}

func (d *tombstoneReader) intervals() []interval {
	var out []interval
	for range d.Count(2) {
		iv := interval{d.Varint(), d.Varint()}
		if n := len(out); iv.maxt < iv.mint || n > 0 && (iv.mint <= out[n-1].maxt || !apart(out[n-1], iv)) {
			d.Fail("intervals that are not in order")
			return nil
		}
		out = append(out, iv)
	}
	return out
}

// loadTombstones reads the tombstones beside a block, nil if it has none.
func loadTombstones(fsys fsx.FS, blockPath string) (tombstones, error) {
	p, err := fsx.ReadFile(fsys, tombstonePath(blockPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := parseTombstones(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it from a backup, or delete it to bring the deleted samples back",
			tombstonePath(blockPath), err)
	}
	return t, nil
}

// saveTombstones makes t what is beside a block: no file where it is empty.
func saveTombstones(fsys fsx.FS, blockPath string, t tombstones) error {
	name := tombstonePath(blockPath)
	if len(t) > 0 {
		return fsx.Publish(fsys, name, func(w io.Writer) error {
			_, err := w.Write(t.appendTo(nil))
			return err
		})
	}
	if err := fsys.Remove(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}
