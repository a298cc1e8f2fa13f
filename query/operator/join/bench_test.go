// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/join"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// ones is a node of which every cell is 1, so that a benchmark measures what stands on it. Its cursors fill a batch
// once and then only change the ids.
type ones struct {
	table *vector.Table
	grid  vector.Grid
}

func (o *ones) Open(context.Context) error { return nil }
func (o *ones) Table() *vector.Table       { return o.table }
func (o *ones) Grid() vector.Grid          { return o.grid }
func (o *ones) Close()                     {}

func (o *ones) Cursor(ids []uint32) operator.Cursor {
	if ids == nil {
		ids = make([]uint32, o.table.N)
		for i := range ids {
			ids[i] = uint32(i)
		}
	}
	return &onesCursor{node: o, ids: ids}
}

type onesCursor struct {
	node *ones
	ids  []uint32
	full int
}

func (c *onesCursor) Close() {}

func (c *onesCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	n := min(operator.BatchRows(c.node.grid.N), len(c.ids))
	if c.full == 0 || b.Rows() != n {
		b.Reset(c.node.grid.N)
		if err := b.Reserve(n); err != nil {
			return false, err
		}
		for _, id := range c.ids[:n] {
			i, err := b.Add(id)
			if err != nil {
				return false, err
			}
			v, k, _ := b.Row(i)
			for j := range v {
				v[j], k[j] = 1, vector.Float
			}
			b.Shape[i] = vector.Full
		}
		c.full = n
	}
	copy(b.IDs, c.ids[:n])
	c.ids = c.ids[n:]
	return n > 0, nil
}

// tableOf has pods*per series of 8 labels.
func tableOf(d *vector.Dict, name string, pods, per int) *vector.Table {
	t := &vector.Table{N: pods * per, Dict: d}
	column := func(label string, text func(i int) string) {
		col := make([]uint32, t.N)
		for i := range col {
			col[i], _ = d.Symbol(text(i))
		}
		t.Names, t.Cols = append(t.Names, label), append(t.Cols, col)
	}
	column("__name__", func(int) string { return name })
	for _, l := range []string{"cluster", "job"} {
		column(l, func(i int) string { return fmt.Sprint(l, i/per%7) })
	}
	column("le", func(i int) string { return fmt.Sprint(i % per) })
	column("namespace", func(i int) string { return fmt.Sprint("ns", i/per%7) })
	column("path", func(int) string { return "/" })
	column("pod", func(i int) string { return fmt.Sprint("pod", i/per) })
	column("zone", func(i int) string { return fmt.Sprint("zone", i/per%3) })
	return t
}

func BenchmarkJoin(b *testing.B) {
	measure := func(query string, pods, per, perRight, steps int) {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", query, pods*per, pods*perRight, steps), func(b *testing.B) {
			e, err := newParser().ParseExpr(query)
			if err != nil {
				b.Fatal(err)
			}
			x := e.(*parser.BinaryExpr)
			d := vector.NewDict()
			grid := vector.Grid{Step: step, N: steps}
			left := &ones{tableOf(d, "a", pods, per), grid}
			right := &ones{tableOf(d, "b", pods, perRight), grid}
			b.ReportAllocs()
			cells := 0
			for b.Loop() {
				env := &operator.Env{Dict: d, Account: budget.NewRoot("bench", 0)}
				n := join.New(env, join.Call{Op: x.Op, Bool: x.ReturnBool, Matching: x.VectorMatching, Left: left, Right: right})
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
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(cells), "ns/cell")
		})
	}
	measure("a * on(pod) group_left(le) fill(0) b", 1000, 1, 1, 1000)
	for _, steps := range []int{1, 1000} {
		for _, query := range []string{"a + b", "a > b", "a == bool b", "a and b", "a unless b", "a or b", "a - fill(0) b"} {
			measure(query, 1000, 1, 1, steps)
		}
		measure("a * on(pod) group_left(zone) b", 1000, 10, 1, steps)
		measure("a * ignoring(le) group_left b", 1000, 10, 1, steps)
		measure("a and on(pod) b", 1000, 10, 1, steps)
	}
	measure("a + b", 100000, 1, 1, 1)
	measure("a * on(pod) group_left(zone) b", 10000, 10, 1, 1)
	measure("a and on(pod) b", 10000, 10, 1, 1)
}
