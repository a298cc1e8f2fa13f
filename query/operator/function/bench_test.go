// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// copied is a node of one batch, which its cursors copy: next to nothing beside what is done to the batch.
type copied struct {
	*operatortest.Node
	batch vector.Batch
}

func (n *copied) read(b *testing.B) error {
	b.Helper()
	_, err := n.Node.Cursor(nil).Next(b.Context(), &n.batch)
	return err
}

func (n *copied) Cursor([]uint32) operator.Cursor { return &copiedCursor{from: &n.batch} }

type copiedCursor struct {
	from *vector.Batch
	done bool
}

func (c *copiedCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	if c.done {
		return false, nil
	}
	c.done = true
	b.Steps = c.from.Steps
	b.IDs, b.Shape = append(b.IDs[:0], c.from.IDs...), append(b.Shape[:0], c.from.Shape...)
	b.V, b.K = append(b.V[:0], c.from.V...), append(b.K[:0], c.from.K...)
	return true, nil
}

func (c *copiedCursor) Close() {}

// BenchmarkCell measures one cell of each kind of operator: rows of 500 steps, or an instant vector of 8192 rows. What
// writing the values into the batch costs is the line named input.
func BenchmarkCell(b *testing.B) {
	queries := []string{
		"m", "m + 2", "2 / m", "m * time()", "m > 0", "m > bool 0", "m > time()", "-m", "abs(m)", "sgn(m)", "clamp(m, -1, 1)",
		"clamp(m, 0, time())", "round(m)", "round(m, 0.1)", "sqrt(m)", "exp(m)", "m % 7", "m ^ 2", "hour(m)", "day_of_week(m)", "month(m)", "timestamp(-m)",
	}
	for _, steps := range []int{500, 1} {
		grid := vector.Grid{Start: 1.6e12, Step: 15000, N: steps}
		rows := randomRows(operator.BatchRows(steps), steps, 0)
		name := map[int]string{500: "range", 1: "instant"}[steps]
		for _, text := range queries {
			label := text
			if text == "m" {
				label = "input"
			}
			b.Run(name+"/"+label, func(b *testing.B) { benchmark(b, text, grid, rows) })
		}
	}
	grid := vector.Grid{Start: 1.6e12, Step: 15000, N: 500}
	gaps := randomRows(operator.BatchRows(500), 500, 0.1)
	for _, text := range []string{"m", "m + 2", "m > 0", "exp(m)"} {
		b.Run("gaps/"+text, func(b *testing.B) { benchmark(b, text, grid, gaps) })
	}
}

func randomRows(rows, steps int, gaps float64) []operatortest.Series {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]operatortest.Series, rows)
	for i := range out {
		s := &out[i]
		s.Labels = labels.FromStrings("__name__", "m", "i", string(rune(' '+i)))
		s.V, s.K = make([]float64, steps), make([]vector.Kind, steps)
		for j := range s.V {
			s.V[j] = math.Floor(r.NormFloat64()*1e9) / 8
			if r.Float64() >= gaps {
				s.K[j] = vector.Float
			}
		}
	}
	return out
}

func benchmark(b *testing.B, text string, grid vector.Grid, rows []operatortest.Series) {
	b.Helper()
	env := &operator.Env{Dict: vector.NewDict()}
	e, err := parser.NewParser(promqltest.TestParserOpts).ParseExpr(text)
	if err != nil {
		b.Fatal(err)
	}
	q := &query{text: text, grid: grid}
	leaf := &copied{Node: operatortest.Rows(env, grid, rows...)}
	from := &builder{env: env, d: &data{grid: grid, rows: rows}, q: q, leaf: leaf}
	n := from.node(b, e)
	if err := n.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := leaf.read(b); err != nil {
		b.Fatal(err)
	}
	var batch vector.Batch
	cells := 0
	for b.Loop() {
		c := n.Cursor(nil)
		for {
			ok, err := c.Next(b.Context(), &batch)
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			cells += len(batch.V)
		}
		c.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(cells), "ns/cell")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSeries measures what is done per series when a query opens: an instant vector of 100,000.
func BenchmarkSeries(b *testing.B) {
	const n = 100_000
	grid := vector.Grid{Start: 1.6e12, Step: 15000, N: 1}
	rows := make([]operatortest.Series, n)
	for i := range rows {
		rows[i] = operatortest.Series{V: []float64{float64(i * 7919 % n)}, Labels: labels.FromStrings("__name__", "m", "instance",
			strconv.Itoa(i/50), "path", strconv.Itoa(i%50), "job", "j")}
	}
	for _, text := range []string{
		"m", "m + 1", `label_replace(m, "x", "$1-$1", "path", "(.).*")`, `label_join(m, "x", "-", "path", "instance")`, "sort(m)",
		`sort_by_label(m, "path")`, "absent(m)",
	} {
		b.Run(text, func(b *testing.B) {
			env := &operator.Env{Dict: vector.NewDict()}
			leaf := &resolved{Node: operatortest.Rows(env, grid, rows...), table: operatortest.Table(env.Dict, rows)}
			leaf.table.Distinct = true
			from := &builder{env: env, d: &data{grid: grid, rows: rows}, q: &query{text: text, grid: grid, instant: true}, leaf: leaf}
			e, err := parser.NewParser(promqltest.TestParserOpts).ParseExpr(text)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				root := from.node(b, e)
				if err := root.Open(b.Context()); err != nil {
					b.Fatal(err)
				}
				root.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
		})
	}
}

// resolved is a node that knows its table already.
type resolved struct {
	*operatortest.Node
	table *vector.Table
}

func (n *resolved) Open(context.Context) error { return nil }

func (n *resolved) Table() *vector.Table { return n.table }

func (n *resolved) Cursor([]uint32) operator.Cursor { return &resolvedCursor{n: n} }

type resolvedCursor struct {
	n    *resolved
	next int
}

func (c *resolvedCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	b.Reset(1)
	n := min(operator.BatchCells, c.n.table.N-c.next)
	if err := b.Reserve(n); err != nil {
		return false, err
	}
	for range n {
		b.IDs, b.Shape = append(b.IDs, uint32(c.next)), append(b.Shape, vector.Full)
		b.V, b.K = append(b.V, float64(c.next*7919%c.n.table.N)), append(b.K, vector.Float)
		c.next++
	}
	return n > 0, nil
}

func (c *resolvedCursor) Close() {}
