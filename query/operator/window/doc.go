// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package window evaluates PromQL's functions over range vectors: rate, sum_over_time and their kin.
//
// New makes the operator of one call. Its cursors take the samples of one series at a time, find once which of them
// belong to the window of each step, a pair of indexes per step, and hand them to the kernel of the function, which
// fills the row of the batch in place. A kernel is a function over slices and costs O(samples + steps) however much
// the windows overlap; what it may not do is give another result than adding up each window anew would. So sums run
// on a ladder of rungs, from the plain loop to prefix sums, and take the fastest that is exact for the series at hand
// (Rung); only double_exponential_smoothing, deriv and predict_linear have to look at every sample of every window.
//
// A series of floats is the fast path. One with native histograms is split into a column of floats and one of
// histograms, as Prometheus keeps them; the kernels of floats run on the one, those of histograms on the other, and
// what a window with both of them gives is decided per function.
//
// The operator is evaluated once and holds nothing but its inputs. A cursor holds the indexes, and scratch of the
// size of a series for some functions; both are charged to the account of the query. Cursors are independent of each
// other, each for one goroutine.
package window
