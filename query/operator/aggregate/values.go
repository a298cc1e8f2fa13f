// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// values is count_values: a row of counts for every value that a group has at any step.
type values struct {
	node  *node
	group *grouping
	steps int
	// named: the value is a label of the result. It is not when the aggregation is without that label.
	named bool
	rows  map[valueKey]*valueRow
	order []*valueRow
}

// valueKey is a value of a group.
type valueKey struct {
	group uint32
	bits  uint64
	text  string // of a histogram
}

type valueRow struct {
	key    valueKey
	counts []uint32
}

// valueRowBytes is about what a row takes beside its counts.
const valueRowBytes = 160

func newValues(n *node) *values {
	named := !n.cfg.Without || n.cfg.Label != labels.MetricName && !slices.Contains(n.cfg.Grouping, n.cfg.Label)
	return &values{node: n, group: n.group, steps: n.Grid().N, named: named, rows: map[valueKey]*valueRow{}}
}

func (x *values) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		g := x.group.of[id]
		if g == outside || b.Shape[i] == vector.HasGaps {
			continue
		}
		if err := x.addRow(g, b, i); err != nil {
			return err
		}
	}
	return nil
}

// addRow counts the values of a row, which often are the same from step to step.
func (x *values) addRow(g uint32, b *vector.Batch, i int) error {
	v, k, h := b.Row(i)
	var last *valueRow
	var bits uint64
	for step, kind := range k {
		if kind == vector.Absent {
			continue
		}
		if kind == vector.Float && last != nil && math.Float64bits(v[step]) == bits {
			last.counts[step]++
			continue
		}
		row, err := x.row(g, v[step], kind, h, step)
		if err != nil {
			return err
		}
		row.counts[step]++
		last, bits = nil, 0
		if kind == vector.Float {
			last, bits = row, math.Float64bits(v[step])
		}
	}
	return nil
}

// row returns the row of a value.
func (x *values) row(g uint32, v float64, kind vector.Kind, hs []*histogram.FloatHistogram, step int) (*valueRow, error) {
	key := valueKey{group: g}
	switch {
	case !x.named:
	case kind == vector.Histogram:
		key.text = hs[step].String()
	case v != v:
		key.bits = math.Float64bits(math.NaN())
	default:
		key.bits = math.Float64bits(v)
	}
	if r, ok := x.rows[key]; ok {
		return r, nil
	}
	if err := x.node.held.Charge(int64(x.steps*4 + valueRowBytes + len(key.text))); err != nil {
		return nil, err
	}
	r := &valueRow{key: key, counts: make([]uint32, x.steps)}
	x.rows[key] = r
	x.order = append(x.order, r)
	return r, nil
}

func (x *values) end() (retain.Rows, error) {
	x.rows = nil
	d, err := retain.NewDense(&x.node.held, len(x.order), x.steps)
	if err != nil {
		return nil, err
	}
	if err := x.node.held.Charge(int64(len(x.order)) * 8); err != nil {
		return nil, err
	}
	first, symbols := make([]uint32, len(x.order)), make([]uint32, len(x.order))
	for i, r := range x.order {
		if err := x.node.feed.env.Check(); err != nil {
			return nil, err
		}
		v, k := d.Row(i)
		for step, n := range r.counts {
			if n > 0 {
				v[step], k[step] = float64(n), vector.Float
			}
		}
		r.counts = nil
		d.Measure(i)
		first[i] = x.group.first[r.key.group]
		text := r.key.text
		if text == "" {
			text = strconv.FormatFloat(math.Float64frombits(r.key.bits), 'f', -1, 64)
		}
		if x.named {
			symbols[i] = x.node.feed.env.Dict.Symbol(text)
		}
	}
	d.Names = x.group.table(first, nil) // not distinct yet, if the value is a label
	if x.named {
		d.Names = d.Names.With(x.node.cfg.Label, symbols)
		d.Names.Distinct = true
	}
	return d, nil
}
