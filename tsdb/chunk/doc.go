// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package chunk encodes the samples of one series, and decodes them into the columns of a column.Block.
//
// There are three shapes:
//
//   - A stream is what the head appends to, sample by sample: AppendFloat (the Gorilla XOR code, bit for bit
//     that of Prometheus' XOR chunk without its two count bytes), HistEncoder (native histograms) and AppendST
//     (start timestamps, beside either). The writer's state is a small value kept next to the stream. A stream
//     has no count of its own: the caller says how many samples it holds, and a stream of n samples may be
//     read with any smaller count, also after more was appended. So a reader that noted (bytes, n) at some
//     epoch copies the bytes as they are later and still sees exactly its own n samples. A FloatEnd is the writer's
//     state with the last bytes of a stream of floats, so that most appends need not touch the others.
//   - A page is the immutable form in block files: the rows of one series, cut into runs of one kind, each
//     behind its Codec id. EncodePage picks the codecs, DecodePage reads every codec there ever was.
//   - Histogram columns are how block files hold native histograms whose times are stored elsewhere: what they say of
//     their buckets once, then counts, sums and each bucket of all rows as a column of package encoding. A ColumnEncoder
//     holds scratch memory and belongs to one goroutine; what DecodeColumns needs stays with the block of columns that
//     is filled. A histogram of 80 buckets takes some 250 ns to read, four fifths of which are the columns'. A run says
//     whether it is steady: of its rows DecodeColumns reads no more than the block wants (Need.HistStats, Need.Ends).
//
// All samples of a stream or a page of runs ascend strictly in time; decoders check it. Every value comes back bit for
// bit: NaN payloads, stale markers, negative zero, counter reset hints.
//
// Decoders take hostile bytes: they answer a *CorruptError, never panic, never read beyond their input, and
// allocate in proportion to it, charged to the block's budget. Functions keep no state and may be called
// concurrently; a HistEncoder and a stream being appended to belong to one goroutine at a time.
//
// The bytes are drawn in docs/format-chunk.md.
package chunk
