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
	points  points

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
	if err := c.charge(seriesBytes + labelsBytes); err != nil {
		return err
	}
	s := promql.Series{Metric: r.Labels}
	var err error
	if r.Shape == vector.Full && r.T == nil {
		s.Floats, err = c.full(r)
	} else {
		s.Floats, s.Histograms, err = c.cells(r)
	}
	if err != nil {
		return err
	}
	c.matrix = append(c.matrix, s)
	return nil
}

// full returns the points of a row without gaps and histograms.
func (c *collector) full(r *Row) ([]promql.FPoint, error) {
	floats, err := c.points.take(len(r.V), c.charge)
	if err != nil {
		return nil, err
	}
	t, step := r.Grid.Start, r.Grid.Step
	for i, v := range r.V {
		floats[i] = promql.FPoint{T: t, F: v}
		t += step
	}
	return floats, nil
}

// cells returns the points of any row.
func (c *collector) cells(r *Row) (floats []promql.FPoint, histograms []promql.HPoint, err error) {
	var n, of int
	var bytes int64
	for i, k := range r.K {
		if k == vector.Float {
			n++
		}
		if h := r.Histogram(i); h != nil {
			of++
			bytes += pointBytes + int64(h.Size())
		}
	}
	if n > 0 {
		if floats, err = c.points.take(n, c.charge); err != nil {
			return nil, nil, err
		}
		floats = floats[:0]
	}
	if of > 0 {
		if err := c.charge(bytes); err != nil {
			return nil, nil, err
		}
		histograms = make([]promql.HPoint, 0, of)
	}
	for i, k := range r.K {
		if k == vector.Float {
			floats = append(floats, promql.FPoint{T: r.At(i), F: r.V[i]})
		}
		if h := r.Histogram(i); h != nil {
			histograms = append(histograms, promql.HPoint{T: r.At(i), H: h})
		}
	}
	return floats, histograms, nil
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
	if h := r.Histogram(0); h != nil {
		if err := c.charge(int64(h.Size())); err != nil {
			return err
		}
		s.H = h
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
