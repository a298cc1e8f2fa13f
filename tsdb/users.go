// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// users counts the calls and views that read the head, so that its memory, which is not the Go heap's, goes only
// after the last of them. Close refuses new ones and does not wait for those there are: a view may stay open long.
type users struct {
	mu     sync.Mutex
	n      int          // guarded by mu
	closed bool         // guarded by mu; no more are let in
	last   func() error // guarded by mu; called when none is left; nil before the store is released
}

// enter lets one more in, whose leave must follow; on a closed store it says so.
func (u *users) enter() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return &sample.UnavailableError{Condition: "closed"}
	}
	u.n++
	return nil
}

// leave ends what enter began.
func (u *users) leave() {
	u.mu.Lock()
	u.n--
	last := u.last
	if u.n > 0 {
		last = nil
	}
	u.mu.Unlock()
	if last != nil {
		_ = last() // memory that could not be given back; the process is about to end
	}
}

// close lets nobody in any more; it reports whether that is news.
func (u *users) close() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.closed
	u.closed = true
	return !was
}

// after has f called when nobody is left: at once, with its error, or by the last to leave. Nobody is let in.
func (u *users) after(f func() error) error {
	u.mu.Lock()
	u.closed = true
	if u.n > 0 {
		u.last = f
		u.mu.Unlock()
		return nil
	}
	u.mu.Unlock()
	return f()
}
