// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

const (
	// roundBytes is how many bytes of records a round has at most, about, and roundLeast where there is little memory.
	roundBytes = 16 << 20
	roundLeast = 256 << 10
	// rowMemory is how many times as many bytes as in the queue a record takes in memory.
	rowMemory = 8
	// messageRow is about what a row takes while a message is made of it.
	messageRow = 512
	// seriesMemory is what a series takes beside its labels.
	seriesMemory = 200
	// roomRest is how long it takes until memory is asked for again, roomLong after how long an operator is told.
	roomRest = 500 * time.Millisecond
	roomLong = time.Minute
)

// room is the memory of an endpoint. Names are charged beside the limit and without being refused: nothing can be sent
// without them, and they are as many as the series that the store has. The first roundLeast of one round at a time are the
// endpoint's own, and never refused either: others can neither stop it nor make it wait. Beyond that, rounds are as large
// as there is room for, and wait where there is none. Messages are made one after the other where there is none.
type room struct {
	account *budget.Account
	names   *budget.Account
	own     *budget.Account
	owned   atomic.Bool   // a round has what is the endpoint's own
	freed   chan struct{} // a round has given memory back
	narrow  sync.Mutex    // held while a message is made for which there was no room
}

// newRoom returns the room of an endpoint within account; what it must have whether there is room or not is charged to
// beyond.
func newRoom(account, beyond *budget.Account) *room {
	return &room{account: account, names: beyond.Exempt("names"), own: beyond.Exempt("first round"), freed: make(chan struct{}, 1)}
}

// begin reserves memory for the first records of a round; not ok where ctx is done before there is any. It calls waits
// each time that there is none, with how long there has been none.
func (r *room) begin(ctx context.Context, x *round, waits func(time.Duration)) bool {
	rest := time.NewTicker(roomRest)
	defer rest.Stop()
	for begun := time.Now(); ctx.Err() == nil; {
		if r.first(x) || r.grow(x) {
			return true
		}
		waits(time.Since(begun))
		select {
		case <-ctx.Done():
		case <-r.freed:
		case <-rest.C:
		}
	}
	return false
}

// first gives a round what is the endpoint's own, and reports whether no other round has it.
func (r *room) first(x *round) bool {
	if !r.owned.CompareAndSwap(false, true) {
		return false
	}
	if r.own.Reserve(roundLeast*rowMemory) != nil { // it is never refused
		r.owned.Store(false)
		return false
	}
	x.own, x.most = roundLeast, roundLeast
	return true
}

// grow reserves memory for as many records again as a round has, and reports whether there was any.
func (r *room) grow(x *round) bool {
	for step := max(x.most, roundLeast); step >= roundLeast; step /= 2 {
		if x.most+step <= roundBytes && r.account.Reserve(int64(step)*rowMemory) == nil {
			x.most += step
			return true
		}
	}
	return false
}

// release gives back the memory of a round.
func (r *room) release(x *round) {
	r.account.Release(int64(x.most-x.own) * rowMemory)
	if x.own > 0 {
		r.own.Release(int64(x.own) * rowMemory)
		r.owned.Store(false)
	}
	x.most, x.own = 0, 0
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// message reserves memory for a message of so many rows; done gives it back.
func (r *room) message(rows int) (done func()) {
	n := int64(rows) * messageRow
	if r.account.Reserve(n) == nil {
		return func() { r.account.Release(n) }
	}
	r.narrow.Lock()
	return r.narrow.Unlock
}

// settle gives back what a round did not need, of what is not the endpoint's own.
func (r *room) settle(x *round) {
	used := max(min(x.bytes, x.most), x.own)
	r.account.Release(int64(x.most-used) * rowMemory)
	x.most = used
}
