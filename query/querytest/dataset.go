// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// Sample is one sample. At most one of H and FH is set; V counts where neither is.
type Sample struct {
	ST, T int64
	V     float64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

// Series is the samples of one series in time order.
type Series struct {
	Labels  labels.Labels
	Samples []Sample
}

// DataSet is series in label order, so that the order of their references in a storage is that of their labels.
type DataSet struct {
	Series []Series
	// Start and End bound the times of the samples and Interval is their usual distance, in milliseconds.
	Start, End, Interval int64
}

// Store is what takes samples; storage.Storage does.
type Store interface {
	AppenderV2(ctx context.Context) storage.AppenderV2
}

// Load stores the samples, each series whole before the next.
func (d DataSet) Load(ctx context.Context, s Store) error { return appendAll(ctx, s, d.Series) }

// LoadLate stores the samples in rounds: every round has some of the samples of every series, so that later rounds
// bring samples older than those of earlier ones. between, if not nil, is called after each round.
func (d DataSet) LoadLate(ctx context.Context, s Store, seed uint64, between func() error) error {
	const rounds = 3
	rng := rand.New(rand.NewPCG(seed, 1))
	parts := make([][]Series, rounds)
	for _, se := range d.Series {
		split := make([][]Sample, rounds)
		for _, x := range se.Samples {
			r := rng.IntN(rounds)
			split[r] = append(split[r], x)
		}
		for r := range parts {
			parts[r] = append(parts[r], Series{se.Labels, split[r]})
		}
	}
	for _, part := range parts {
		if err := appendAll(ctx, s, part); err != nil {
			return err
		}
		if between == nil {
			continue
		}
		if err := between(); err != nil {
			return err
		}
	}
	return nil
}

func appendAll(ctx context.Context, s Store, series []Series) error {
	app := s.AppenderV2(ctx)
	for _, se := range series {
		var ref storage.SeriesRef
		for _, x := range se.Samples {
			var err error
			h, fh := x.H, x.FH
			if h != nil {
				h = h.Copy()
			}
			if fh != nil {
				fh = fh.Copy()
			}
			if ref, err = app.Append(ref, se.Labels, x.ST, x.T, x.V, h, fh, storage.AppendV2Options{}); err != nil {
				return fmt.Errorf("store %s at %d: %w", se.Labels, x.T, err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		return fmt.Errorf("commit samples: %w", err)
	}
	return nil
}

// text writes the series in the form of case files: a line with the labels, then a line for each sample with its
// time, its start timestamp and its value.
func (d DataSet) text(b *strings.Builder) {
	for _, se := range d.Series {
		fmt.Fprintf(b, "series %s\n", se.Labels)
		for _, x := range se.Samples {
			fmt.Fprintf(b, "%d %d %s\n", x.T, x.ST, x.valueText())
		}
	}
}

const staleText = "stale"

func (x Sample) valueText() string {
	fh := x.FH
	if x.H != nil {
		fh = x.H.ToFloat(nil)
	}
	switch {
	case fh != nil && value.IsStaleNaN(fh.Sum):
		return "{{" + staleText + "}}"
	case fh != nil:
		return fh.TestExpression()
	case value.IsStaleNaN(x.V):
		return staleText
	}
	return strconv.FormatFloat(x.V, 'g', -1, 64)
}

// parseSample reads what text wrote. Histograms come back with float counts.
func parseSample(line string) (Sample, error) {
	parts := strings.SplitN(line, " ", 3)
	if len(parts) != 3 {
		return Sample{}, fmt.Errorf("sample %q: want a time, a start timestamp and a value", line)
	}
	var x Sample
	var err error
	if x.T, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
		return Sample{}, fmt.Errorf("sample %q: %w", line, err)
	}
	if x.ST, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return Sample{}, fmt.Errorf("sample %q: %w", line, err)
	}
	switch v := parts[2]; {
	case v == staleText:
		x.V = math.Float64frombits(value.StaleNaN)
	case v == "{{"+staleText+"}}":
		x.FH = &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}
	case strings.HasPrefix(v, "{{"):
		_, values, err := parser.NewParser(everything()).ParseSeriesDesc("m " + v)
		if err != nil || len(values) != 1 || values[0].Histogram == nil {
			return Sample{}, fmt.Errorf("sample %q: not a histogram: %w", line, err)
		}
		x.FH = values[0].Histogram
	default:
		if x.V, err = strconv.ParseFloat(v, 64); err != nil {
			return Sample{}, fmt.Errorf("sample %q: %w", line, err)
		}
	}
	return x, nil
}

// finish brings the series into label order, drops those without samples and takes the bounds.
func (d *DataSet) finish() {
	d.Series = slices.DeleteFunc(d.Series, func(s Series) bool { return len(s.Samples) == 0 })
	slices.SortFunc(d.Series, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
	d.Series = slices.CompactFunc(d.Series, func(a, b Series) bool { return labels.Equal(a.Labels, b.Labels) })
	d.Start, d.End = math.MaxInt64, math.MinInt64
	for _, s := range d.Series {
		d.Start = min(d.Start, s.Samples[0].T)
		d.End = max(d.End, s.Samples[len(s.Samples)-1].T)
	}
}
