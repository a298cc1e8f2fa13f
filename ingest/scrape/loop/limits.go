// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// The errors of limits, in Prometheus' words.
var (
	errSampleLimit = errors.New("sample limit exceeded")
	errBucketLimit = errors.New("histogram bucket limit exceeded")
	errBodySize    = errors.New("body size limit exceeded")
	errNoName      = fmt.Errorf("missing metric name (%s label)", model.MetricNameLabel)
)

// labelLimits are what a job's series may have; 0 is no limit.
type labelLimits struct{ count, nameLength, valueLength int }

// check returns what of a series is above a limit.
func (l *labelLimits) check(ls labels.Labels) error {
	if *l == (labelLimits{}) {
		return nil
	}
	name := ls.Get(model.MetricNameLabel)
	if n := ls.Len(); l.count > 0 && n > l.count {
		return fmt.Errorf("label_limit exceeded (metric: %.50s, number of labels: %d, limit: %d)", name, n, l.count)
	}
	return ls.Validate(func(x labels.Label) error {
		if n := len(x.Name); l.nameLength > 0 && n > l.nameLength {
			return fmt.Errorf("label_name_length_limit exceeded (metric: %.50s, label name: %.50s, length: %d, limit: %d)", name, x.Name, n, l.nameLength)
		}
		if n := len(x.Value); l.valueLength > 0 && n > l.valueLength {
			return fmt.Errorf("label_value_length_limit exceeded (metric: %.50s, label name: %.50s, value: %.50q, length: %d, limit: %d)", name, x.Name, x.Value, n, l.valueLength)
		}
		return nil
	})
}

// histogramValue is a native histogram: one of the two, or none.
type histogramValue struct {
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (x histogramValue) none() bool { return x.h == nil && x.fh == nil }

func (x histogramValue) validate() error {
	switch {
	case x.h != nil:
		return x.h.Validate()
	case x.fh != nil:
		return x.fh.Validate()
	}
	return nil
}

func (x histogramValue) schema() int32 {
	if x.h != nil {
		return x.h.Schema
	}
	return x.fh.Schema
}

func (x histogramValue) buckets() int {
	if x.h != nil {
		return len(x.h.PositiveBuckets) + len(x.h.NegativeBuckets)
	}
	return len(x.fh.PositiveBuckets) + len(x.fh.NegativeBuckets)
}

func (x histogramValue) reduce(schema int32) error {
	if x.h != nil {
		return x.h.ReduceResolution(schema)
	}
	return x.fh.ReduceResolution(schema)
}

// bound lowers the resolution of a histogram until it has no more than so many buckets and no higher schema.
func (x histogramValue) bound(buckets int, maxSchema int32) error {
	if x.none() {
		return nil
	}
	if maxSchema < histogram.ExponentialSchemaMax && histogram.IsExponentialSchemaReserved(x.schema()) && x.schema() > maxSchema {
		if err := x.reduce(maxSchema); err != nil {
			return err
		}
	}
	if buckets <= 0 {
		return nil
	}
	for x.buckets() > buckets {
		if !histogram.IsExponentialSchema(x.schema()) || x.schema() <= histogram.ExponentialSchemaMin {
			return errBucketLimit
		}
		if err := x.reduce(x.schema() - 1); err != nil {
			return err
		}
	}
	return nil
}
