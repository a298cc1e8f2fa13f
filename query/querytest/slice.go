// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// AsMatrix returns the value of an outcome as a matrix: that of a vector or a scalar has one point a series.
func AsMatrix(o Outcome) promql.Matrix {
	var m promql.Matrix
	switch v := o.Result.Value.(type) {
	case promql.Matrix:
		m = slices.Clone(v)
	case promql.Vector:
		for _, s := range v {
			if s.H != nil {
				m = append(m, promql.Series{Metric: s.Metric, Histograms: []promql.HPoint{{T: s.T, H: s.H}}})
			} else {
				m = append(m, promql.Series{Metric: s.Metric, Floats: []promql.FPoint{{T: s.T, F: s.F}}})
			}
		}
	case promql.Scalar:
		m = promql.Matrix{{Floats: []promql.FPoint{{T: v.T, F: v.V}}}}
	}
	slices.SortFunc(m, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	return m
}

// StepOf returns the points of a range query's outcome at one of its steps.
func StepOf(o Outcome, at time.Time) promql.Matrix {
	m := promql.Matrix{}
	t := at.UnixMilli()
	for _, s := range AsMatrix(o) {
		s.Floats = slices.DeleteFunc(slices.Clone(s.Floats), func(p promql.FPoint) bool { return p.T != t })
		s.Histograms = slices.DeleteFunc(slices.Clone(s.Histograms), func(p promql.HPoint) bool { return p.T != t })
		if len(s.Floats)+len(s.Histograms) > 0 {
			m = append(m, s)
		}
	}
	return m
}

// Joined puts the points of second behind those of first, series by series.
func Joined(first, second Outcome) promql.Matrix {
	m := AsMatrix(first)
	for _, s := range AsMatrix(second) {
		i, found := slices.BinarySearchFunc(m, s.Metric, func(a promql.Series, ls labels.Labels) int { return labels.Compare(a.Metric, ls) })
		if !found {
			m = slices.Insert(m, i, s)
			continue
		}
		m[i].Floats = append(slices.Clip(m[i].Floats), s.Floats...)
		m[i].Histograms = append(slices.Clip(m[i].Histograms), s.Histograms...)
	}
	return m
}
