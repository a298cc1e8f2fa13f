// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package unittest

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// input is the series of a test group that are yet to be written.
type input struct {
	series []inputSeries
	refs   []sample.Ref // nil: not resolved yet
	start  time.Time
	step   time.Duration
}

// inputSeries is the values of a series, one per step, of which the first next ones are written.
type inputSeries struct {
	labels labels.Labels
	values []parser.SequenceValue
	next   int
}

// parseInput reads the input series of a test group. One that is there twice is what was said last.
func parseInput(g *Group, p parser.Parser) (input, error) {
	in := input{start: g.start(), step: time.Duration(g.Interval)}
	at := make(map[string]int, len(g.InputSeries))
	for i := range g.InputSeries {
		s := &g.InputSeries[i]
		ls, values, err := p.ParseSeriesDesc(s.Series + " " + s.Values)
		if err != nil {
			return in, fmt.Errorf("    input series %q with values %q: %w", s.Series, s.Values, err)
		}
		if j, again := at[ls.String()]; again {
			in.series[j].values = values
			continue
		}
		at[ls.String()] = len(in.series)
		in.series = append(in.series, inputSeries{labels: ls, values: values})
	}
	return in, nil
}

// writeTill writes the samples up to and including t.
func (in *input) writeTill(ctx context.Context, app sample.Appender, t int64) error {
	if len(in.series) == 0 {
		return nil
	}
	if in.refs == nil {
		names := make([]labels.Labels, len(in.series))
		for i := range in.series {
			names[i] = in.series[i].labels
		}
		in.refs = make([]sample.Ref, len(names))
		if err := app.Resolve(names, in.refs); err != nil {
			return err
		}
	}
	var b sample.Batch
	for i := range in.series {
		s := &in.series[i]
		for ; s.next < len(s.values); s.next++ {
			at := timestamp.FromTime(in.start.Add(time.Duration(s.next) * in.step))
			if at > t {
				break
			}
			switch v := &s.values[s.next]; {
			case v.Omitted:
			case v.Histogram != nil:
				b.AppendHistogram(in.refs[i], 0, at, nil, v.Histogram, 0)
			default:
				b.AppendFloat(in.refs[i], 0, at, v.Value, 0)
			}
		}
	}
	if b.Len() == 0 {
		return nil
	}
	var r sample.Result
	if _, err := app.Commit(ctx, &b, &r); err != nil {
		return err
	}
	for row := range b.Len() {
		if reason := r.At(row); !reason.Stored() {
			return fmt.Errorf("a sample at %v was refused: %s", timestamp.Time(b.T[row]).UTC(), reason)
		}
	}
	return nil
}
