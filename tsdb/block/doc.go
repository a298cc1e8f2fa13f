// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package block writes and reads block files: the immutable form of the samples of one stretch of time.
//
// A block is one self-contained file <ulid>.blk: samples, label index, exemplars, metric descriptions and the
// facts about itself. Every byte is covered by a checksum. The nouns:
//
//	page     the encoded rows of one series (package chunk)
//	stripe   the pages of neighbouring series, about 64 KiB; what is read from disk and checked at a time
//	section  a part of the file behind the stripes: stripe directory, index, exemplars, metadata, meta
//	footer   the table of sections; the trailer behind it is the same in every version for ever
//
// Write publishes a file whole or not at all. Open reads and checks everything but the stripes and the
// exemplars, which are checked when they are read. A file whose frame is damaged fails to open with a
// *CorruptError, and the store puts it aside; a damaged stripe fails the reads of its own series only. A file
// of a newer format version fails with a *NewerVersionError: it is sound and must not be touched.
//
// A Block is safe for concurrent use. It counts its readers: Acquire and Release bracket a use, and Close and
// Delete take effect for the file when the last reader has gone. Stripes are read with pread through a Cache
// that all blocks of a store share; nothing is mapped into memory.
//
// The bytes are drawn in docs/format-block.md.
package block
