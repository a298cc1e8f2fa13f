// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package encoding turns columns of numbers into bytes and back, bit for bit: values (any float64), integers
// (any int64) and times (strictly ascending milliseconds). It knows nothing of series, blocks or files.
//
// A column names its codec in its first byte; the meaning of a number never changes. A column does not hold its
// own length in bytes, and columns of values and integers not their number of rows: the caller stores both.
// The bytes are drawn in docs/format-encoding.md.
//
// Values become integers first: decimals of one scale, multiples of one power of two, products with a power of ten, decimals
// and what the doubles are beside them, or the bits of the doubles in the order of their values; what does not fit, stale
// markers above all, stands apart if it is little. A column that
// equals one of those the caller offers is a reference to it, one that runs along with it the difference. Of the integers,
// differences are taken up to twice, a common divisor is removed, and what remains, the residual, is written in the
// form that takes the fewest bits, of which all are counted before one is written.
//
// Why these, and not others, on the shapes of hosts in shapes_test.go and on 55 minutes of real exporters:
//
//   - Segments, each with a base and a range of its own, are what counters want: their rate changes within a page. One range
//     for all takes 1.13 bytes per sample of a host at 240 samples per series, one Huffman code 0.92, segments 0.86; the
//     entropy is about 0.80. Digits in base of the range, eight to a number, save the half bit that whole bits waste on average.
//   - A Huffman code of octaves is what bursts want; without it the recording takes 4 % more. Finer classes, codes by the class
//     before, and adaptive ones gain 1.5 % at most, for larger tables or slower readers.
//   - Doubles with all their digits: ordered bits take 5.7 bytes where XOR takes 6.3, as their differences are uniform in a range.
//     A dictionary of their high bits (ALP-RD) could gain nothing on that.
//   - Nearly decimals: exporters multiply by 0.001 and add up hundredths, so that 12.24999999999989 stands for 12.25. Such columns
//     have 3 % of the samples of the recording; by their bits they take a quarter of its bytes, so a tenth of fewer.
//   - Columns of refs: 6 % of the recording.
//
// Cost, on one core of 2026: to encode, 20-40 ns per value, 100 for bursts; to decode, 0.2 ns for constants, 1 for packed
// integers, 2-3 for segments, 4 for the Huffman form, 5 for XOR, where Prometheus' iterator takes 10-16. Encoders that
// are not Cold use the Huffman form only where it is 8 % smaller. Reading part of a column costs about that part, but where
// differences were taken, the rows before, too.
//
// Decoders take hostile bytes: they answer a *CorruptError, never panic and allocate in proportion to the rows
// that the caller asks for. Functions keep no state and may be called concurrently; an Encoder holds scratch
// memory in proportion to the longest column it saw, and belongs to one goroutine at a time.
package encoding
