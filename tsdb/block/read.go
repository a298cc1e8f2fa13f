// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Read reads one series; see Reader.Read.
func (b *Block) Read(ctx context.Context, id uint32, mint, maxt int64, withST bool, dst *column.Block) error {
	r := b.Reader()
	return r.Read(ctx, id, mint, maxt, withST, dst)
}

// rows is what is wanted of a series, and where to put it.
type rows struct {
	mint, maxt int64
	withST     bool
	dst        *column.Block
}

func (b *Block) readRows(s *loadedStripe, i int, id uint32, r rows) error {
	have := len(r.dst.T)
	at, err := s.read(id-b.stripes[i].first, r.mint, r.maxt, r.withST, r.dst)
	if err == nil {
		return nil
	}
	r.dst.Truncate(have)
	if bad, ok := errors.AsType[*chunk.CorruptError](err); ok {
		return b.corrupt(b.stripes[i].off+int64(at+bad.Off), fmt.Sprintf("series %d: %s", id, bad.Msg))
	}
	return fmt.Errorf("read block %s: %w", b.name, err)
}

// SeriesTimes returns bounds for the samples of a series without reading them: those of its stripe, so that the
// series may have fewer. first is after last where it has none.
func (b *Block) SeriesTimes(id uint32) (first, last int64) {
	s := &b.stripes[findStripe(b.stripes, id)]
	return s.minT, s.maxT
}

// stripe returns the i-th stripe from the cache or the disk.
func (b *Block) stripe(i int) (*loadedStripe, error) {
	key := cacheKey{block: b.number, part: uint32(i)}
	if s, ok := b.cache.get(key).(*loadedStripe); ok {
		return s, nil
	}
	s, err := b.loadStripe(i)
	if err != nil {
		return nil, err
	}
	b.cache.put(key, s)
	return s, nil
}

func (b *Block) loadStripe(i int) (*loadedStripe, error) {
	info := &b.stripes[i]
	raw, err := b.readChecked(info.off, int64(info.size), info.crc)
	if err != nil {
		return nil, err
	}
	s, c := parseStripe(raw, info.series)
	if c.msg != "" {
		return nil, b.corrupt(info.off+int64(c.bad), "stripe: "+c.msg)
	}
	return s, nil
}

// Verify reads the whole file and checks that it holds what its meta says. It returns what it finds wrong, all
// of it joined, or the error of ctx.
func (b *Block) Verify(ctx context.Context) error {
	errs := []error{b.damage}
	var dst column.Block
	var floats, histograms uint64
	first, last := b.meta.MaxT, b.meta.MinT
	for i := range b.stripes {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := b.loadStripe(i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for id := b.stripes[i].first; id < b.stripes[i].first+b.stripes[i].series; id++ {
			dst.Reset()
			if err := b.readRows(s, i, id, rows{minTime, maxTime, true, &dst}); err != nil {
				errs = append(errs, err)
				continue
			}
			h := histogramRows(&dst)
			histograms += h
			floats += uint64(len(dst.T)) - h
			n := len(dst.T)
			if n == 0 {
				continue
			}
			if s := &b.stripes[i]; dst.T[0] < s.minT || dst.T[n-1] > s.maxT {
				errs = append(errs, b.corrupt(s.off, fmt.Sprintf("series %d has times beyond those of the directory", id)))
			}
			first, last = min(first, dst.T[0]), max(last, dst.T[n-1])
		}
	}
	exemplars, err := b.verifyExemplars()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m := b.meta
	if floats != m.Floats || histograms != m.Histograms || exemplars != m.Exemplars ||
		floats+histograms > 0 && (first != m.MinT || last != m.MaxT) {
		return b.corrupt(0, fmt.Sprintf("the block holds %d floats, %d histograms, %d exemplars in [%d, %d]; its meta says %d, %d, %d in [%d, %d]",
			floats, histograms, exemplars, first, last, m.Floats, m.Histograms, m.Exemplars, m.MinT, m.MaxT))
	}
	return nil
}

const (
	minTime = -1 << 63
	maxTime = 1<<63 - 1
)

func histogramRows(b *column.Block) (n uint64) {
	for _, k := range b.Kind {
		if k != 0 {
			n++
		}
	}
	return n
}
