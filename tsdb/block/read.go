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
