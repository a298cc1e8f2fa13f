// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/prometheus/promql"
)

func text(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

func join(s []string) string { return strings.Join(s, "\n  ") }

func diffSeries(g, w promql.Series, same func(a, b float64) bool) string {
	if d := diffFloats(g.Floats, w.Floats, same); d != "" {
		return d
	}
	for i, x := range w.Histograms {
		if i >= len(g.Histograms) {
			return fmt.Sprintf("no histogram at %d", x.T)
		}
		y := g.Histograms[i]
		if y.T != x.T {
			return fmt.Sprintf("histogram at %d, want at %d", y.T, x.T)
		}
		if !equalHistograms(y.H, x.H) {
			return fmt.Sprintf("at %d: %v (%v)\nwant %v (%v)", x.T, y.H, y.H.CounterResetHint, x.H, x.H.CounterResetHint)
		}
	}
	if len(g.Histograms) > len(w.Histograms) {
		return fmt.Sprintf("unexpected histogram at %d", g.Histograms[len(w.Histograms)].T)
	}
	return ""
}

func diffFloats(g, w []promql.FPoint, same func(a, b float64) bool) string {
	for i, x := range w {
		if i >= len(g) {
			return fmt.Sprintf("no value at %d, want %v", x.T, x.F)
		}
		y := g[i]
		if y.T != x.T {
			return fmt.Sprintf("value %v at %d, want %v at %d", y.F, y.T, x.F, x.T)
		}
		if !same(y.F, x.F) {
			return fmt.Sprintf("at %d: %v (%x), want %v (%x)", x.T, y.F, math.Float64bits(y.F), x.F, math.Float64bits(x.F))
		}
	}
	if len(g) > len(w) {
		return fmt.Sprintf("unexpected value %v at %d", g[len(w)].F, g[len(w)].T)
	}
	return ""
}
