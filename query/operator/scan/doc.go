// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package scan holds the operators at the leaves of a query: selectors of instant and of range vectors, and the two
// that make samples out of an expression, subqueries and step invariant parts.
//
// A selector lists its series when it is opened. A cursor decodes the samples of a few series at a time into a
// column.Block and walks over it once: for an instant vector a pair of cursors over times and steps fills the row of
// the batch, for a range vector the columns of the block are handed on as they are. So a cell costs a few
// nanoseconds beside its decoding, and a series nothing that is allocated. Blocks belong to the node and go from one
// cursor to the next.
//
// An instant query asks the view for the newest samples first (column.LatestReader) and decodes only series of which
// the view does not know them.
//
// Nodes are for one goroutine until they are open; cursors may then run side by side, each on one goroutine.
package scan
