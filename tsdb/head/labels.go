// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import "github.com/tidemarkdb/tidemark/tsdb/index"

// labelRun is how many series are looked at under one hold of the directory's lock: about 50 us.
const labelRun = 1024

// EachPairs calls f with the symbols of the labels of each of ids: name, value, name, value, …, in label order. They
// are valid during the call, which may ask the index for texts and the head for nothing.
func (p *Pin) EachPairs(ids []uint32, f func(pairs []uint32)) {
	d := &p.head.dir
	var stack [128]uint32
	for len(ids) > 0 {
		run := ids[:min(labelRun, len(ids))]
		ids = ids[len(run):]
		d.mu.RLock()
		for _, id := range run {
			f(d.pairsLocked(d.entries.at(id), stack[:0]))
		}
		d.mu.RUnlock()
	}
}

// Hashes appends the hash of the labels of each of ids, with the head's seed, to dst.
func (p *Pin) Hashes(ids []uint32, dst []index.Hash128) []index.Hash128 {
	d := &p.head.dir
	for len(ids) > 0 {
		run := ids[:min(labelRun, len(ids))]
		ids = ids[len(run):]
		d.mu.RLock()
		for _, id := range run {
			dst = append(dst, d.entries.at(id).hash)
		}
		d.mu.RUnlock()
	}
	return dst
}
