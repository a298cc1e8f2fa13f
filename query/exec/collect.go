// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// collector is a Sink that makes a value of Prometheus' types.
type collector struct {
	account *budget.Account
	charged int64

	kind   parser.ValueType
	vector promql.Vector
	matrix promql.Matrix
	scalar promql.Scalar
	text   promql.String
}

// What the parts of a value take, the labels of a row as a guess.
const (
	sampleBytes = 80
	seriesBytes = 72
	pointBytes  = 16
	labelsBytes = 160
)

// Begin implements Sink.
func (c *collector) Begin(t parser.ValueType) error {
	c.kind = t
	if t == parser.ValueTypeVector {
		c.vector = promql.Vector{}
	} else {
		c.matrix = promql.Matrix{}
	}
	return nil
}

func (c *collector) charge(n int64) error {
	if err := c.account.Reserve(n); err != nil {
		return err
	}
	c.charged += n
	return nil
}

// Row implements Sink.
func (c *collector) Row(r *Row) error {
	if c.kind == parser.ValueTypeVector {
		return c.sample(r)
	}
	floats, histograms := 0, 0
	for _, k := range r.K {
		switch k {
		case vector.Float:
			floats++
		case vector.Histogram:
			histograms++
		case vector.Absent:
		}
	}
	bytes := seriesBytes + labelsBytes + int64(floats+histograms)*pointBytes
	if histograms > 0 {
		bytes += histogramBytes(r.K, r.H)
	}
	if err := c.charge(bytes); err != nil {
		return err
	}
	s := promql.Series{Metric: r.Labels}
	if floats > 0 {
		s.Floats = make([]promql.FPoint, 0, floats)
	}
	if histograms > 0 {
		s.Histograms = make([]promql.HPoint, 0, histograms)
	}
	for i, k := range r.K {
		switch k {
		case vector.Float:
			s.Floats = append(s.Floats, promql.FPoint{T: r.At(i), F: r.V[i]})
		case vector.Histogram:
			s.Histograms = append(s.Histograms, promql.HPoint{T: r.At(i), H: r.H[i]})
		case vector.Absent:
		}
	}
	c.matrix = append(c.matrix, s)
	return nil
}

func (c *collector) sample(r *Row) error {
	if len(c.vector) == cap(c.vector) {
		if err := c.charge(int64(max(len(c.vector), 16)) * (sampleBytes + labelsBytes)); err != nil {
			return err
		}
		grown := make(promql.Vector, len(c.vector), max(2*len(c.vector), 16))
		copy(grown, c.vector)
		c.vector = grown
	}
	s := promql.Sample{Metric: r.Labels, T: r.At(0)}
	if r.K[0] == vector.Histogram {
		if err := c.charge(int64(r.H[0].Size())); err != nil {
			return err
		}
		s.H = r.H[0]
	} else {
		s.F = r.V[0]
	}
	c.vector = append(c.vector, s)
	return nil
}

// Scalar implements Sink.
func (c *collector) Scalar(t int64, v float64) error {
	c.scalar = promql.Scalar{T: t, V: v}
	return nil
}

// Text implements Sink.
func (c *collector) Text(t int64, s string) error {
	c.text = promql.String{T: t, V: s}
	return nil
}

func (c *collector) value() parser.Value {
	switch c.kind {
	case parser.ValueTypeVector:
		return c.vector
	case parser.ValueTypeScalar:
		return c.scalar
	case parser.ValueTypeString:
		return c.text
	default:
		return c.matrix
	}
}
