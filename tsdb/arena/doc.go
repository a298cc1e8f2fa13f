// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package arena holds memory outside the Go heap, for what the head keeps by the million: open chunks, label
// sets, series headers. The collector neither scans it nor counts it towards the next collection, so a byte
// costs a byte and not the one and three quarters of a heap with its head room.
//
// An Arena gives out blocks of bytes, named by a Ref of 32 bits instead of a pointer of 64. Sizes are rounded
// up to a class; blocks of one class are cut from spans of 16 KiB, and a span whose blocks are all free goes
// back to be cut for any class, or, where many are idle, its pages to the operating system. Who can rename blocks
// empties spans that hold few: Sift names them, Move takes a block out of one. A Table gives out
// records of one pointer-free type by index; they never move.
//
//	region  1, 2, 4 ... 64 MiB of address space, mapped once, given back by Close
//	span    16 KiB of a region (a run of spans for blocks above that): one class
//	block   24 B to 1 MiB; the free ones of a span are a list, linked through their first bytes
//	Ref     offset of a block in units of 8 bytes, over all regions: 32 GiB in all; 0 names nothing
//
// Bytes are charged to the budget account before they can be touched, span by span and page by page, and given
// back when the operating system has them again. Mapping address space that is not touched costs nothing, so a
// small store stays small.
//
// An arena belongs to one owner, which locks: no method may run at the same time as Alloc, Free, Trim, Grow or
// Close. The bytes of a block live until it is freed; who lets readers hold them longer must put off the Free.
// Bytes of an arena must never become Go strings or be kept in heap objects that outlive it.
//
// Who knows what it will touch next asks for it with Prefetch: a line that comes from memory takes as long as some hundred
// instructions.
//
// With the build tags race or invariants the memory comes from the Go heap, where the race detector sees it;
// free blocks are filled with poison and checked when they are given out again, and a block that is read or
// freed after its Free is found at once.
package arena
