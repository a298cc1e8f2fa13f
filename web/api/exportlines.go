// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"math"
	"net/http"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// exportLines writes a JSON document for each series, in the form of VictoriaMetrics: metric, values, timestamps. What that
// form has no place for is in members of its own: nan has the bits of NaNs that are not the usual one, starts the start
// timestamps, histograms native histograms with all they have.
type exportLines struct {
	rows int // of one line at most; 0: any number
}

// defaultRowsPerLine keeps lines so short that importing them takes little memory, and so long that their labels take a small
// part of them.
const defaultRowsPerLine = 10_000

func newExportLines(r *http.Request) (exportWriter, error) {
	n, err := intParam(r, "max_rows_per_line")
	if err != nil {
		return nil, err
	}
	if n < 0 { // it is not there
		n = defaultRowsPerLine
	}
	return exportLines{n}, nil
}

func (x exportLines) series(e *encoder, ls labels.Labels, b *column.Block, from, to int) {
	for from < to {
		end := to
		if x.rows > 0 {
			end = min(from+x.rows, to)
		}
		e.raw(`{"metric":`)
		e.labels(ls)
		w := exportedRows{e: e, b: b, from: from, to: end}
		w.floats()
		w.histograms()
		e.raw("}\n")
		e.room()
		from = end
	}
}

// exportedRows writes the rows of one line.
type exportedRows struct {
	e        *encoder
	b        *column.Block
	from, to int
	n        int // elements of the list in hand
}

// list writes a member for the rows of the kind that was asked for.
func (w *exportedRows) list(name string, histograms bool, element func(row int)) {
	w.e.raw(`,"` + name + `":[`)
	w.n = 0
	for i := w.from; i < w.to; i++ {
		if histograms == (w.b.KindAt(i) != sample.Float) {
			w.e.comma(w.n)
			element(i)
			if w.n++; w.n%64 == 0 || histograms {
				w.e.room()
			}
		}
	}
	w.e.raw(`]`)
}

func (w *exportedRows) floats() {
	some, odd, started := w.look(false)
	if !some {
		return
	}
	if odd {
		w.nans()
	}
	w.list("values", false, func(i int) { w.e.jsonFloat(w.b.V[i]) })
	w.times("timestamps", "starts", false, started)
}

func (w *exportedRows) times(name, starts string, histograms, started bool) {
	w.list(name, histograms, func(i int) { w.e.integer(w.b.T[i]) })
	if started {
		w.list(starts, histograms, func(i int) { w.e.integer(w.b.STAt(i)) })
	}
}

// look tells of the rows of a kind whether there are some, whether some are NaNs with bits of their own, and whether some
// have a start timestamp.
func (w *exportedRows) look(histograms bool) (some, odd, started bool) {
	for i := w.from; i < w.to; i++ {
		if histograms != (w.b.KindAt(i) != sample.Float) {
			continue
		}
		some = true
		odd = odd || !histograms && isOddNaN(w.b.V[i])
		started = started || w.b.STAt(i) != 0
	}
	return some, odd, started
}

func isOddNaN(v float64) bool { return math.IsNaN(v) && math.Float64bits(v) != value.NormalNaN }

// nans writes the places, among the values, and bits of odd NaNs.
func (w *exportedRows) nans() {
	w.e.raw(`,"nan":[`)
	at, n := 0, 0
	for i := w.from; i < w.to; i++ {
		if w.b.KindAt(i) != sample.Float {
			continue
		}
		if v := w.b.V[i]; isOddNaN(v) {
			w.e.comma(n)
			n++
			w.e.raw(`[`)
			w.e.integer(int64(at))
			w.e.raw(`,`)
			w.e.bits(v)
			w.e.raw(`]`)
			w.e.room()
		}
		at++
	}
	w.e.raw(`]`)
}

func (w *exportedRows) histograms() {
	some, _, started := w.look(true)
	if !some {
		return
	}
	w.list("histograms", true, func(i int) {
		if w.b.KindAt(i) == sample.Histogram {
			w.integerHistogram(w.b.H.Int[i])
		} else {
			w.floatHistogram(w.b.H.Float[i])
		}
	})
	w.times("histogram_timestamps", "histogram_starts", true, started)
}

