// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package forward is remote write out: it sends what the store has accepted to other servers.
//
// A Forwarder is told of every batch after its commit, in the order of the store's log. What was accepted, late rows too,
// goes into the Queue, a journal of its own, once for all receivers. The queue knows up to which record of the log it has
// been told; the store keeps what comes behind it, and tells of it again after a crash. So nothing that was acknowledged
// is missing, though no acknowledgement waits for the queue. An Endpoint is one entry of remote_write: it reads the queue from its Position on,
// relabels, sends, and moves the position when the receiver has everything up to there. So each row is sent at least once,
// over any number of restarts and outages, as long as the queue is not cut: it is bounded in bytes and in age.
//
// A Record of the queue has the rows of one batch. Series are named by the Refs of the store; their labels stand in the
// first record of an Epoch that uses them, so that an epoch is read without what was before it, and whole epochs can be
// cut off. A restart begins a new one.
//
// An endpoint works in rounds: it takes what is there, at most the capacity of its shards, splits it by series over them,
// sends the requests of the shards side by side, and waits for all. So the rows of a series stay in order, and the position
// is one number. How many shards there are is looked at every ten seconds, by Prometheus' rule: as many as it takes to send
// what comes and to catch up with what waits, within min_shards and max_shards.
//
// Cost: a row takes 11 to 16 bytes in the queue, its part of the names of the epoch at most a quarter of that on top. While
// nothing is to be forwarded a commit costs one atomic load. An endpoint holds the labels of the series that it has seen in
// the last two epochs, and two rounds of rows, at most 16 MiB of records each. Rows are charged to Options.Account; labels,
// and the first 256 KiB of one round at a time, to Options.Beyond. Where Account has no room rounds are small and come one
// by one, whatever other endpoints hold; the queue on disk waits.
//
// All methods are safe for concurrent use. ApplyConfig starts the goroutines of endpoints, Run ends them when it ends, and Close
// ends what is left and the queue; it must be called.
package forward
