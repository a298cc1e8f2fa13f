// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package index finds series by their labels.
//
// There are two indexes with the same questions and answers. Mem is the mutable one of the head: series come
// and go, ids are the head's slots. Builder writes and Reader reads the immutable one inside a block file,
// where the id of a series is its rank in label order.
//
// The nouns:
//
//	symbol    a label name or value, named by a number that is only good within its index
//	pair      a label name with one of its values
//	postings  the ascending ids of the series that have a pair
//	matcher   one condition on one label; select.go evaluates them for both indexes
//
// Mem keeps its data in few large pointer-free pieces, so that a million series cost the garbage collector
// nothing to scan. Postings adapt to their size and shape: up to four ids sit in the pair's own record, then
// come sorted runs, then a roaring bitmap with a short list of recent ids in front of it.
//
// Both indexes are safe for concurrent use. Readers of Mem hold its lock only while they copy; regular
// expressions run outside of it. Strings that leave the package live on the Go heap and stay valid for as
// long as the caller keeps them.
//
// The immutable form is described in docs/format-block.md.
package index
