// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package prom is where Prometheus' data directories and our store meet: it reads and writes them with
// Prometheus' own packages, which nothing else of the storage imports.
//
// The way out: Export writes any range of a column.Source as Prometheus blocks, one directory for each two hours,
// that Prometheus, promtool, Thanos and Mimir read as if Prometheus had written them. It streams: of a block, memory
// holds the labels of its series as columns, one batch of samples, and what Prometheus' index writer keeps. A block
// appears whole, under its final name, or not at all.
//
// The way in: a Directory is what a Prometheus left in a data path: blocks, the log and the chunks of its head. It
// is only read, in place. What the blocks do not hold yet is replayed once with Prometheus' own head and becomes
// blocks of the same format in a directory of ours, so that afterwards there is nothing but blocks: a Block gives
// their series by matchers and their samples as columns. The store queries them beside its own and turns them into
// its own in the background; package tsdb says how.
//
// A Directory is opened once. A Block is safe for concurrent use until its Close.
package prom
