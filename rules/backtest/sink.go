// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// sink takes what the rules write. It passes on to the scratch store what rules read, and counts the rest.
type sink struct {
	scratch sample.Appender
	read    map[string]bool // names of metrics that rules read
	counted sample.Ref      // refs given out for series that are only counted, from countedRefs on
	batch   sample.Batch
	rows    []int // of the batch of the rule, by row of batch
	result  sample.Result
}

// countedRefs is above all refs of a store, whose generations do not get that far.
const countedRefs = sample.Ref(1) << 63

// Resolve implements sample.Appender.
func (s *sink) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	for i, l := range ls {
		if s.read[l.Get(model.MetricNameLabel)] {
			if err := s.scratch.Resolve(ls[i:i+1], refs[i:i+1]); err != nil {
				return err
			}
			continue
		}
		s.counted++
		refs[i] = countedRefs + s.counted
	}
	return nil
}

// Commit implements sample.Appender.
func (s *sink) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	s.batch.Reset()
	s.rows = s.rows[:0]
	for i, ref := range b.Ref {
		if ref >= countedRefs {
			continue
		}
		s.rows = append(s.rows, i)
		if b.KindAt(i) == sample.FloatHistogram {
			s.batch.AppendHistogram(ref, 0, b.T[i], nil, b.FH[i], b.FlagsAt(i))
		} else {
			s.batch.AppendFloat(ref, 0, b.T[i], b.V[i], b.FlagsAt(i))
		}
	}
	*r = sample.Result{Floats: b.Len()}
	if len(s.rows) == 0 {
		return 0, nil
	}
	lsn, err := s.scratch.Commit(ctx, &s.batch, &s.result)
	if err != nil || s.result.Reason == nil {
		return lsn, err
	}
	// What the scratch store says holds for the rows that it got, such as that a series has left it since.
	r.Reason = make([]sample.Reason, b.Len())
	for i, row := range s.rows {
		r.Reason[row] = s.result.Reason[i]
	}
	return lsn, nil
}

// Durable implements sample.Appender.
func (*sink) Durable(context.Context, sample.LSN) error { return nil }
