// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// exemplarsPart is set in the cache keys of a block's exemplars.
const exemplarsPart = 1 << 31

// exemplarWriter collects exemplars in chunks. A chunk is like a stripe: it covers neighbouring series, also
// those without exemplars, and is what is read and checked at a time.
type exemplarWriter struct {
	data   []byte // of all chunks
	start  int    // of the chunk being filled
	last   uint32 // series with the last exemplars, or the first of the chunk
	info   span
	chunks []span
}

func (w *exemplarWriter) reset(first uint32) {
	w.start, w.last = len(w.data), first
	w.info = span{first: first, minT: math.MaxInt64, maxT: math.MinInt64}
}

// add writes the exemplars of one series: its distance from the series of those before, how many, and of each
// its labels, its value, its time, and whether the time was the exemplar's own.
func (w *exemplarWriter) add(id uint32, es []exemplar.Exemplar) {
	if len(es) == 0 {
		return
	}
	b := binary.AppendUvarint(w.data, uint64(id-w.last))
	w.last = id
	b = binary.AppendUvarint(b, uint64(len(es)))
	lastT := int64(0)
	for _, e := range es {
		b = binary.AppendUvarint(b, uint64(e.Labels.Len()))
		e.Labels.Range(func(l labels.Label) {
			b = appendText(appendText(b, l.Name), l.Value)
		})
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(e.Value))
		b = binary.AppendVarint(b, e.Ts-lastT)
		hasTime := byte(0)
		if e.HasTs {
			hasTime = 1
		}
		b = append(b, hasTime)
		lastT = e.Ts
		w.info.minT, w.info.maxT = min(w.info.minT, e.Ts), max(w.info.maxT, e.Ts)
	}
	w.data = b
	if len(w.data)-w.start >= stripeTarget {
		w.flush(id + 1)
	}
}

// flush ends the chunk before series next.
func (w *exemplarWriter) flush(next uint32) {
	b := w.data[w.start:]
	w.info.size, w.info.crc, w.info.series = uint32(len(b)), checksum(b), next-w.info.first
	w.chunks = append(w.chunks, w.info)
	w.reset(next)
}

// finish returns the directory of the chunks in a block of n series: empty where there are no exemplars.
func (w *exemplarWriter) finish(n uint32) []span {
	if len(w.data) > 0 && w.info.first < n {
		w.flush(n)
	}
	return w.chunks
}

// loadedExemplars is a chunk of exemplars in memory, its checksum verified.
type loadedExemplars struct {
	b   []byte
	ids []uint32 // series that have exemplars, ascending
	off []uint32 // where those of each series begin
}

func (l *loadedExemplars) bytes() int64 {
	return int64(cap(l.b)) + 4*int64(cap(l.ids)+cap(l.off)) + 64
}

// Exemplars returns the exemplars of a series in [mint, maxt], in time order.
func (b *Block) Exemplars(ctx context.Context, id uint32, mint, maxt int64) ([]exemplar.Exemplar, error) {
	if int(id) >= b.index.N() {
		return nil, fmt.Errorf("read block %s: exemplars of series %d of %d", b.name, id, b.index.N())
	}
	if err := ctx.Err(); err != nil || len(b.exemplars) == 0 {
		return nil, err
	}
	k := findSpan(b.exemplars, id)
	if s := &b.exemplars[k]; s.minT > maxt || s.maxT < mint {
		return nil, nil
	}
	key := cacheKey{block: b.number, part: exemplarsPart | uint32(k)}
	l, ok := b.cache.get(key).(*loadedExemplars)
	if !ok {
		var err error
		if l, err = b.loadExemplars(k); err != nil {
			return nil, err
		}
		b.cache.put(key, l)
	}
	i, ok := slices.BinarySearch(l.ids, id)
	if !ok {
		return nil, nil
	}
	c := newCursor(l.b, int(l.off[i]))
	var out []exemplar.Exemplar
	eachExemplar(c, func(e exemplar.Exemplar) {
		if e.Ts >= mint && e.Ts <= maxt {
			out = append(out, e)
		}
	})
	return out, nil
}

// loadExemplars reads a chunk of exemplars and checks all of them.
func (b *Block) loadExemplars(k int) (*loadedExemplars, error) {
	info := &b.exemplars[k]
	raw, err := b.readChecked(info.off, int64(info.size), info.crc)
	if err != nil {
		return nil, err
	}
	l := &loadedExemplars{b: raw}
	c := newCursor(raw, 0)
	for next := uint64(info.first); c.Left() > 0; {
		next += c.Uvarint()
		if next >= uint64(info.first+info.series) || len(l.ids) > 0 && uint32(next) <= l.ids[len(l.ids)-1] {
			c.Fail("series out of order")
		}
		l.ids = append(l.ids, uint32(next))
		l.off = append(l.off, uint32(c.Off))
		eachExemplar(c, func(e exemplar.Exemplar) {
			if e.Ts < info.minT || e.Ts > info.maxT {
				c.Fail("time beyond those of the directory")
			}
		})
	}
	if c.Failed() {
		return nil, c.fault(b, info.off, "exemplars")
	}
	return l, nil
}

// eachExemplar reads the exemplars of one series.
func eachExemplar(c *cursor, f func(exemplar.Exemplar)) {
	var lb labels.ScratchBuilder
	t := int64(0)
	for range c.Count(11) {
		lb.Reset()
		for range c.Count(2) {
			name := c.Text()
			lb.Add(name, c.Text())
		}
		e := exemplar.Exemplar{Labels: lb.Labels(), Value: c.Float()}
		t += c.Varint()
		e.Ts, e.HasTs = t, c.atMost(1, "flag") == 1
		if c.Failed() {
			return
		}
		f(e)
	}
}

// verifyExemplars counts the exemplars and returns what it finds wrong.
func (b *Block) verifyExemplars() (n uint64, err error) {
	var errs []error
	for k := range b.exemplars {
		l, err := b.loadExemplars(k)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, off := range l.off {
			eachExemplar(newCursor(l.b, int(off)), func(exemplar.Exemplar) { n++ })
		}
	}
	return n, errors.Join(errs...)
}

// Metadata yields the descriptions of the metric families in name order, each family's newest first; of metric
// alone where it is not empty.
func (b *Block) Metadata(metric string) iter.Seq2[string, []metadata.Metadata] {
	return func(yield func(string, []metadata.Metadata) bool) {
		c := newCursor(b.families, 0)
		for c.Left() > 0 {
			name := c.Text()
			all := make([]metadata.Metadata, c.Count(3))
			for i := range all {
				all[i] = metadata.Metadata{Type: model.MetricType(c.Text()), Unit: c.Text(), Help: c.Text()}
			}
			if c.Failed() {
				return
			}
			if (metric == "" || metric == name) && !yield(name, all) {
				return
			}
		}
	}
}
