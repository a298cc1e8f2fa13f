// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// members knows when the series that Select can find have become others, so that its answers can be kept. A change is
// a series that comes by its first sample in the head, or one that leaves. Both are noted under the lock of the
// shard, before anybody can see what they did.
//
// Why an answer kept is right: where all changes up to a count have LSNs up to the epoch of a pin, and those up to its
// epoch are applied, the pin sees exactly these. Another pin with that count, an epoch not below, and the same number
// of drops sees the same series.
type members struct {
	mu      sync.Mutex
	changes uint64                // guarded by mu; how many there were
	since   sample.LSN            // guarded by mu; the highest LSN of one
	recent  [recentMembers]uint32 // guarded by mu; a ring by number: who came, NoSeries for one that left
}

// recentMembers is how many changes are remembered one by one: about a scrape of a new target or two.
const recentMembers = 1024

func (m *members) note(id uint32, lsn sample.LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent[m.changes%recentMembers] = id
	m.changes++
	m.since = max(m.since, lsn)
}

// Members names the series that the pins with it find. Equal ones, equal series.
type Members struct {
	Changes uint64 // series that came and left so far
	Drops   uint32 // slots that were dropped so far
}

// Members returns what the series that the pin finds are named by; the pin's epoch must be applied. ok is false where
// some came or left after its epoch already.
func (p *Pin) Members() (x Members, ok bool) {
	m := &p.head.members
	m.mu.Lock()
	defer m.mu.Unlock()
	return Members{Changes: m.changes, Drops: p.slots}, m.since <= p.epoch
}

// Joined appends to dst the series that came after was, up to x. ok is false where some left, or where too many
// changes lie between to tell.
func (p *Pin) Joined(was, x Members, dst []uint32) (ids []uint32, ok bool) {
	if was.Drops != x.Drops || was.Changes > x.Changes {
		return dst, false
	}
	m := &p.head.members
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes-was.Changes > recentMembers {
		return dst, false
	}
	for i := was.Changes; i < x.Changes; i++ {
		id := m.recent[i%recentMembers]
		if id == NoSeries {
			return dst, false
		}
		dst = append(dst, id)
	}
	return dst, true
}
