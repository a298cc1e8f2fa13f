// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"fmt"
	"strings"
)

func (g *Generator) metric() string {
	if g.chance(0.15) {
		return g.pick("h", "h", "hg", "c", "mix", "mix")
	}
	return g.pick("m_total", "m_total", "m_total", "n_total", "n_total", "g", "g", "g", "u", "u", "i", "x", "x", "b_bucket", "b_count",
		"pod_a", "pod_b", "sparse", "target_info", "my.metric")
}

func (g *Generator) labelName() string {
	return g.pick("job", "job", "instance", "instance", "code", "ver", "k", "le", "pod", "env", "a.b", "missing", "__name__", "__type__")
}

func (g *Generator) matcher() string {
	switch g.rng.IntN(9) {
	case 0:
		return fmt.Sprintf(`job=%q`, g.pick("a", "b"))
	case 1:
		return fmt.Sprintf(`instance=~%q`, g.pick("0|1", ".*", ".+", "[12]", "2", "", "0|"))
	case 2:
		return fmt.Sprintf(`instance!=%q`, g.pick("0", "1", ""))
	case 3:
		return fmt.Sprintf(`job!~%q`, g.pick("a.*", "b", "c"))
	case 4:
		return fmt.Sprintf(`code=%q`, g.pick("200", "500", ""))
	case 5:
		return `missing=""`
	case 6:
		return fmt.Sprintf(`instance=%q`, g.pick("0", "1", "2"))
	case 7:
		return fmt.Sprintf(`"a.b"=~%q`, g.pick("x", "x|y", ".*"))
	}
	return fmt.Sprintf(`job=~%q`, g.pick("a|b", "a", "(?i:A)", ".*"))
}

// series makes a selector without modifiers.
func (g *Generator) series(metric string) string {
	var ms []string
	for g.chance(0.16) && len(ms) < 3 {
		ms = append(ms, g.matcher())
	}
	switch {
	case g.chance(0.02):
		return fmt.Sprintf(`{__name__=~%q}`, g.pick("m_total|n_total", "h|g", "pod_.", ".+", "b_.*", "m.*"))
	case metric == "my.metric":
		return "{" + strings.Join(append([]string{`"my.metric"`}, ms...), ", ") + "}"
	case g.chance(0.03):
		return fmt.Sprintf("{%s}", strings.Join(append([]string{fmt.Sprintf("__name__=%q", metric)}, ms...), ","))
	case len(ms) == 0:
		return metric
	}
	return metric + "{" + strings.Join(ms, ",") + "}"
}

// modified adds offset and @ in any order.
func (g *Generator) modified(selector string) string {
	offset, at := "", ""
	if g.chance(0.12) {
		offset = " offset " + g.offset()
	}
	if g.chance(0.1) {
		at = " @ " + g.pick("start()", "end()", "start()", "end()", g.instant())
	}
	if g.chance(0.5) {
		return selector + offset + at
	}
	return selector + at + offset
}

// instant is a time around the data in seconds.
func (g *Generator) instant() string {
	t := g.set.Start - g.set.Interval + g.rng.Int64N(g.set.End-g.set.Start+2*g.set.Interval)
	if g.chance(0.05) {
		t = -t
	}
	return fmt.Sprintf("%.3f", float64(t)/1000)
}

func (g *Generator) instantSelector() string {
	s := g.series(g.metric())
	if g.chance(0.06) {
		s += g.pick(" smoothed", " smoothed", " anchored")
	}
	return g.modified(s)
}

// span is a duration of a few intervals, in one of the ways to write it.
func (g *Generator) span(intervals int64) string {
	ms := g.set.Interval * (1 + g.rng.Int64N(intervals))
	switch g.rng.IntN(14) {
	case 0:
		return fmt.Sprintf("%dms", ms+g.rng.Int64N(1000))
	case 1:
		return fmt.Sprintf("%v", float64(ms)/1000)
	case 2:
		return fmt.Sprintf("(%ds + 1m)", ms/1000)
	case 3:
		return g.pick("step()", "step() * 3", "2*step()", "step()+1m")
	case 4:
		return g.pick("range()", "range() / 2", "max_of(range(), 1m)", "min_of(range(), 5m)", "max_of(step(), 2m)")
	case 5:
		return g.pick("2m", "5m", "1h", "1m30s", "10m", "3m ^ 1", "7m % 4m", "-1m + 3m", "(1m)", "1m * 2", "0x3C")
	}
	return fmt.Sprintf("%ds", ms/1000)
}

func (g *Generator) offset() string {
	switch g.rng.IntN(8) {
	case 0:
		return "-" + fmt.Sprintf("%ds", (g.set.Interval*(1+g.rng.Int64N(6)))/1000)
	case 1:
		return g.pick("step()", "-step()", "(step() * 2)", "range()", "-min_of(range(), 1m)", "max_of(step(), 3s)", "(-1m)", "-(1m - 30s)")
	case 2:
		return g.pick("30", "-30", "0s", "1.5")
	}
	return fmt.Sprintf("%ds", (g.set.Interval*(1+g.rng.Int64N(6)))/1000)
}

// rangeSelector makes a matrix selector; extended is what the function around it allows beside plain ranges.
func (g *Generator) rangeSelector(metric string, extended []string) string {
	s := g.series(metric) + "[" + g.span(15) + "]"
	if len(extended) > 0 && g.chance(0.3) {
		s += " " + g.pick(extended...)
	} else if g.chance(0.01) {
		s += " " + g.pick("anchored", "smoothed")
	}
	return g.modified(s)
}

// matrix makes a range vector for the function fn.
func (g *Generator) matrix(depth int, fn string) string {
	var extended []string
	switch fn {
	case "rate", "increase", "delta":
		extended = []string{"anchored", "smoothed"}
	case "changes", "resets":
		extended = []string{"anchored"}
	}
	if depth <= 0 || g.cost > 8 || g.chance(0.75) {
		return g.rangeSelector(g.metric(), extended)
	}
	return g.subquery(depth)
}

func (g *Generator) subquery(depth int) string {
	points := 2 + g.rng.Int64N(8)
	g.cost *= int(points)
	step := g.pickInt(g.set.Interval, g.set.Interval, 2*g.set.Interval, g.set.Interval/2, 60_000, 13_007)
	text := fmt.Sprintf("%dms", step)
	switch {
	case g.chance(0.15) && points*60_000 < 12*60_000:
		step, text = 60_000, ""
	case g.chance(0.05):
		text = g.pick("step()", "1m + 5s", "max_of(step(), 30s)")
	}
	inner := g.vector(depth - 1)
	if g.chance(0.1) {
		inner = g.scalar(depth - 1)
	}
	return g.modified(fmt.Sprintf("(%s)[%dms:%s]", inner, points*step+g.rng.Int64N(2)*g.rng.Int64N(step), text))
}
