// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package encoding turns columns of numbers into bytes and back, bit for bit: values (any float64), integers
// (any int64) and times (strictly ascending milliseconds). It knows nothing of series, blocks or files.
//
// A column names its codec in its first byte; the meaning of a number never changes. A column does not hold its
// own length in bytes, and columns of values and integers not their number of rows: the caller stores both.
//
// Decoders take hostile bytes: they answer a *CorruptError, never panic and allocate in proportion to the rows
// that the caller asks for. Functions keep no state and may be called concurrently; an Encoder holds scratch
// memory and belongs to one goroutine at a time.
package encoding
