// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// functions lists the functions whose first argument has type first; those with a string argument are made apart.
func functions(first parser.ValueType) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(parser.Functions)) {
		f := parser.Functions[name]
		if len(f.ArgTypes) == 0 || slices.Contains(f.ArgTypes, parser.ValueTypeString) || f.ReturnType != parser.ValueTypeVector {
			continue
		}
		if f.ArgTypes[0] == first && name != "info" && !strings.HasPrefix(name, "sort") && !strings.HasPrefix(name, "absent") {
			names = append(names, name)
		}
	}
	return names
}

// overTime makes a call of a function over a range vector.
func (g *Generator) overTime(depth int) string {
	switch g.rng.IntN(8) {
	case 0:
		return fmt.Sprintf("quantile_over_time(%s, %s)", g.parameter(depth-1), g.matrix(depth-1, ""))
	case 1, 2, 3:
		fn := g.pick("rate", "rate", "increase", "delta", "changes", "resets", "irate", "idelta")
		return fmt.Sprintf("%s(%s)", fn, g.matrix(depth-1, fn))
	}
	fn := g.pick(functions(parser.ValueTypeMatrix)...)
	args := []string{g.matrix(depth-1, fn)}
	for range parser.Functions[fn].ArgTypes[1:] {
		args = append(args, g.parameter(depth-1))
	}
	return fmt.Sprintf("%s(%s)", fn, strings.Join(args, ", "))
}

// parameter is a scalar that is often between 0 and 1.
func (g *Generator) parameter(depth int) string {
	if g.chance(0.6) {
		return g.pick("0.5", "0.9", "0.1", "0.99", "0.3", "1", "0", "1.1", "-0.1", "NaN")
	}
	return g.scalar(depth)
}

// pointwise makes a call of a function over an instant vector and scalars.
func (g *Generator) pointwise(depth int) string {
	fn := g.pick(functions(parser.ValueTypeVector)...)
	for strings.HasPrefix(fn, "histogram_") && g.chance(0.8) { // floats have none: histogramCall makes most of those
		fn = g.pick(functions(parser.ValueTypeVector)...)
	}
	if g.chance(0.15) {
		fn = g.pick("timestamp", "start_timestamp", "round", "clamp", "scalar_vector")
	}
	if fn == "scalar_vector" {
		return g.pick("hour", "minute", "day_of_week", "month", "year", "days_in_month", "day_of_year", "day_of_month") + "()"
	}
	f := parser.Functions[fn]
	args := []string{g.vector(depth - 1)}
	for i, typ := range f.ArgTypes[1:] {
		if typ != parser.ValueTypeScalar || (f.Variadic > 0 && i+1 >= len(f.ArgTypes)-f.Variadic && g.chance(0.5)) {
			break
		}
		args = append(args, g.scalar(depth-1))
	}
	return fmt.Sprintf("%s(%s)", fn, strings.Join(args, ", "))
}

// buckets makes a vector that is likely to be of histograms, classic or native.
func (g *Generator) buckets(depth int) string {
	if g.chance(0.1) {
		return g.vector(depth)
	}
	metric := g.pick("b_bucket", "b_bucket", "h", "h", "hg", "c", "mix")
	inner := g.modified(g.series(metric))
	if g.chance(0.6) {
		fn := g.pick("rate", "increase", "delta", "last_over_time", "sum_over_time", "avg_over_time")
		inner = fmt.Sprintf("%s(%s)", fn, g.rangeSelector(metric, nil))
	}
	switch g.rng.IntN(4) {
	case 0:
		return fmt.Sprintf("sum by (%s) (%s)", g.pick("le", "le, job", "job", "le, instance", "job, __name__, le"), inner)
	case 1:
		return fmt.Sprintf("%s without (%s) (%s)", g.pick("sum", "avg"), g.pick("job", "instance", "le", "job, instance"), inner)
	}
	return inner
}

