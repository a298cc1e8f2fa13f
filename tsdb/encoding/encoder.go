// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

// Encoder encodes columns. The zero value is ready; one goroutine may use it at a time.
type Encoder struct {
	// Cold allows the forms that are smallest but cost more to decode.
	Cold bool
}
