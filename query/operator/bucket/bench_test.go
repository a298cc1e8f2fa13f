// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// BenchmarkBucket measures estimating alone: the batches of the input are there.
func BenchmarkBucket(b *testing.B) {
	les := []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "+Inf"}
	for _, s := range []struct {
		name            string
		families, steps int
		kind            Kind
		params          int
	}{
		{"quantile", 100, 240, Quantile, 1},
		{"quantiles", 100, 240, Quantiles, 3},
		{"fraction", 100, 240, Fraction, 2},
		{"quantile-instant", 10_000, 1, Quantile, 1},
	} {
		b.Run(s.name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			var rows []operatortest.Series
			for f := range s.families {
				v := make([]float64, s.steps)
				for _, le := range les {
					for i := range v {
						v[i] += r.Float64() * 10
					}
					ls := labels.FromStrings("__name__", "m", "f", fmt.Sprint(f), "le", le)
					rows = append(rows, operatortest.Series{Labels: ls, V: append([]float64(nil), v...)})
				}
			}
			c := Config{Kind: s.kind, Label: "q"}
			for i := range s.params {
				p := make(operatortest.Constants, s.steps)
				for j := range p {
					p[j] = 0.1 + float64(i)*0.4
				}
				c.Params = append(c.Params, p)
			}
			env := newEnv(true)
			in := operatortest.Rows(env, vector.Grid{Step: 1000, N: s.steps}, rows...)
			if err := in.Open(b.Context()); err != nil {
				b.Fatal(err)
			}
			batches := drain(b, in)
			c.Input = in
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				n := New(env, c)
				x, err := newReader(n)
				if err != nil {
					b.Fatal(err)
				}
				for i := range batches {
					if err := x.add(&batches[i]); err != nil {
						b.Fatal(err)
					}
				}
				if err := x.end(); err != nil {
					b.Fatal(err)
				}
				if err := x.rows.finish(n); err != nil {
					b.Fatal(err)
				}
				n.memory.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)*s.steps), "ns/bucket")
		})
	}
}

func drain(b *testing.B, in *operatortest.Node) []vector.Batch {
	b.Helper()
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
			return batches
		}
		batches = append(batches, x)
	}
}
