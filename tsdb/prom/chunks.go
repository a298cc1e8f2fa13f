// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// chunkSamples is the most samples of a chunk: what Prometheus aims at, and what the readers of its blocks expect.
const chunkSamples = 120

// chunkEncoder turns the rows of one series into chunks. Floats become plain XOR chunks, which every reader of
// Prometheus blocks knows; they have no room for start timestamps.
type chunkEncoder struct {
	done     []chunks.Meta // finished, in time order
	chunk    chunkenc.Chunk
	app      chunkenc.Appender
	kind     sample.Kind
	mint     int64
	maxt     int64
	rows     int
	appended uint64 // of all series
}

// encode returns the chunks of the rows [from, to) of b. They are valid until the next call.
func (e *chunkEncoder) encode(b *column.Block, from, to int) ([]chunks.Meta, error) {
	e.done, e.chunk = e.done[:0], nil
	for i := from; i < to; i++ {
		if err := e.row(b, i); err != nil {
			return nil, err
		}
	}
	e.end()
	e.appended += uint64(to - from)
	return e.done, nil
}

func (e *chunkEncoder) row(b *column.Block, i int) error {
	if kind := b.KindAt(i); e.chunk == nil || kind != e.kind || e.rows == chunkSamples {
		if err := e.begin(kind); err != nil {
			return err
		}
	}
	var (
		next    chunkenc.Chunk
		recoded bool
		err     error
	)
	switch e.kind {
	case sample.Histogram:
		next, recoded, e.app, err = e.app.AppendHistogram(nil, 0, b.T[i], b.H.Int[i], false)
	case sample.FloatHistogram:
		next, recoded, e.app, err = e.app.AppendFloatHistogram(nil, 0, b.T[i], b.H.Float[i], false)
	default:
		e.app.Append(0, b.T[i], b.V[i])
	}
	if err != nil {
		return fmt.Errorf("histogram at %d: %w", b.T[i], err)
	}
	if next != nil && !recoded {
		e.end() // the histogram does not continue those of the chunk
	}
	if next != nil {
		e.chunk = next
	}
	if e.rows == 0 {
		e.mint = b.T[i]
	}
	e.maxt = b.T[i]
	e.rows++
	return nil
}

// begin ends the chunk there is and opens one for samples of another kind.
func (e *chunkEncoder) begin(kind sample.Kind) error {
	e.end()
	switch kind {
	case sample.Histogram:
		e.chunk = chunkenc.NewHistogramChunk()
	case sample.FloatHistogram:
		e.chunk = chunkenc.NewFloatHistogramChunk()
	default:
		e.chunk = chunkenc.NewXORChunk()
	}
	app, err := e.chunk.Appender()
	if err != nil {
		return fmt.Errorf("open a chunk: %w", err)
	}
	e.app, e.kind = app, kind
	return nil
}

// end puts the chunk, where there is one, to those that are done.
func (e *chunkEncoder) end() {
	if e.chunk != nil && e.rows > 0 {
		e.done = append(e.done, chunks.Meta{MinTime: e.mint, MaxTime: e.maxt, Chunk: e.chunk})
	}
	e.rows = 0
}
