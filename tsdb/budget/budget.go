// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package budget counts bytes before they are allocated. An Account has a limit and may have a parent; a charge
// goes through to the root or not at all, so that the head, queries, caches and compaction together never hold
// more than the process was given.
//
// Whatever allocates in proportion to data reserves first and releases when the memory is gone. A refused
// reservation is an *ExceededError, never a panic and never an out-of-memory kill. A Task is work that both takes
// memory and may be told to end.
package budget

import (
	"fmt"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

// Account is a tally of bytes with a limit. All methods are safe for concurrent use; the methods of a nil
// *Account succeed and count nothing.
type Account struct {
	name   string
	parent *Account
	own    int64       // bytes of what is used that the parent has been charged for from the beginning
	exempt atomic.Bool // nothing is refused, neither to it nor to those below it
	limit  atomic.Int64
	used   atomic.Int64
	peak   atomic.Int64
}

// NewRoot returns the account at the top. limit is in bytes; 0 means none.
func NewRoot(name string, limit int64) *Account {
	a := &Account{name: name}
	a.limit.Store(limit)
	return a
}

// Child returns an account below a. What it uses, a uses too. limit is in bytes; 0 means that of a.
func (a *Account) Child(name string, limit int64) *Account {
	c := NewRoot(name, limit)
	c.parent = a
	return c
}

// Exempt returns a child of a whose reservations are counted in a and never refused. It is for a bounded amount of
// memory without which no memory can be given back.
func (a *Account) Exempt(name string) *Account {
	c := a.Child(name, 0)
	c.exempt.Store(true)
	return c
}

// SetExempt says whether reservations of a, and of accounts below it, are counted and never refused. It is for what
// must be had even when there is no room for it, such as the data that a server held before it was started anew.
func (a *Account) SetExempt(on bool) { a.exempt.Store(on) }

// Guarantee returns a child of a to which n bytes belong whether it uses them or not: a is charged for them now, and
// for what the child uses beyond them. So there is room for it however much its siblings take. The error is an
// *ExceededError. limit is in bytes; 0 means that of a.
func (a *Account) Guarantee(name string, n, limit int64) (*Account, error) {
	if err := a.Reserve(n); err != nil {
		return nil, err
	}
	c := a.Child(name, limit)
	c.own = n
	return c, nil
}

// Reserve takes n bytes, not negative, from a and from every account above it, or none and returns an
// *ExceededError. What is in use never passes a limit, not even for the moment of a refusal, so a large
// reservation that is refused takes no room from a small one beside it.
func (a *Account) Reserve(n int64) error {
	want, force := n, false
	for x := a; x != nil && want > 0; x = x.parent {
		force = force || x.exempt.Load()
		used, err := x.take(want, force)
		if err != nil {
			a.releaseBelow(x, n)
			return err
		}
		want = x.beyond(used) - x.beyond(used-want)
	}
	for x := a; x != nil; x = x.parent {
		x.notePeak(x.used.Load())
	}
	return nil
}

// take takes n bytes from a alone, whether there is room or not if need be, and returns what is in use then.
func (a *Account) take(n int64, force bool) (int64, error) {
	limit := a.limit.Load()
	if limit <= 0 || force {
		return a.used.Add(n), nil
	}
	for {
		used := a.used.Load()
		if n > limit-used {
			return 0, &ExceededError{Account: a.name, Limit: limit, Used: used, Want: n}
		}
		if a.used.CompareAndSwap(used, used+n) {
			return used + n, nil
		}
	}
}

// beyond returns how many of used bytes the parent is charged for.
func (a *Account) beyond(used int64) int64 { return max(used-a.own, 0) }

// Release gives back n bytes that Reserve took.
func (a *Account) Release(n int64) { a.releaseBelow(nil, n) }

// releaseBelow gives back n bytes from a up to, not including, end.
func (a *Account) releaseBelow(end *Account, n int64) {
	for x := a; x != end && n != 0; x = x.parent {
		used := x.used.Add(-n)
		if used < 0 && invariant.Enabled {
			invariant.Failf("budget of %s: %d bytes released that were not reserved", x.name, -used)
		}
		n = x.beyond(used+n) - x.beyond(used)
	}
}

// Used returns the bytes in use.
func (a *Account) Used() int64 {
	if a == nil {
		return 0
	}
	return a.used.Load()
}

// Peak returns the most bytes that were ever in use.
func (a *Account) Peak() int64 {
	if a == nil {
		return 0
	}
	return a.peak.Load()
}

// Limit returns the limit in bytes, 0 for none.
func (a *Account) Limit() int64 {
	if a == nil {
		return 0
	}
	return a.limit.Load()
}

// SetLimit changes the limit, in bytes; 0 means none. What is in use stays so, also where it is more than n.
func (a *Account) SetLimit(n int64) {
	if a != nil {
		a.limit.Store(n)
	}
}

// Lift takes the limits off a and the accounts above it until restore is called. It is for what must be had even
// when there is no room for it, such as the data that a server held before it was started anew.
func (a *Account) Lift() (restore func()) {
	var lifted []func()
	for x := a; x != nil; x = x.parent {
		if limit := x.limit.Swap(0); limit > 0 {
			lifted = append(lifted, func() { x.limit.CompareAndSwap(0, limit) }) // unless it was set meanwhile
		}
	}
	return func() {
		for _, f := range lifted {
			f()
		}
	}
}

func (a *Account) notePeak(used int64) {
	for {
		p := a.peak.Load()
		if used <= p || a.peak.CompareAndSwap(p, used) {
			return
		}
	}
}

// ExceededError says which account had no room.
type ExceededError struct {
	Account           string
	Limit, Used, Want int64 // bytes
}

// Error names the account and the figures.
func (e *ExceededError) Error() string {
	return fmt.Sprintf("memory budget of %s exceeded: %d bytes wanted, %d of %d in use", e.Account, e.Want, e.Used, e.Limit)
}
