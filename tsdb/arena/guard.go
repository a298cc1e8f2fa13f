// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import (
	"bytes"

	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

const (
	poison  = 0xdb // fills free blocks
	garbage = 0xcd // fills new blocks: their contents are undefined
	linkLen = 2    // bytes of a free block that link it to the next
)

// guard keeps book of the blocks in use and finds uses after a Free. It works, and costs, only where
// invariant.Enabled is set.
type guard struct{ live map[Ref]struct{} }

func (g *guard) alloc(ref Ref, b []byte, fresh bool) {
	if g.live == nil {
		g.live = make(map[Ref]struct{})
	}
	if _, ok := g.live[ref]; ok {
		invariant.Failf("arena: block %d given out twice", ref)
	}
	// All bytes are poison if the first is and each is as the next; so compared, it costs no loop of ours.
	if !fresh && (b[linkLen] != poison || !bytes.Equal(b[linkLen:len(b)-1], b[linkLen+1:])) {
		invariant.Failf("arena: block %d of %d bytes was written to after its free", ref, len(b))
	}
	g.live[ref] = struct{}{}
	fill(b, garbage)
}

func (g *guard) use(ref Ref) {
	if _, ok := g.live[ref]; !ok {
		invariant.Failf("arena: use of %d, which names no block in use", ref)
	}
}

func (g *guard) free(ref Ref, b []byte) {
	delete(g.live, ref)
	fill(b, poison)
}

func fill(b []byte, x byte) {
	b[0] = x
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}
