// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"slices"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// partSet is the parts of the head whose files are there. The head owns them.
type partSet struct {
	mu   sync.Mutex
	list []*storedPart // guarded by mu
}

// add adds a part that nobody reads yet.
func (s *partSet) add(p *storedPart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range slices.Backward(s.list) {
		if x.Meta().Shard == p.Meta().Shard {
			p.Share(x.Part)
			break
		}
	}
	s.list = append(s.list, p)
}

// take removes the parts that goes says and returns them.
func (s *partSet) take(goes func(block.PartMeta) bool) (gone []*storedPart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(p *storedPart) bool {
		if goes(p.Meta()) {
			gone = append(gone, p)
			return true
		}
		return false
	})
	return gone
}

// has tells whether there is a part of a shard and a slot up to just this LSN, which is its name.
func (s *partSet) has(m block.PartMeta) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.list, func(p *storedPart) bool {
		x := p.Meta()
		return x.Shard == m.Shard && x.SlotStart == m.SlotStart && x.LSN == m.LSN
	})
}

// size returns how many there are and their bytes.
func (s *partSet) size() (n int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.list {
		bytes += p.Size()
	}
	return len(s.list), bytes
}

// newest returns the highest LSN of a part, 0 where there is none.
func (s *partSet) newest() (lsn sample.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.list {
		lsn = max(lsn, p.Meta().LSN)
	}
	return lsn
}

// all returns the parts there are.
func (s *partSet) all() []*storedPart {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}
