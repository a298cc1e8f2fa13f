// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import "github.com/tidemarkdb/tidemark/tsdb/budget"

// Charged returns what the batch is charged with.
func (b *Batch) Charged() int64 { return b.charged + b.made.bytes }

// Detach empties the batch and gives back what was charged for it, but keeps its memory for Lend.
func (b *Batch) Detach() {
	b.Reset(0)
	b.Budget.Release(b.Charged())
	b.Budget, b.Brief = nil, false
}

// Lend charges a batch that was detached to an account. On an error it stays detached.
func (b *Batch) Lend(a *budget.Account) error {
	if err := a.Reserve(b.Charged()); err != nil {
		return err
	}
	b.Budget = a
	return nil
}
