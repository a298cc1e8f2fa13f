// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

// IndexBytes returns the size of the index in the file.
func (b *Block) IndexBytes() int64 {
	foot, err := b.loadFooter()
	if err != nil {
		return 0
	}
	s, _ := foot.find(sectionIndex)
	return s.size
}