func (w *exportedRows) integerHistogram(h *histogram.Histogram) {
	w.layout(`{"hint":`, h.CounterResetHint, h.Schema, h.ZeroThreshold, h.Sum)
	w.e.raw(`,"count":`)
	w.e.buf = strconv.AppendUint(w.e.buf, h.Count, 10)
	w.e.raw(`,"zero_count":`)
	w.e.buf = strconv.AppendUint(w.e.buf, h.ZeroCount, 10)
	w.spans("positive_spans", h.PositiveSpans)
	w.spans("negative_spans", h.NegativeSpans)
	w.integers("positive_deltas", h.PositiveBuckets)
	w.integers("negative_deltas", h.NegativeBuckets)
	w.exact("custom_values", h.CustomValues)
	w.e.raw(`}`)
}

func (w *exportedRows) floatHistogram(h *histogram.FloatHistogram) {
	w.layout(`{"float":true,"hint":`, h.CounterResetHint, h.Schema, h.ZeroThreshold, h.Sum)
	w.e.raw(`,"count_float":`)
	w.e.exact(h.Count)
	w.e.raw(`,"zero_count_float":`)
	w.e.exact(h.ZeroCount)
	w.spans("positive_spans", h.PositiveSpans)
	w.spans("negative_spans", h.NegativeSpans)
	w.exact("positive_counts", h.PositiveBuckets)
	w.exact("negative_counts", h.NegativeBuckets)
	w.exact("custom_values", h.CustomValues)
	w.e.raw(`}`)
}

func (w *exportedRows) layout(begin string, hint histogram.CounterResetHint, schema int32, threshold, sum float64) {
	w.e.raw(begin)
	w.e.integer(int64(hint))
	w.e.raw(`,"schema":`)
	w.e.integer(int64(schema))
	w.e.raw(`,"zero_threshold":`)
	w.e.exact(threshold)
	w.e.raw(`,"sum":`)
	w.e.exact(sum)
}

func (w *exportedRows) spans(name string, list []histogram.Span) {
	if len(list) == 0 {
		return
	}
	w.e.raw(`,"` + name + `":[`)
	for i, s := range list {
		w.e.comma(i)
		w.e.raw(`[`)
		w.e.integer(int64(s.Offset))
		w.e.raw(`,`)
		w.e.integer(int64(s.Length))
		w.e.raw(`]`)
	}
	w.e.raw(`]`)
}

func (w *exportedRows) integers(name string, list []int64) {
	if len(list) == 0 {
		return
	}
	w.e.raw(`,"` + name + `":[`)
	for i, n := range list {
		w.e.comma(i)
		w.e.integer(n)
	}
	w.e.raw(`]`)
}

func (w *exportedRows) exact(name string, list []float64) {
	if len(list) == 0 {
		return
	}
	w.e.raw(`,"` + name + `":[`)
	for i, v := range list {
		w.e.comma(i)
		w.e.exact(v)
	}
	w.e.raw(`]`)
}

func (e *encoder) integer(n int64) { e.buf = strconv.AppendInt(e.buf, n, 10) }

// jsonFloat writes a number, null for NaN, and words for infinities.
func (e *encoder) jsonFloat(v float64) {
	switch {
	case math.IsNaN(v):
		e.raw(`null`)
	case math.IsInf(v, 1):
		e.raw(`"Infinity"`)
	case math.IsInf(v, -1):
		e.raw(`"-Infinity"`)
	default:
		e.digits(v)
	}
}

// exact writes a number, and what is none as its bits.
func (e *encoder) exact(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		e.bits(v)
		return
	}
	e.digits(v)
}

func (e *encoder) bits(v float64) {
	e.raw(`"`)
	e.buf = strconv.AppendUint(e.buf, math.Float64bits(v), 16)
	e.raw(`"`)
}
