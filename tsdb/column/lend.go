// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column

import "github.com/tidemarkdb/tidemark/tsdb/budget"

// Charged returns what the memory of the block is charged with.
func (b *Block) Charged() int64 { return b.columns + b.owned }

// Detach empties the block and gives back what was charged for it, but keeps its memory for Lend.
func (b *Block) Detach() {
	b.Reset()
	b.Budget.Release(b.columns)
	b.Budget = nil
}

// Lend charges a block that was detached to an account. On an error it stays detached.
func (b *Block) Lend(a *budget.Account) error {
	if err := a.Reserve(b.columns); err != nil {
		return err
	}
	b.Budget = a
	return nil
}
