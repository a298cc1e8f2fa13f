// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package ingest is the one way from a protocol into the storage.
//
// A receiver reads its protocol into a Request, series by series: it names a series by the Key of its label bytes as
// they stand on the wire, and adds rows. The Request knows from the KeyTable which series of the store a key means,
// so that the labels of a known series are neither parsed nor allocated; only for an unknown one does it ask for
// them. Commit resolves what is unknown, commits everything as one batch, tries rows of series that left the store
// once more, waits until the batch is durable, and says in an Outcome what was not stored and why.
//
// A Request is used by one goroutine and comes from a pool of the Intake. An Intake and its KeyTable are safe for
// concurrent use. The package starts no goroutines.
package ingest
