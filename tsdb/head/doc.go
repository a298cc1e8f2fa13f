// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package head is the mutable part of the store: every series that lives, and those of its samples that are not
// in a block yet.
//
// The nouns:
//
//	series   a label set with an id, the slot of the series table; a Ref is the id with its generation
//	shard    the series whose id has the same remainder; one lock, taken once per batch
//	chunk    up to 240 samples of one series, of one kind, within one slot; the open one is appended to
//	late     a sample older than the newest of its series; kept apart, in time order, until its slot is flushed
//	slot     two hours (Options.SlotMillis) of samples; a slot that is over becomes a block and is dropped
//	part     in-order samples of a shard and a slot that have left memory for a file; it goes with its slot
//	Work     one log record on its way through the shards
//	Pin      a state of the head that a reader holds still
//
// # Commit
//
// A batch is turned into a Work outside of all locks (Prepare), given its LSN and queued at each shard it
// concerns under the store's sequencer lock (Enqueue), and applied outside of it (Apply). Whoever holds a shard's
// lock applies all that is queued there, in LSN order. Apply returns when everything up to its LSN is applied,
// so the applied LSN has no holes. Whether a row is accepted depends on nothing but the works before it and the
// Limits that are logged with it: a replay of the log comes to the same head and the same answers.
//
// Nearly every append touches one cache line of its series: the header, which has what the row is judged by and the end of
// the open stream. The body of the stream is touched when the end is full, the footer when a chunk begins or ends, or when
// a pin wants to know what was before.
//
// # Isolation
//
// A Pin is made under the sequencer lock; its epoch is the last LSN given out. Streams only grow, so the state of
// a series at an epoch is the pair (chunks, samples of the open one). The first append to a series after a pin
// saves that pair in the shard's queue of versions; readers at the epoch look there. Late samples carry their LSN.
// What a flush, a delete or the end of a series takes away is only marked; the memory is reused when no older
// pin is left. Readers copy encoded bytes under the shard's read lock and decode outside: memory of the arena
// never leaves the package. Parts are read outside of all locks; a pin sees a part, or the chunks that were in its place.
//
// # Memory
//
// Series records, chunks, versions for pins and labels live in arenas, outside the Go heap and free of pointers. Who uses
// the head takes the samples of full shards away with Seal, Spills and Attach, so that what a series takes does not grow
// with the age of a slot: 190 bytes at rest, and some 80 for samples. Gather keeps what the arenas take near to what is in
// them, and the records of series that have left go back to the operating system by the page. On the Go heap are the rare
// things: late samples, native histograms being appended to, exemplars, metadata. All of it is charged to Options.Account.
//
// # Concurrency
//
// All methods are safe for concurrent use but where they say that the sequencer lock must be held, or that they
// belong to the time before the first Enqueue. Lock order: maintain, shard, directory, index; pins, the order of
// works and queues have locks of their own that are held for a few instructions and never while taking another.
//
// The checkpoint that Snapshot writes is described in docs/format-checkpoint.md.
package head
