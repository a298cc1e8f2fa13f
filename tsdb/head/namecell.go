// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"github.com/cespare/xxhash/v2"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// NameCell returns the cell of a metric name: one of 256, by its hash.
func NameCell(name string) uint8 { return uint8(xxhash.Sum64String(name)) }

// EachNameCell calls f with the cell of the metric name of each of refs; of those that name no series, it may be any.
func (h *Head) EachNameCell(refs []sample.Ref, f func(i int, cell uint8)) {
	d := &h.dir
	d.mu.RLock()
	defer d.mu.RUnlock()
	for i, ref := range refs {
		cell := uint8(0)
		if e := d.entryLocked(ref); e != nil {
			cell = e.cell
		}
		f(i, cell)
	}
}
