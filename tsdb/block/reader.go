// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"fmt"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Reader reads the samples of series whose ids mostly ascend: it holds on to the stripe it read last, so that
// neighbours cost no look into the cache. It belongs to one goroutine.
type Reader struct {
	block  *Block
	number int           // of the stripe
	stripe *loadedStripe // nil before the first
}

// Reader returns a reader of the block.
func (b *Block) Reader() Reader { return Reader{block: b} }

// Read appends the rows of series id in [mint, maxt] to dst, ascending in time, with start timestamps where
// withST is set. It does not end the series in dst. On error dst has the rows it had before: a *CorruptError
// where the stripe of the series is damaged, a *budget.ExceededError where dst may not grow.
func (r *Reader) Read(ctx context.Context, id uint32, mint, maxt int64, withST bool, dst *column.Block) error {
	b := r.block
	if int(id) >= b.index.N() {
		return fmt.Errorf("read block %s: series %d of %d", b.name, id, b.index.N())
	}
	if r.stripe == nil || id < b.stripes[r.number].first || id-b.stripes[r.number].first >= b.stripes[r.number].series {
		i := findStripe(b.stripes, id)
		if s := &b.stripes[i]; s.minT > maxt || s.maxT < mint {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := b.stripe(i)
		if err != nil {
			return err
		}
		r.number, r.stripe = i, s
	}
	return b.readRows(r.stripe, r.number, id, rows{mint, maxt, withST, dst})
}
