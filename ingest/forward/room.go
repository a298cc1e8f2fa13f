// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
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
	// roomRest is how long it takes until memory is asked for again.
	roomRest = 500 * time.Millisecond
)

// room is the memory of an endpoint. Names are charged without being refused: nothing can be sent without them, and they
// are as many as the series that the store has. Rounds are as large as there is room for, and wait where there is none.
// Messages are made one after the other where there is none.
type room struct {
	account *budget.Account
	names   *budget.Account
	narrow  sync.Mutex // held while a message is made for which there was no room
}

func newRoom(a *budget.Account) *room { return &room{account: a, names: a.Exempt("names")} }

// begin reserves memory for the first records of a round; not ok where ctx is done before there is any.
func (r *room) begin(ctx context.Context, x *round, wait func(time.Duration)) bool {
	for ctx.Err() == nil {
		if r.grow(x) {
			return true
		}
		wait(roomRest)
	}
	return false
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

// release gives back the memory of so many bytes of records.
func (r *room) release(bytes int) { r.account.Release(int64(bytes) * rowMemory) }

// message reserves memory for a message of so many rows; done gives it back.
func (r *room) message(rows int) (done func()) {
	n := int64(rows) * messageRow
	if r.account.Reserve(n) == nil {
		return func() { r.account.Release(n) }
	}
	r.narrow.Lock()
	return r.narrow.Unlock
}

// settle gives back what a round did not need.
func (r *room) settle(x *round) {
	used := min(x.bytes, x.most)
	r.release(x.most - used)
	x.most = used
}
