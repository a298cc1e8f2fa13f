// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package querytest judges a PromQL engine against Prometheus' own.
//
// RunSuite runs Prometheus' built-in suite and fails when a part of it was not run. A Pair asks two engines the
// same Query and says how their Outcomes differ: values, labels, errors, annotations with positions, statistics.
// A Mirror is an engine that asks a Pair on the way, so that whoever drives one engine compares two. A DataSet
// is samples made from a seed, a Generator makes query texts over them, and a Case is a difference that was found,
// reduced to its smallest form and kept as a file that anyone can read and replay.
//
// What Prometheus leaves open is not compared. That is decided by asking and not by a list: where the answers differ,
// the reference is asked again over the same series in other orders, and an answer that it does not repeat itself is
// open. (Ties in topk, bottomk and limitk are of that kind, and sums whose last bits hang on the order of their terms.)
//
// Everything random comes from seeds that are printed with a failure. Nothing here is safe for concurrent use unless
// its comment says so; memory and time are those of tests.
package querytest
