// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"iter"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// exemplarsPart is the cache key of a block's exemplars.
const exemplarsPart = 1<<32 - 1

// loadedExemplars is the exemplars of a block in memory, their checksum verified.
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
	if b.exemplars.size == 0 {
		return nil, ctx.Err()
	}
	key := cacheKey{block: b.number, part: exemplarsPart}
	l, ok := b.cache.get(key).(*loadedExemplars)
	if !ok {
		var err error
		if l, err = b.loadExemplars(); err != nil {
			return nil, err
		}
		b.cache.put(key, l)
	}
	i, ok := slices.BinarySearch(l.ids, id)
	if !ok {
		return nil, ctx.Err()
	}
	c := cursor{b: l.b, off: int(l.off[i])}
	var out []exemplar.Exemplar
	eachExemplar(&c, func(e exemplar.Exemplar) {
		if e.Ts >= mint && e.Ts <= maxt {
			out = append(out, e)
		}
	})
	return out, ctx.Err()
}

// loadExemplars reads the exemplars and checks all of them.
func (b *Block) loadExemplars() (*loadedExemplars, error) {
	raw, err := b.readChecked(b.exemplars.off, b.exemplars.size, b.exemplars.crc)
	if err != nil {
		return nil, err
	}
	l := &loadedExemplars{b: raw}
	c := cursor{b: raw}
	for next := uint64(0); c.left() > 0; {
		next += c.uvarint()
		if next >= uint64(b.index.N()) || len(l.ids) > 0 && uint32(next) <= l.ids[len(l.ids)-1] {
			c.fail("series out of order")
		}
		l.ids = append(l.ids, uint32(next))
		l.off = append(l.off, uint32(c.off))
		eachExemplar(&c, func(exemplar.Exemplar) {})
	}
	if c.msg != "" {
		return nil, b.corrupt(b.exemplars.off+int64(c.bad), "exemplars: "+c.msg)
	}
	return l, nil
}

// eachExemplar reads the exemplars of one series.
func eachExemplar(c *cursor, f func(exemplar.Exemplar)) {
	var lb labels.ScratchBuilder
	t := int64(0)
	for range c.count(11) {
		lb.Reset()
		for range c.count(2) {
			name := c.text()
			lb.Add(name, c.text())
		}
		e := exemplar.Exemplar{Labels: lb.Labels(), Value: c.float()}
		t += c.varint()
		e.Ts, e.HasTs = t, c.atMost(1, "flag") == 1
		if c.msg != "" {
			return
		}
		f(e)
	}
}

func (b *Block) verifyExemplars() (n uint64, err error) {
	l, err := b.loadExemplars()
	if err != nil {
		return 0, err
	}
	for _, off := range l.off {
		eachExemplar(&cursor{b: l.b, off: int(off)}, func(exemplar.Exemplar) { n++ })
	}
	return n, nil
}

// Metadata yields the descriptions of the metric families in name order, each family's newest first; of metric
// alone where it is not empty.
func (b *Block) Metadata(metric string) iter.Seq2[string, []metadata.Metadata] {
	return func(yield func(string, []metadata.Metadata) bool) {
		c := cursor{b: b.families}
		for c.left() > 0 {
			name := c.text()
			all := make([]metadata.Metadata, c.count(3))
			for i := range all {
				all[i] = metadata.Metadata{Type: model.MetricType(c.text()), Unit: c.text(), Help: c.text()}
			}
			if c.msg != "" {
				return
			}
			if (metric == "" || metric == name) && !yield(name, all) {
				return
			}
		}
	}
}
