// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import "fmt"

// CacheUse is what the result cache had of an answer and what it has of it now, in steps of the query.
type CacheUse struct {
	// Reused were taken from the cache, Computed were evaluated.
	Reused   int64 `json:"stepsReused"`
	Computed int64 `json:"stepsComputed"`
	// Outdated are those of the computed ones that the cache had, while samples of their input came late or were deleted.
	Outdated int64 `json:"stepsOutdated"`
	// Kept are in the cache now.
	Kept int64 `json:"stepsKept"`
	// NotKept is why the others are not, empty where all are.
	NotKept string `json:"notKept,omitempty"`
}

// String says it in a line.
func (u *CacheUse) String() string {
	s := fmt.Sprintf("%d steps reused, %d computed", u.Reused, u.Computed)
	if u.Outdated > 0 {
		s += fmt.Sprintf(" (%d of them outdated)", u.Outdated)
	}
	s += fmt.Sprintf(", %d kept", u.Kept)
	if u.NotKept != "" {
		s += ", others not: " + u.NotKept
	}
	return s
}
