// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"errors"

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
// an error, a *CorruptError or a *budget.ExceededError, dst has no more rows than before.
func (c Chunk) Decode(mint, maxt int64, withST bool, dst *column.Block) error {
	return placed{Chunk: c}.decode(mint, maxt, withST, dst)
}

// placed is a chunk that lies in something larger, for the offsets in errors.
type placed struct {
	Chunk
	dataOff, stOff int
}

func (p placed) decode(mint, maxt int64, withST bool, dst *column.Block) error {
	have := len(dst.T)
	decode := decodeHistograms
	if p.Kind == sample.Float {
		decode = decodeFloats
	}
	skipped, err := decode(p.Data, p.N, mint, maxt, dst)
	if err != nil {
		return shift(err, p.dataOff)
	}
	for row := have; row < len(dst.T) && p.Kind != sample.Float; row++ {
		if dst.KindAt(row) != p.Kind {
			err = &CorruptError{Msg: "histograms of another kind than the chunk's", Off: p.dataOff}
			break
		}
	}
	if err == nil && withST {
		err = shift(DecodeST(p.ST, skipped, dst, have), p.stOff)
	}
	if err != nil {
		dst.Truncate(have)
	}
	return err
}

// shift moves the place of a *CorruptError by off bytes, from within a part to within the whole.
func shift(err error, off int) error {
	if err == nil || off == 0 {
		return err
	}
	if ce, ok := errors.AsType[*CorruptError](err); ok {
		return &CorruptError{Msg: ce.Msg, Off: ce.Off + off}
	}
	return err
}
