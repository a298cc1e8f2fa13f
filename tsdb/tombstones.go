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
	"slices"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// interval is a closed range of times, Unix ms.
type interval struct{ mint, maxt int64 }

// tombstones are the deleted times of one block: per series id, disjoint intervals in time order. They are
// immutable; a delete makes new ones.
type tombstones map[uint32][]interval

// tombstoneSuffix is that of the file beside a block; docs/format-tombstones.md.
const tombstoneSuffix = ".del"

const tombstoneMagic = "TMDL\x01"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func tombstonePath(blockPath string) string {
	return strings.TrimSuffix(blockPath, block.Suffix) + tombstoneSuffix
}

// with returns t plus iv for each of ids.
func (t tombstones) with(ids []uint32, iv interval) tombstones {
	out := make(tombstones, len(t)+len(ids))
	maps.Copy(out, t)
	for _, id := range ids {
		out[id] = addInterval(out[id], iv)
	}
	return out
}

// addInterval returns ivs with x, joined with those it touches.
func addInterval(ivs []interval, x interval) []interval {
	out := make([]interval, 0, len(ivs)+1)
	for _, iv := range ivs {
		if apart(iv, x) {
			out = append(out, iv)
			continue
		}
		x = interval{min(iv.mint, x.mint), max(iv.maxt, x.maxt)}
	}
	out = append(out, x)
	slices.SortFunc(out, func(a, b interval) int { return cmp.Compare(a.mint, b.mint) })
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

// drop removes the rows of b from from on that are deleted.
func (t tombstones) drop(id uint32, b *column.Block, from int) {
	ivs := t[id]
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

// appendTo encodes t: magic, crc32c of the rest, then series by id.
func (t tombstones) appendTo(dst []byte) []byte {
	ids := make([]uint32, 0, len(t))
	for id := range t {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	body := binary.AppendUvarint(nil, uint64(len(ids)))
	prev := uint32(0)
	for _, id := range ids {
		body = binary.AppendUvarint(body, uint64(id-prev))
		prev = id
		body = binary.AppendUvarint(body, uint64(len(t[id])))
		for _, iv := range t[id] {
			body = binary.AppendVarint(body, iv.mint)
			body = binary.AppendVarint(body, iv.maxt)
		}
	}
	dst = append(dst, tombstoneMagic...)
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...)
}

var errTombstones = errors.New("not a tombstone file, or a damaged one")

// parseTombstones decodes what appendTo made.
func parseTombstones(p []byte) (tombstones, error) {
	const header = len(tombstoneMagic) + 4
	if len(p) < header || string(p[:len(tombstoneMagic)]) != tombstoneMagic {
		return nil, errTombstones
	}
	body := p[header:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(p[len(tombstoneMagic):]) {
		return nil, errTombstones
	}
	d := decbuf.Buf{B: body}
	n := d.Count(2)
	t := make(tombstones, n)
	id := uint64(0)
	for range n {
		id += d.Uvarint()
		count := d.Count(2)
		if d.Failed() || id > 1<<32-1 {
			return nil, errTombstones
		}
		for range count {
			iv := interval{d.Varint(), d.Varint()}
			if iv.maxt < iv.mint {
				return nil, errTombstones
			}
			t[uint32(id)] = addInterval(t[uint32(id)], iv)
		}
	}
	if d.Finish(); d.Failed() {
		return nil, errTombstones
	}
	return t, nil
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

func saveTombstones(fsys fsx.FS, blockPath string, t tombstones) error {
	return fsx.Publish(fsys, tombstonePath(blockPath), func(w io.Writer) error {
		_, err := w.Write(t.appendTo(nil))
		return err
	})
}
