// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// timesPart is set in the cache keys of a block's stripes of times.
const timesPart = 1 << 30

// Read reads one series; see Reader.Read.
func (b *Block) Read(ctx context.Context, id uint32, mint, maxt int64, withST bool, dst *column.Block) error {
	r := b.Reader()
	return r.Read(ctx, id, mint, maxt, withST, dst)
}

// SeriesTimes returns bounds for the samples of a series without reading them: those of its group, so that the
// series may have fewer. first is after last where it has none.
func (b *Block) SeriesTimes(id uint32) (first, last int64) {
	g := &b.directory.groups[b.directory.find(id)]
	if g.from == g.to {
		return math.MaxInt64, math.MinInt64
	}
	return b.directory.stripes[g.from].minT, b.directory.stripes[g.to-1].maxT
}

// stripe returns the i-th stripe, of a group of that many series, from the cache or the disk, and whether the cache
// keeps it. It is offered to the cache if keep is set.
func (b *Block) stripe(i, series uint32, keep bool) (s *loadedStripe, kept bool, err error) {
	key := cacheKey{block: b.number, part: i}
	if s, ok := b.cache.get(key).(*loadedStripe); ok {
		return s, true, nil
	}
	if s, err = b.loadStripe(i, series); err != nil {
		return nil, false, err
	}
	return s, keep && b.cache.put(key, s), nil
}

func (b *Block) loadStripe(i, series uint32) (*loadedStripe, error) {
	info := &b.directory.stripes[i]
	raw, err := b.readChecked(info.off, int64(info.size), info.crc)
	if err != nil {
		return nil, err
	}
	s, c := parseStripe(raw, series)
	if c.Failed() {
		return nil, c.fault(b, info.off, "stripe")
	}
	return s, nil
}

// timeStripe returns the i-th stripe of times as stripe does.
func (b *Block) timeStripe(i uint32, keep bool) (l *loadedTimes, kept bool, err error) {
	key := cacheKey{block: b.number, part: timesPart | i}
	if l, ok := b.cache.get(key).(*loadedTimes); ok {
		return l, true, nil
	}
	if l, err = b.loadTimes(i); err != nil {
		return nil, false, err
	}
	return l, keep && b.cache.put(key, l), nil
}

func (b *Block) loadTimes(i uint32) (*loadedTimes, error) {
	info := &b.directory.times[i]
	raw, err := b.readChecked(info.off, int64(info.size), info.crc)
	if err != nil {
		return nil, err
	}
	l, c := parseTimeStripe(raw, info.cols)
	if c.Failed() {
		return nil, c.fault(b, info.off, "stripe of times")
	}
	return l, nil
}
