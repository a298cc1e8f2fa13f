// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package block writes and reads block files: the immutable form of the samples of one stretch of time.
//
// A block is one self-contained file <ulid>.blk: samples, label index, exemplars, metric descriptions and the
// facts about itself. Every byte is covered by a checksum. The nouns:
//
//	cell     a part of time that no page crosses: a slot of the store, or a half, quarter, … of it where series
//	         have more than 2,048 rows in a slot
//	page     the rows of one series in one cell
//	group    neighbouring series, at most 1,024
//	stripe   the pages of a group in one cell, about 64 KiB: what is read from disk and checked at a time
//	section  a part of the file behind the stripes: stripe directory, index, exemplars, metadata, meta
//	footer   the table of sections; the trailer behind it is the same in every version for ever
//
// Write publishes a file whole or not at all. Open reads and checks everything but the stripes and the
// exemplars, which are checked when they are read. A file whose frame is damaged fails to open with a
// *CorruptError, and the store puts it aside; a damaged stripe fails the reads of its own series and its own cell
// only. A file of a newer format version fails with a *NewerVersionError: it is sound and must not be touched.
//
// # Times
//
// The series of one scrape have the same times. So a column of times is stored once per cell, found again by its
// hash, and a page names it by its number within the cell. The columns of a cell are in stripes of their own. A series
// that comes or goes within a cell, or misses scrapes, has some of the times of its neighbours, and is stored as rows of
// their column. Both sides of this cost memory. The writer bounds its dictionary: columns that no second page had are forgotten first,
// and what is forgotten is stored again under a new number, which is no mistake. The reader keeps a column parsed in
// the stripe that the cache holds, so that the next series of the same target pays for a copy, or, where scrapes are
// regular, for filling in a line.
//
// # References
//
// Neighbours in label order are often the buckets of one histogram, whose columns of values differ little or not at
// all. A page of floats may be written as the difference from an earlier one of its stripe with the same times. The
// writer looks at sixteen, prices each by a few rows, and offers the encoder the best. A page that is the fourth of a
// chain is not referred to, so that no read decodes more than five pages for one. A Reader keeps the columns that
// later pages of the stripe refer to: reading a family in order decodes each of its pages once.
//
// # Copies
//
// Who writes a block out of blocks may give a series as Pages of theirs instead of rows. They are copied where each has a
// cell of its own and what it is expressed by is in the same stripe again, be it copied or encoded anew; else the
// series is decoded. A Reader gives no pages of a block of level 0, whose columns may not be of the smallest forms.
//
// # Cost
//
// A read of n series in k cells finds its stripes by two binary searches, loads n/300 · k stripes of 64 KiB, and then
// costs what its codecs cost. Reader and cache hold k stripes of one group at a time. The writer holds the encoded
// pages of one group, the last sixteen columns of each of its stripes, 16 MiB of stripes of times, the index in
// the making and the exemplars; all of it is charged.
//
// # Lifetime and concurrency
//
// A Block is safe for concurrent use. It counts its readers: Acquire and Release bracket a use, and Close and
// Delete take effect for the file when the last reader has gone. Stripes are read with pread through a Cache
// that all blocks of a store share; nothing is mapped into memory. A Reader belongs to one goroutine.
//
// Files of version 1, whose pages held their times themselves and had no cells, are read and not written.
//
// The bytes are drawn in docs/format-block.md.
package block
