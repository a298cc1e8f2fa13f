// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

// Encoder encodes columns. The zero value is ready; one goroutine may use it at a time.
type Encoder struct {
	// Cold allows the forms that are smallest but cost more to decode.
	Cold bool

	ints     []int64    // of values
	odd      []int      // rows whose values stand apart
	orders   [2][]int64 // residuals under trial
	gaps     []int64    // of patches
	apart    []int64
	starts   []candidate
	cuts     []cut
	segments []segment
	back     []byte // the stream that is written backwards
	sub      []byte // a part of a form
	trial    []byte // a column under trial
}
