// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"sync"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Buffers keeps the memory of blocks and batches from one query to the next: fresh memory costs as much to touch for
// the first time as it does to decode into. What lies here is charged to nobody and goes when the garbage collector
// runs; a query is charged for what it has taken. The zero value is ready; a nil *Buffers keeps nothing.
//
// Safe for concurrent use.
type Buffers struct{ blocks, batches sync.Pool }

// Larger ones are not kept: a small query would be charged for them.
const (
	keptBlock = 2 << 20
	keptBatch = 512 << 10
)

// TakeBlock returns an empty block charged to e's account.
func (e *Env) TakeBlock() *column.Block {
	if e.Buffers != nil {
		if b, ok := e.Buffers.blocks.Get().(*column.Block); ok && b.Lend(e.Account) == nil {
			return b
		}
	}
	return &column.Block{Budget: e.Account}
}

// GiveBlock takes back a block that is not used any more.
func (e *Env) GiveBlock(b *column.Block) {
	if e.Buffers == nil || b.Charged() > keptBlock {
		b.Free()
		return
	}
	b.Detach()
	e.Buffers.blocks.Put(b)
}

// TakeBatch returns an empty batch charged to e's account.
func (e *Env) TakeBatch() *vector.Batch {
	if e.Buffers != nil {
		if b, ok := e.Buffers.batches.Get().(*vector.Batch); ok && b.Lend(e.Account) == nil {
			return b
		}
	}
	return &vector.Batch{Budget: e.Account}
}

// GiveBatch takes back a batch that is not used any more.
func (e *Env) GiveBatch(b *vector.Batch) {
	if e.Buffers == nil || b.Charged() > keptBatch {
		b.Free()
		return
	}
	b.Detach()
	e.Buffers.batches.Put(b)
}
