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

// PageKinds counts the pages of each kind.
func (b *Block) PageKinds() (map[uint8]int, error) {
	kinds := map[uint8]int{}
	for _, g := range b.directory.groups {
		for i := g.from; i < g.to; i++ {
			s, err := b.loadStripe(i, g.series)
			if err != nil {
				return nil, err
			}
			for k := range s.pages {
				kinds[s.pages[k].kind]++
			}
		}
	}
	return kinds, nil
}
