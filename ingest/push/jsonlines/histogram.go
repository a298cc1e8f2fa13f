// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package jsonlines

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/push"
)

// exact is a float that keeps its bits in JSON: where it is no number it is a text of its bits.
type exact float64

// UnmarshalJSON reads a number, or bits in hexadecimal digits.
func (x *exact) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		bits, err := strconv.ParseUint(string(b[1:len(b)-1]), 16, 64)
		*x = exact(math.Float64frombits(bits))
		return err
	}
	v, err := strconv.ParseFloat(string(b), 64)
	*x = exact(v)
	return err
}

// document is a native histogram as it is written. Integer ones have buckets as deltas, float ones as counts.
type document struct {
	Float         bool        `json:"float"`
	Hint          uint8       `json:"hint"`
	Schema        int32       `json:"schema"`
	ZeroThreshold exact       `json:"zero_threshold"`
	ZeroCount     json.Number `json:"zero_count"`
	Count         json.Number `json:"count"`
	ZeroCountF    exact       `json:"zero_count_float"`
	CountF        exact       `json:"count_float"`
	Sum           exact       `json:"sum"`
	PositiveSpans [][2]int64  `json:"positive_spans"`
	NegativeSpans [][2]int64  `json:"negative_spans"`
	Positive      []int64     `json:"positive_deltas"`
	Negative      []int64     `json:"negative_deltas"`
	PositiveF     []exact     `json:"positive_counts"`
	NegativeF     []exact     `json:"negative_counts"`
	Custom        []exact     `json:"custom_values"`
}

// perHistogramByte bounds what a byte of a written histogram takes in memory, while it is read and after it.
const perHistogramByte = 16

// histograms adds the pairs of native histograms and their timestamps.
func (d *documents) histograms(f *push.Feed, key ingest.Key, line []byte) error {
	hs, t, st := newList(line, d.member[histograms]), newList(line, d.member[histogramTimestamps]), newList(line, d.member[histogramStarts])
	for n := 0; ; n++ {
		b, err := hs.next()
		if err != nil {
			return err
		}
		at, err := t.next()
		if err != nil {
			return err
		}
		switch {
		case b == nil && at == nil:
			return nil
		case b == nil || at == nil:
			return push.Bad(d.member[histogramTimestamps].from, "there are not as many timestamps as histograms")
		}
		ms, err := push.Integer(at)
		if err != nil {
			return push.Bad(t.from, "a timestamp is "+err.Error())
		}
		start, err := st.start()
		if err != nil {
			return err
		}
		if err := d.begin(f, key, n); err != nil {
			return err
		}
		if err := f.Charge(int64(len(b)) * perHistogramByte); err != nil {
			return err
		}
		h, fh, err := parseHistogram(b)
		if err != nil {
			return push.Bad(hs.from, "invalid histogram: "+err.Error())
		}
		f.Histogram(start, ms, h, fh)
	}
}

// parseHistogram reads one; the other result is nil.
func parseHistogram(b []byte) (*histogram.Histogram, *histogram.FloatHistogram, error) {
	var x document
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, nil, err
	}
	positive, err := spans(x.PositiveSpans)
	if err != nil {
		return nil, nil, err
	}
	negative, err := spans(x.NegativeSpans)
	if err != nil {
		return nil, nil, err
	}
	if x.Float {
		fh := &histogram.FloatHistogram{
			CounterResetHint: histogram.CounterResetHint(x.Hint), Schema: x.Schema, ZeroThreshold: float64(x.ZeroThreshold),
			ZeroCount: float64(x.ZeroCountF), Count: float64(x.CountF), Sum: float64(x.Sum),
			PositiveSpans: positive, NegativeSpans: negative,
			PositiveBuckets: plain(x.PositiveF), NegativeBuckets: plain(x.NegativeF), CustomValues: plain(x.Custom),
		}
		return nil, fh, fh.Validate()
	}
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(x.Hint), Schema: x.Schema, ZeroThreshold: float64(x.ZeroThreshold), Sum: float64(x.Sum),
		PositiveSpans: positive, NegativeSpans: negative, PositiveBuckets: x.Positive, NegativeBuckets: x.Negative, CustomValues: plain(x.Custom),
	}
	if h.Count, err = whole(x.Count); err != nil {
		return nil, nil, fmt.Errorf("its count: %w", err)
	}
	if h.ZeroCount, err = whole(x.ZeroCount); err != nil {
		return nil, nil, fmt.Errorf("its zero count: %w", err)
	}
	return h, nil, h.Validate()
}

func whole(n json.Number) (uint64, error) {
	if n == "" {
		return 0, nil
	}
	return strconv.ParseUint(string(n), 10, 64)
}

func plain(list []exact) []float64 {
	var out []float64
	for _, x := range list {
		out = append(out, float64(x))
	}
	return out
}

func spans(list [][2]int64) ([]histogram.Span, error) {
	var out []histogram.Span
	for _, s := range list {
		if s[0] < math.MinInt32 || s[0] > math.MaxInt32 || s[1] < 0 || s[1] > math.MaxUint32 {
			return nil, errors.New("a span is out of range")
		}
		out = append(out, histogram.Span{Offset: int32(s[0]), Length: uint32(s[1])})
	}
	return out, nil
}
