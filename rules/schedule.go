// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// schedule places the evaluations of a group: at every multiple of its interval, moved by an offset that
// depends on the group's name alone, so that groups spread over the interval and a restart keeps the times.
type schedule struct {
	offset, interval time.Duration
}

// slotOffset is the offset of the group, the same one that Prometheus gives it.
func (g *group) slotOffset() time.Duration {
	h := labels.FromStrings("file", g.file, "name", g.name).Hash()
	return time.Duration(h % uint64(g.interval))
}

// before returns the last slot that is not after now.
func (s schedule) before(now time.Time) time.Time {
	shifted := now.UnixNano() - int64(s.offset)
	return time.Unix(0, shifted-shifted%int64(s.interval)+int64(s.offset)).UTC()
}

// next returns the slot to evaluate after slot, and how many were missed by now. A slot that is late by less
// than an interval is not missed: it is evaluated at once.
func (s schedule) next(slot, now time.Time) (next time.Time, missed int64) {
	next = slot.Add(s.interval)
	if late := now.Sub(next); late >= s.interval {
		missed = int64(late / s.interval)
		next = next.Add(time.Duration(missed) * s.interval)
	}
	return next, missed
}