func (g *Generator) histogramCall(depth int) string {
	v := g.buckets(depth - 1)
	switch g.rng.IntN(10) {
	case 0, 1, 2:
		return fmt.Sprintf("histogram_quantile(%s, %s)", g.parameter(depth-1), v)
	case 3:
		return fmt.Sprintf("histogram_fraction(%s, %s, %s)", g.scalar(depth-1), g.scalar(depth-1), v)
	case 4:
		return fmt.Sprintf("histogram_quantiles(%s, %q, %s)", v, g.pick("q", "job", "le", "quantile"), strings.Join(g.some("0.5", "0.9", "0.99", "1", "0.1"), ", "))
	case 5:
		return fmt.Sprintf("(%s) %s %s", v, g.pick("</", ">/"), g.scalar(depth-1))
	case 6:
		return fmt.Sprintf("(%s) %s (%s)", v, g.pick("+", "-", "==", "!=", "*", "/"), g.buckets(depth-1))
	}
	return fmt.Sprintf("%s(%s)", g.pick("histogram_avg", "histogram_count", "histogram_sum", "histogram_stddev", "histogram_stdvar"), v)
}

// relabel makes label_replace and label_join, whose results are often no longer distinct.
func (g *Generator) relabel(depth int) string {
	v := g.vector(depth - 1)
	dst := g.pick("dst", "dst", "job", "instance", "__name__", "a.b", "code")
	if g.chance(0.7) {
		return fmt.Sprintf("label_replace(%s, %q, %q, %q, %q)", v, dst, g.pick("$1", "x$1", "", "${1}_${2}", "$0", "fix", "$n"),
			g.labelName(), g.pick("(.*)", "(.)(.*)", "a", ".+", "", "(?P<n>[ab])", "([0-9]+).*"))
	}
	args := []string{v, fmt.Sprintf("%q", dst), fmt.Sprintf("%q", g.pick("-", "", "__"))}
	for _, n := range g.labels("job", "instance", "__name__", "missing", "code") {
		args = append(args, fmt.Sprintf("%q", n))
	}
	return fmt.Sprintf("label_join(%s)", strings.Join(args, ", "))
}

func (g *Generator) info(depth int) string {
	v := g.vector(depth - 1)
	if g.chance(0.5) {
		v = g.pick("g", "n_total", "rate(n_total[5m])", "m_total", `h{job="a"}`, "sum by (job, instance) (m_total)", "target_info")
	}
	switch g.rng.IntN(6) {
	case 0, 1:
		return fmt.Sprintf("info(%s)", v)
	case 2:
		return fmt.Sprintf(`info(%s, {__name__=%s})`, v, g.pick(`"build_info"`, `~".+_info"`, `~"target_info|build_info"`)) // = + ~ joins to =~
	case 3:
		return fmt.Sprintf(`info(%s, {__name__!=%q, %s})`, v, g.pick("target_info", "build_info"), `rev=~".*"`)
	}
	return fmt.Sprintf(`info(%s, {%s})`, v, strings.Join(append(g.labels(`ver="1"`, `env=~".+"`, `ver!="2"`), `env=~".*"`), ","))
}

func (g *Generator) sorted(depth int) string {
	v := g.vector(depth - 1)
	if g.chance(0.5) {
		return fmt.Sprintf("%s(%s)", g.pick("sort", "sort_desc"), v)
	}
	args := []string{v}
	for _, n := range g.labels("job", "instance", "code", "missing") {
		args = append(args, fmt.Sprintf("%q", n))
	}
	return fmt.Sprintf("%s(%s)", g.pick("sort_by_label", "sort_by_label_desc"), strings.Join(args, ", "))
}

func (g *Generator) absent(depth int) string {
	if g.chance(0.5) {
		return "absent(" + g.pick(g.vector(depth-1), `gone{job="a",x=~"y",z!="1"}`, `g{job="a",job="b"}`, `sparse{job="a"}`, "pod_a") + ")"
	}
	return "absent_over_time(" + g.pick(g.matrix(depth-1, ""), `gone{job="a"}[5m]`, `pod_b{pod="1"}[1m]`) + ")"
}
