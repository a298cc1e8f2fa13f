// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// benchRows returns rows of floats, in a number of groups by label g.
func benchRows(rows, groups, steps int, gaps bool) []operatortest.Series {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]operatortest.Series, rows)
	for i := range out {
		v := make([]float64, steps)
		var k []vector.Kind
		if gaps {
			k = make([]vector.Kind, steps)
		}
		for j := range v {
			v[j] = r.Float64() * 1000
			if gaps && r.IntN(10) > 0 {
				k[j] = vector.Float
			}
		}
		out[i] = operatortest.Series{
			Labels: labels.FromStrings("__name__", "m", "g", fmt.Sprint(i%groups), "i", fmt.Sprint(i)), V: v, K: k,
		}
	}
	return out
}

// filled returns an aggregation and all the batches of its input.
func filled(b *testing.B, c Config, rows []operatortest.Series, steps int) (*node, []vector.Batch) {
	b.Helper()
	env := newEnv(true)
	in := operatortest.Rows(env, vector.Grid{Start: 0, Step: 1000, N: steps}, rows...)
	if err := in.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	var batches []vector.Batch
	cursor := in.Cursor(nil)
	defer cursor.Close()
	for {
		var x vector.Batch
		ok, err := cursor.Next(b.Context(), &x)
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			break
		}
		batches = append(batches, x)
	}
	return New(env, c, in).(*node), batches
}

// BenchmarkAggregate measures aggregating alone: the batches of the input are there.
func BenchmarkAggregate(b *testing.B) {
	shapes := []struct {
		name                string
		rows, groups, steps int
		gaps                bool
	}{
		{"range", 2000, 20, 240, false},
		{"range-gaps", 2000, 20, 240, true},
		{"range-many", 2000, 1000, 240, false},
		{"instant-one", 100_000, 1, 1, false},
		{"instant", 100_000, 1000, 1, false},
		{"instant-many", 100_000, 50_000, 1, false},
	}
	ops := map[string]Config{
		"sum": {Op: parser.SUM}, "avg": {Op: parser.AVG}, "max": {Op: parser.MAX}, "count": {Op: parser.COUNT},
		"stddev": {Op: parser.STDDEV}, "quantile": {Op: parser.QUANTILE}, "topk": {Op: parser.TOPK},
		"limitk": {Op: parser.LIMITK}, "none": {Op: parser.GROUP},
	}
	params := map[string]float64{"quantile": 0.9, "topk": 5, "limitk": 5}
	for _, s := range shapes {
		rows := benchRows(s.rows, s.groups, s.steps, s.gaps)
		for _, name := range []string{"none", "sum", "avg", "max", "count", "stddev", "quantile", "topk", "limitk"} {
			b.Run(s.name+"/"+name, func(b *testing.B) {
				c := ops[name]
				c.Grouping = []string{"g"}
				param := make(operatortest.Constants, s.steps)
				for i := range param {
					param[i] = params[name]
				}
				c.Param = param
				n, batches := filled(b, c, rows, s.steps)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					n.group = nil
					x, err := n.sink()
					if err != nil {
						b.Fatal(err)
					}
					for i := range batches {
						if err := x.add(&batches[i]); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := x.end(); err != nil {
						b.Fatal(err)
					}
					n.held.Release()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.rows*s.steps), "ns/cell")
			})
		}
	}
}
