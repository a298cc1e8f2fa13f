// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"context"
)

// Task is one piece of work of unknown length, such as listing series: it takes its memory from an account, and looks
// now and then whether it is still wanted. The first refusal, or the end of the context, ends it: from then on Go,
// Poll and Reserve say no, so that loops need only stop, and who asked for the work looks at Err. What a task has
// taken it counts, and Settle gives back. It is for one goroutine.
type Task struct {
	ctx     context.Context
	account *Account
	left    int   // items until the context is looked at
	taken   int64 // bytes in use
	spare   int64 // bytes reserved beyond them, so that many small steps cost few reservations
	err     error
}

const (
	// taskItems is how many items are looked at between two looks at the context: a millisecond or two where each
	// is a miss of the caches.
	taskItems = 1 << 13
	// taskSpare is the most that a task reserves ahead, which is a part of what it has anyway.
	taskSpare     = 64 << 10
	taskSpareOf   = 8
	untilCompares = 1 << 12
)

// NewTask returns a task that ends with ctx and whose memory is charged to account, nil for none.
func NewTask(ctx context.Context, account *Account) *Task {
	return &Task{ctx: ctx, account: account, left: 1}
}

// Go counts n items that are looked at next, each of which takes some nanoseconds, and reports whether to go on.
func (t *Task) Go(n int) bool {
	if t.left -= n; t.left > 0 {
		return t.err == nil
	}
	t.left = taskItems
	return t.Poll()
}

// Poll looks at the context, and reports whether to go on. It is for items that may take long.
func (t *Task) Poll() bool {
	if t.err == nil {
		t.err = t.ctx.Err()
	}
	return t.err == nil
}

// Err returns why the task ended, nil where it goes on. A refusal is an *ExceededError.
func (t *Task) Err() error { return t.err }

// Done is closed when the context ends.
func (t *Task) Done() <-chan struct{} { return t.ctx.Done() }

// Context is that of the task, for calls that take one.
func (t *Task) Context() context.Context { return t.ctx }

// Run returns the end of the part of 0 to n-1 that begins at from and is worked on before the next look at the context:
// from itself where there is none, or where the task ended.
//
//	for from, to := 0, t.Run(0, n); from < to; from, to = to, t.Run(to, n) {
func (t *Task) Run(from, n int) (to int) {
	to = min(from+taskItems, n)
	if to > from && !t.Go(to-from) {
		return from
	}
	return to
}

// Reserve takes n bytes for what is allocated next, and reports whether it may be.
func (t *Task) Reserve(n int64) bool {
	if t.err != nil {
		return false
	}
	if n > t.spare {
		ahead := min(taskSpare, t.taken/taskSpareOf)
		if t.account.Reserve(n-t.spare+ahead) != nil {
			ahead = 0
			if t.err = t.account.Reserve(n - t.spare); t.err != nil {
				return false
			}
		}
		t.spare = n + ahead
	}
	t.spare -= n
	t.taken += n
	return true
}

// Release gives back n of the bytes taken.
func (t *Task) Release(n int64) {
	t.taken -= n
	t.account.Release(n)
}

// Taken returns the bytes taken.
func (t *Task) Taken() int64 { return t.taken }

// Settle makes n the bytes taken, where there were more, and gives back the others with all that was reserved ahead.
// It may be called after the end: Settle(0) gives back everything.
func (t *Task) Settle(n int64) {
	n = min(n, t.taken)
	t.account.Release(t.taken - n + t.spare)
	t.taken, t.spare = n, 0
}

// Until makes a comparison for sorting much: it is cmp while the task goes on, and afterwards all is equal to it, so
// that the sort ends soon.
func Until[T any](t *Task, cmp func(a, b T) int) func(a, b T) int {
	left := untilCompares
	return func(a, b T) int {
		if left--; left == 0 {
			left = untilCompares
			t.Poll()
		}
		if t.err != nil {
			return 0
		}
		return cmp(a, b)
	}
}
