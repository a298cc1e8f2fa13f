// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// A Chunk is a stream as the head keeps it: N samples of one kind in Data, and beside it the stream of their
// start timestamps, if there are any.
type Chunk struct {
	Kind sample.Kind
	N    int
	Data []byte
	ST   []byte // empty: no start timestamps
}

// Decode appends the samples within [mint, maxt] to dst, with their start timestamps where withST is set. On
// an error dst has no more rows than before.
func (c Chunk) Decode(mint, maxt int64, withST bool, dst *column.Block) error {
	have := len(dst.T)
	decode := decodeHistograms
	if c.Kind == sample.Float {
		decode = decodeFloats
	}
	skipped, err := decode(c.Data, c.N, mint, maxt, dst)
	if err == nil && slices.ContainsFunc(dst.Kind[min(have, len(dst.Kind)):], func(k sample.Kind) bool { return k != c.Kind }) {
		err = &CorruptError{Msg: "histograms of another kind than the chunk's"}
		dst.Truncate(have)
	}
	if err != nil || !withST {
		return err
	}
	if err := DecodeST(c.ST, skipped, dst, have); err != nil {
		dst.Truncate(have)
		return err
	}
	return nil
}
