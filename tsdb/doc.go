// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package tsdb is the storage: it takes batches of samples in, keeps them through kill -9 and power loss, and
// answers consistent views of them. This package is the facade; its folders hold the parts.
//
//	db, err := tsdb.Open(ctx, tsdb.Options{Dir: "data"}) // or Start, and Await before a view
//	err = db.Resolve(labelSets, refs)            // series get or created
//	lsn, err := db.Commit(ctx, &batch, &result)  // atomic and visible
//	err = db.Durable(ctx, lsn)                   // survives a crash from here on
//	view, err := db.View(mint, maxt)             // a pinned state; Series, Scan, Close
//	err = db.Close()
//
// # The parts
//
// One log (journal, wal) orders every change: an LSN is assigned and the work of each shard of the head enqueued
// under one short lock, the sequencer. The head holds what the blocks do not: it is cut into slots of two hours,
// and a slot that is over becomes an immutable block file. Blocks are merged into longer ones, one merge at a time
// (compact). A checkpoint is the head at one LSN in a file; with it, the log before that LSN is not needed any more
// and its segments are used again.
//
// # Lifetime and concurrency
//
// All methods are safe for concurrent use. Close waits for the background loops, writes a checkpoint and leaves
// a directory that opens fast; calls and views that are under way keep the head's memory until they end. A store that
// Start has returned takes samples while its head is restored. Lock
// order: merge, maintenance, sequencer, block list, shard. A merge takes the maintenance lock when its blocks are
// complete. Only the maintenance lock, which lets one flush, checkpoint,
// delete or snapshot run at a time, is held during a disk access.
//
// # Directory
//
// Everything lives under <Dir>/tidemark; <Dir>/lock is Prometheus' own lock file, so that the two never open one
// directory at the same time.
//
//	store.json      what is fixed for the life of the store: format version, shards, slot length
//	wal/            segments of the log, docs/format-wal.md
//	checkpoint/     <lsn>.ckpt, docs/format-checkpoint.md
//	blocks/         <ulid>.blk, docs/format-block.md
//	deletes         deletes that can be undone, docs/format-tombstones.md
//	merging/        blocks that are being made of others
//	prometheus/     what is known of another program's blocks, docs/format-prometheus.md
//	quarantine/     files that could not be read, kept for a look
//	state/          what other parts of the server keep: alert state, silences
package tsdb
