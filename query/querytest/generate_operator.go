// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"fmt"
	"strings"
)

func (g *Generator) aggregation(depth int) string {
	inner, param := g.vector(depth-1), ""
	op := g.pick("sum", "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile",
		"count_values", "limitk", "limit_ratio")
	switch op {
	case "topk", "bottomk", "limitk":
		param = g.pick("1", "2", "3", "5", "0", g.scalar(depth-1), `scalar(i{instance="1"})`, "1.9", "NaN", "-1")
	case "limit_ratio":
		param = g.pick("0.5", "-0.5", "0.1", "1", "-1", "0", "1.5", "-3", g.scalar(depth-1), "time() % 1")
	case "quantile":
		param = g.parameter(depth - 1)
	case "count_values":
		param = fmt.Sprintf("%q", g.pick("value", "job", "v", "__name__", "a.b"))
	}
	if param != "" {
		inner = param + ", " + inner
	}
	group := ""
	switch g.rng.IntN(4) {
	case 0, 1:
		group = "by (" + list(g.labels("job", "instance", "code", "le", "__name__", "missing", "pod", "a.b", "ver")[:]) + ")"
	case 2:
		group = "without (" + list(g.labels("job", "instance", "code", "le", "__name__", "k")) + ")"
	}
	switch {
	case group == "":
		return fmt.Sprintf("%s(%s)", op, inner)
	case g.chance(0.5):
		return fmt.Sprintf("%s %s (%s)", op, group, inner)
	}
	return fmt.Sprintf("%s(%s) %s", op, inner, group)
}

// vectorBinary makes an operation of two vectors: half of them joins that are likely to match.
func (g *Generator) vectorBinary(depth int) string {
	if g.chance(0.12) {
		return fmt.Sprintf("%s %s %s", g.operand(depth-1), g.setOperator(), g.operand(depth-1))
	}
	op := g.operator()
	if g.chance(0.5) {
		return g.likelyJoin(op)
	}
	return fmt.Sprintf("%s %s %s%s %s", g.operand(depth-1), op, g.matching(), g.fill(), g.operand(depth-1))
}

func (g *Generator) setOperator() string {
	op := g.pick("and", "or", "unless", "or")
	switch g.rng.IntN(4) {
	case 0:
		op += " on (" + list(g.labels("job", "instance", "code")) + ")"
	case 1:
		op += " ignoring (" + list(g.labels("instance", "code", "pod", "k")) + ")"
	}
	return op
}

func (g *Generator) operator() string {
	if g.chance(0.35) {
		op := g.comparison()
		if g.chance(0.5) {
			op += " bool"
		}
		return op
	}
	return g.pick("+", "-", "*", "/", "%", "^", "atan2", "+", "-", "/", "</", ">/")
}

func (g *Generator) likelyJoin(op string) string {
	r := func(metric string) string {
		switch g.rng.IntN(4) {
		case 0:
			return g.series(metric)
		case 1:
			return fmt.Sprintf("%s(%s)", g.pick("rate", "increase", "delta", "avg_over_time", "last_over_time"), g.rangeSelector(metric, nil))
		case 2:
			return fmt.Sprintf("sum by (%s) (%s)", g.pick("job", "job, instance", "job, instance, code", "job, code"), g.series(metric))
		}
		return g.modified(g.series(metric))
	}
	fill := g.fill()
	switch g.rng.IntN(9) {
	case 0:
		return fmt.Sprintf("%s %s ignoring (code) group_left%s %s", r("m_total"), op, fill, r("n_total"))
	case 1:
		return fmt.Sprintf("%s %s on (job, instance) group_left (%s)%s target_info", r(g.pick("g", "n_total", "h")), op, list(g.labels("ver", "env")), fill)
	case 2:
		return fmt.Sprintf("%s %s on (job) group_right (%s)%s %s", r("u"), op, list(g.labels("ver")), fill, r(g.pick("m_total", "g", "pod_a")))
	case 3:
		return fmt.Sprintf("%s %s%s %s", r(g.pick("g", "n_total", "i", "h")), op, fill, r(g.pick("g", "n_total", "i", "h")))
	case 4:
		return fmt.Sprintf("%s %s on (job, pod)%s %s", r("pod_a"), op, fill, r("pod_b"))
	case 5:
		return fmt.Sprintf("%s %s ignoring (ver)%s %s", r("u"), op, fill, g.pick("sum by (job) (g)", "max by (job) (m_total)"))
	case 6:
		return fmt.Sprintf("%s %s ignoring (code)%s %s", r(`m_total{code="200"}`), op, fill, r(`m_total{code="500"}`))
	case 7:
		return fmt.Sprintf("%s %s on ()%s %s", g.pick("sum", "max", "count")+"("+r("g")+")", op, fill, g.pick("min", "avg")+"("+r("n_total")+")")
	}
	m := g.metric()
	return fmt.Sprintf("%s %s%s %s", r(m), op, fill, r(m))
}

// matching makes vector matching at random; much of it fails.
func (g *Generator) matching() string {
	var b strings.Builder
	switch g.rng.IntN(3) {
	case 0:
		return ""
	case 1:
		b.WriteString("on (" + list(g.labels("job", "instance", "code")) + ")")
	case 2:
		b.WriteString("ignoring (" + list(g.labels("code", "instance", "le", "k", "pod", "ver")) + ")")
	}
	if g.chance(0.5) {
		b.WriteString(" " + g.pick("group_left", "group_right"))
		if g.chance(0.6) {
			b.WriteString(" (" + list(g.labels("ver", "env", "pod", "missing")) + ")")
		}
	}
	return b.String()
}

func (g *Generator) fill() string {
	if !g.chance(0.2) {
		return ""
	}
	n := func() string { return g.pick("0", "1", "-1", "NaN", "0.5", "Inf") }
	switch g.rng.IntN(4) {
	case 0:
		return " fill (" + n() + ")"
	case 1:
		return " fill_left (" + n() + ")"
	case 2:
		return " fill_right (" + n() + ")"
	}
	return " fill_left (" + n() + ") fill_right (" + n() + ")"
}

// scalarBinary makes an operation of a vector and a scalar, in either order.
func (g *Generator) scalarBinary(depth int) string {
	op := g.operator()
	a, b := g.operand(depth-1), g.scalar(depth-1)
	if g.chance(0.4) && op != "</" && op != ">/" {
		a, b = b, a
	}
	return fmt.Sprintf("%s %s %s", a, op, b)
}
