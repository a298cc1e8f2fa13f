// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

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

// LabelsOf returns the labels of a series; ok is false where it has left.
func (h *Head) LabelsOf(ref sample.Ref) (ls labels.Labels, ok bool) {
	d := &h.dir
	var stack [128]uint32
	var b labels.ScratchBuilder
	d.mu.RLock()
	defer d.mu.RUnlock()
	id := ref.ID()
	if id >= d.entries.len() {
		return labels.EmptyLabels(), false
	}
	e := d.entries.at(id)
	if e.gen != ref.Generation() || e.labels == 0 {
		return labels.EmptyLabels(), false
	}
	pairs := d.pairsLocked(e, stack[:0])
	for i := 0; i+1 < len(pairs); i += 2 {
		b.Add(d.index.Symbol(pairs[i]), d.index.Symbol(pairs[i+1]))
	}
	return b.Labels(), true
}
