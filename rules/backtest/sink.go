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
	*r = sample.Result{}
	s.batch.Reset()
	for i, ref := range b.Ref {
		switch {
		case ref >= countedRefs:
		case b.KindAt(i) == sample.FloatHistogram:
			s.batch.AppendHistogram(ref, 0, b.T[i], nil, b.FH[i], 0)
		default:
			s.batch.AppendFloat(ref, 0, b.T[i], b.V[i], 0)
		}
	}
	r.Floats = b.Len()
	if s.batch.Len() == 0 {
		return 0, nil
	}
	return s.scratch.Commit(ctx, &s.batch, &s.result)
}

// Durable implements sample.Appender.
func (*sink) Durable(context.Context, sample.LSN) error { return nil }
