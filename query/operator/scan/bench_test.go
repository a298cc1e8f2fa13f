// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// plenty is a view of series with samples every 15 s from 0 on. Its Scan costs a copy, so that what is measured is the
// operators.
type plenty struct {
	set   *column.SeriesSet
	times []int64
	vals  []float64
}

func newPlenty(series, samples int) *plenty {
	p := &plenty{set: &column.SeriesSet{N: series, Names: []string{"__name__", "i"}, Text: []string{"", "m"}}}
	name, number := make([]uint32, series), make([]uint32, series)
	for i := range series {
		p.set.Text = append(p.set.Text, fmt.Sprintf("n%07d", i))
		name[i], number[i] = 1, uint32(i+2)
	}
	p.set.Syms = [][]uint32{name, number}
	for i := range samples {
		p.times, p.vals = append(p.times, int64(i)*15*second), append(p.vals, float64(i))
	}
	return p
}

func (p *plenty) Series(context.Context, []*labels.Matcher, column.Hint) (*column.SeriesSet, error) {
	return p.set, nil
}

func (p *plenty) Scan(_ context.Context, _ *column.SeriesSet, ids []uint32, _ column.Need, dst *column.Block) (int, error) {
	dst.Reset()
	n := 0
	for n < len(ids) && len(dst.T) < 8192 {
		if err := dst.Reserve(len(p.times)); err != nil {
			return 0, err
		}
		dst.T, dst.V = append(dst.T, p.times...), append(dst.V, p.vals...)
		dst.EndSeries()
		n++
	}
	return n, nil
}

func (p *plenty) Warnings() annotations.Annotations { return nil }
func (p *plenty) Close() error                      { return nil }

// newest is plenty with a LatestReader.
type newest struct{ *plenty }

func (p newest) Latest(_ context.Context, _ *column.SeriesSet, ids []uint32, _ int64, dst *column.Latest) error {
	last := len(p.times) - 1
	for i := range ids {
		dst.Known[i], dst.T[i], dst.V[i] = true, p.times[last], p.vals[last]
	}
	return nil
}

func benchEnv(v column.View) *operator.Env {
	e := &operator.Env{View: v, Dict: vector.NewDict(), Account: budget.NewRoot("query", 0), Samples: operator.NewSamplesum(0, 0)}
	e.LookbackDelta = 5 * minute
	return e
}

func benchNode(b *testing.B, env *operator.Env, build func() operator.Node) {
	b.Helper()
	cells := 0
	b.ReportAllocs()
	for b.Loop() {
		cells = 0
		n := build()
		if err := n.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		err := env.Drain(b.Context(), n, nil, func(x *vector.Batch) error {
			cells += len(x.V)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		n.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(cells), "ns/cell")
}

func BenchmarkInstantSelector(b *testing.B) {
	sel := scan.Selector{}
	one := vector.Grid{Start: 19 * 15 * second, Step: 1, N: 1}
	hour := vector.Grid{Start: 5 * minute, Step: 15 * second, N: 240}
	run := func(name string, v column.View, g vector.Grid, counted bool) {
		b.Run(name, func(b *testing.B) {
			env := benchEnv(v)
			benchNode(b, env, func() operator.Node {
				n := scan.NewInstant(env, sel, g)
				if counted {
					n = operator.NewMeter(env, true).Node(n)
				}
				return n
			})
		})
	}
	few, many := newPlenty(100_000, 20), newPlenty(1000, 260)
	run("latest/100k", newest{few}, one, false)
	run("latest/100k/counted", newest{few}, one, true)
	run("scan/100k", few, one, false)
	run("range/1000x240", many, hour, false)
	run("range/1000x240/counted", many, hour, true)
	run("range/1000x24", many, vector.Grid{Start: 5 * minute, Step: 150 * second, N: 24}, false)
}

func BenchmarkRangeSelector(b *testing.B) {
	for _, counted := range []bool{false, true} {
		b.Run(fmt.Sprintf("1000x240/counted=%t", counted), func(b *testing.B) {
			env := benchEnv(newPlenty(1000, 260))
			steps := 0
			b.ReportAllocs()
			for b.Loop() {
				steps = 0
				n := scan.NewRange(env, scan.Selector{}, 5*minute, vector.Grid{Start: 5 * minute, Step: 15 * second, N: 240})
				if counted {
					n = operator.NewWindowMeter(env, false).Ranges(n)
				}
				if err := n.Open(b.Context()); err != nil {
					b.Fatal(err)
				}
				c := n.Cursor(nil)
				for {
					s, ok, err := c.Next(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					steps += len(s.T)
				}
				c.Close()
				n.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(steps), "ns/sample")
		})
	}
}
