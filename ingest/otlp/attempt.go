// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"slices"

	"github.com/tidemarkdb/tidemark/ingest"
)

// attempt is one try to store a request. A stream remembers its last point only: of a request with several points of one
// stream all but the last would be too old when it is sent again. So a stream is saved before its second point, and put
// back where the request is not stored. A request with one point of each stream saves nothing.
type attempt struct {
	id    uint64 // 0: no point was added yet
	saved []savedStream
	bytes int64 // charged for saved
}

// savedStream is a stream as it was after the first point of an attempt.
type savedStream struct {
	key ingest.Key
	of  *stream
	measure
	t uint64
}

// savedBytes is what a saved stream takes without its buckets, twice while the list grows.
const savedBytes = 640

// noteLocked notes whose point was added last, and reports whether it was that attempt's before.
func (a *accumulators) noteLocked(s *stream, by *attempt) (again bool) {
	if by.id == 0 {
		a.mu.attempts++
		by.id = a.mu.attempts
	}
	if s.attempt == by.id {
		return true
	}
	s.attempt, s.saved = by.id, false
	return false
}

// saveLocked saves a stream if the attempt added its last point. It reports whether there is memory for that.
func (a *accumulators) saveLocked(key ingest.Key, s *stream, by *attempt) bool {
	if !a.noteLocked(s, by) || s.saved {
		return true
	}
	bytes := savedBytes + 8*s.counters()
	if a.account.Reserve(bytes) != nil {
		return false
	}
	s.saved = true
	by.bytes += bytes
	before := savedStream{key: key, of: s, t: s.t}
	before.set(&s.measure)
	by.saved = append(by.saved, before)
	return true
}

// end forgets an attempt; where its request was not stored, the streams are put back that nobody else has added to.
func (a *accumulators) end(by *attempt, stored bool) {
	if len(by.saved) > 0 && !stored {
		a.mu.Lock()
		for _, before := range slices.Backward(by.saved) {
			s := before.of
			if s.attempt != by.id || a.mu.streams[before.key] != s {
				continue
			}
			s.measure.set(&before.measure)
			s.t, s.attempt, s.saved = before.t, 0, false // what was saved earlier is from before others added to it
		}
		a.mu.Unlock()
	}
	a.account.Release(by.bytes)
	*by = attempt{}
}
