// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// emitThin puts out the rows [from, to) of a steady run, whose times are t, with counts and sums only. The first of them
// and the last keep their buckets where another run may be before or behind, with which they are to be compared.
func (d *columnDecoder) emitThin(n, from, to int, t []int64) error {
	rows := to - from
	// The last row is whole also where the run goes on beyond to: another source may have the next one.
	if err := d.edges(n, from, to); err != nil {
		return err
	}
	at := 0
	if d.dst.ContinuesSeries() {
		if err := d.emitEdge(0, 0, t[0]); err != nil {
			return err
		}
		at = 1
	}
	end := rows
	if at < rows {
		end--
	}
	for at < end {
		upTo := min(at+maxStretch, end)
		if err := d.emitBare(at, upTo, t[at:upTo]); err != nil {
			return err
		}
		at = upTo
	}
	if end < rows {
		return d.emitEdge(end, 1, t[end])
	}
	return nil
}

// emitEnds puts out the rows [from, to) of a steady run, whose times are t. Of those but the first and the last nothing is
// looked at but that they are no resets and what buckets they have: all of one layout are one histogram.
func (d *columnDecoder) emitEnds(n, from, to int, t []int64) error {
	if err := d.edges(n, from, to); err != nil {
		return err
	}
	if err := d.emitEdge(0, 0, t[0]); err != nil {
		return err
	}
	end := len(t) - 1
	for at := 1; at < end; {
		upTo := at + 1
		for upTo < end && d.numbers[upTo] == d.numbers[at] {
			upTo++
		}
		if err := d.emitAlike(&d.layouts[d.numbers[at]-1], t[at:upTo]); err != nil {
			return err
		}
		at = upTo
	}
	return d.emitEdge(end, 1, t[end])
}

// leastEnds is from how many rows on emitEnds saves something: the ends are put out one by one.
const leastEnds = 24

// emitAlike puts out one histogram as several rows.
func (d *columnDecoder) emitAlike(l *runLayout, t []int64) error {
	kind := sample.Histogram
	if d.float {
		kind = sample.FloatHistogram
	}
	h, counts, err := d.dst.AddAlike(t, kind, len(l.columns))
	if err != nil {
		return err
	}
	clear(counts)
	*h = histogram.FloatHistogram{
		CounterResetHint: histogram.NotCounterReset, Schema: l.schema, ZeroThreshold: math.Float64frombits(l.zeroT),
		PositiveSpans: l.pos, NegativeSpans: l.neg, CustomValues: l.custom,
	}
	h.PositiveBuckets, h.NegativeBuckets = split(counts, l.npos)
	switch {
	case d.float:
	case l.schema == histogram.CustomBucketsSchema: // as Histogram.ToFloat has it
		h.ZeroThreshold, h.NegativeSpans, h.NegativeBuckets = 0, nil, nil
	default:
		h.CustomValues = nil
	}
	d.dst.NoteThin()
	return nil
}

// emitBare puts out rows without their buckets.
func (d *columnDecoder) emitBare(from, to int, t []int64) error {
	kind := sample.Histogram
	if d.float {
		kind = sample.FloatHistogram
	}
	hists, _, err := d.dst.AddFloatHistograms(t, kind, 0)
	if err != nil {
		return err
	}
	for i := range hists {
		k := from + i
		count := float64(d.counts[k])
		if d.float {
			count = math.Float64frombits(d.counts[k])
		}
		hists[i] = histogram.FloatHistogram{
			CounterResetHint: histogram.CounterResetHint(d.hints[k]), Schema: d.bounds.schema, Count: count, Sum: d.sums[k],
		}
	}
	d.dst.NoteThin()
	return nil
}

// edges reads the buckets of the first and the last of the rows [from, to) into words, one row behind the other.
func (d *columnDecoder) edges(n, from, to int) error {
	columns, rows := d.has.len(), to-from
	if err := grow(d, &d.words, 2*columns+rows); err != nil {
		return err
	}
	d.words = d.words[:2*columns+rows]
	column := d.words[2*columns:]
	rest := -1
	for k := range columns {
		b, near := d.bucket()
		if len(b) == 0 && (rest >= 0 || d.float) || near && (k == 0 || rest == k-1) {
			d.c.Fail("bucket without a column")
		}
		if d.c.Failed() {
			return faultOf(&d.c)
		}
		if len(b) == 0 {
			rest, d.words[k], d.words[columns+k] = k, 0, 0
			continue
		}
		if d.float {
			if err := d.decodeWords(b, column, 1, n, from, to); err != nil {
				return err
			}
			d.words[k], d.words[columns+k] = column[0], column[rows-1]
			continue
		}
		first, last, err := encoding.IntEnds(d.ints, b, n, from, to)
		if err = d.corrupt(err, 0, 0); err != nil {
			return err
		}
		d.words[k], d.words[columns+k] = uint64(first), uint64(last)
		if near {
			d.words[k] += d.words[k-1]
			d.words[columns+k] += d.words[columns+k-1]
		}
	}
	if rest < 0 {
		return nil
	}
	for edge, i := range [...]int{0, rows - 1} {
		line := d.words[edge*columns : (edge+1)*columns]
		left := d.counts[i] - d.zeros[i]
		for _, x := range line {
			left -= x
		}
		line[rest] = left
	}
	return nil
}

// emitEdge puts out row i with its buckets, which are the words of that edge.
func (d *columnDecoder) emitEdge(i, edge int, t int64) error {
	columns := d.has.len()
	return d.emitRow(i, t, d.words[edge*columns:(edge+1)*columns])
}
