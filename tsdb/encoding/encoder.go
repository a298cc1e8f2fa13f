// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

// Encoder encodes columns. The zero value is ready; one goroutine may use it at a time.
type Encoder struct {
	// Cold allows the forms that are smallest but cost more to decode.
	Cold bool

	ints     []int64    // of values
	beside   []int64    // of valuesNear
	odd      []int      // rows whose values stand apart
	orders   [2][]int64 // residuals under trial
	gaps     []int64    // of patches
	apart    []int64
	clean    []int64      // rows without patches
	signed   [octaves]int // how many rows of each, as planHuffman has counted them
	starts   []candidate
	cuts     []cut
	ends     []int // of segments
	segments []segment
	planned  int    // how often segments was made
	back     []byte // the stream that is written backwards
	sub      []byte // a part of a form
	trial    []byte // a column under trial
	column   []byte // one of two columns of integers
}
