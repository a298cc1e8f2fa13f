// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// NoSeries as an id of Latest stands for a row of which nothing is known here.
const NoSeries = math.MaxUint32

// latestRun is how many series are looked at under one hold of the shards' locks: about 50 us.
const latestRun = 1024

// Latest sets entry i of dst for each series ids[i] whose newest float sample the pin sees in the head and is at or
// before at: late samples are older than it, and deleted ones are not told. It decodes nothing: the validation state
// in the header of a series is its newest sample. The other entries become unknown.
func (p *Pin) Latest(ids []uint32, at int64, dst *column.Latest) {
	for from := 0; from < len(ids); from += latestRun {
		to := min(from+latestRun, len(ids))
		p.latest(ids[from:to], at, &column.Latest{Known: dst.Known[from:to], T: dst.T[from:to], V: dst.V[from:to]})
	}
}

func (p *Pin) latest(ids []uint32, at int64, dst *column.Latest) {
	p.head.readLock()
	defer p.head.readUnlock()
	for i, id := range ids {
		dst.Known[i] = false
		if id == NoSeries {
			continue
		}
		s, local := p.head.shardOf(id), p.head.local(id)
		if local >= s.headers.len() {
			continue
		}
		if t, v, ok := s.latestLocked(local, s.headers.at(local), p.epoch); ok && t <= at {
			dst.Known[i], dst.T[i], dst.V[i] = true, t, math.Float64frombits(v)
		}
	}
}

// latestLocked returns the newest sample that a series had at an epoch, if it is a float, was not deleted, and is still
// in the open chunk, or was the last of one that a spill has closed. One that a drop of its slot has taken, or that a
// block holds since a restart, is in neither.
func (s *shard) latestLocked(local uint32, hd *header, epoch sample.LSN) (t int64, v uint64, ok bool) {
	if hd.gen == 0 {
		return 0, 0, false
	}
	if hd.changed <= epoch {
		held := hd.n > 0 || hd.flags&newestKept != 0
		return hd.lastT, hd.last, held && hd.kind == sample.Float && hd.changed > 0 && hd.flags&newestGone == 0
	}
	x := s.versionLocked(local, epoch)
	if x == nil || x.kind != sample.Float || x.flags&newestGone != 0 || x.chunks != s.footers.at(local).chunks || x.n == 0 && x.flags&newestKept == 0 {
		return 0, 0, false
	}
	return x.lastT, x.last, true
}
