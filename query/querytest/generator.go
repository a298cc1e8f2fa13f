// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// Generator makes queries over a data set of RandomData: typed, so that most of them are valid, and of all that the
// language has. It makes the same queries for the same seed.
type Generator struct {
	rng    *rand.Rand
	set    DataSet
	parser parser.Parser
	// cost bounds the points of nested subqueries, which multiply.
	cost int
}

// NewGenerator returns a generator of queries over set.
func NewGenerator(seed uint64, set DataSet) *Generator {
	return &Generator{rng: rand.New(rand.NewPCG(seed, 3)), set: set, parser: parser.NewParser(everything())}
}

// Query makes an instant or a range query.
func (g *Generator) Query() Query { return g.Timed(g.Text()) }

// Timed puts text at a time, or at steps, somewhere around the data.
func (g *Generator) Timed(text string) Query {
	margin := 2 * g.set.Interval
	start := g.set.Start - margin + g.rng.Int64N(g.set.End-g.set.Start+2*margin)
	if g.chance(0.3) {
		start -= start % 60_000
	}
	if g.chance(0.35) {
		return At(text, time.UnixMilli(start))
	}
	step := g.pickInt(g.set.Interval, g.set.Interval, g.set.Interval*2, g.set.Interval/2, 60_000, 7_001, 300_000)
	return Between(text, time.UnixMilli(start), time.UnixMilli(start+step*g.rng.Int64N(30)+g.rng.Int64N(step)), time.Duration(step)*time.Millisecond)
}

// Text makes the text of a query that a parser takes.
func (g *Generator) Text() string {
	for {
		g.cost = 1
		text := g.root()
		if _, err := g.parser.ParseExpr(text); err == nil {
			return text
		}
	}
}

func (g *Generator) root() string {
	depth := 1 + g.rng.IntN(4)
	switch n := g.rng.IntN(100); {
	case n < 3:
		return g.scalar(depth)
	case n < 5:
		return g.matrix(depth, "")
	case n < 6:
		return g.text()
	}
	return g.vector(depth)
}

func (g *Generator) chance(p float64) bool          { return g.rng.Float64() < p }
func (g *Generator) pick(from ...string) string     { return from[g.rng.IntN(len(from))] }
func (g *Generator) pickInt(from ...int64) int64    { return from[g.rng.IntN(len(from))] }
func (g *Generator) some(from ...string) []string   { return from[:g.rng.IntN(len(from)+1)] }
func (g *Generator) labels(from ...string) []string { return g.some(g.shuffled(from)...) }

func (g *Generator) shuffled(from []string) []string {
	s := slices.Clone(from)
	g.rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

// vector makes an expression of type instant vector that nests at most depth deep.
func (g *Generator) vector(depth int) string {
	if depth <= 0 {
		return g.instantSelector()
	}
	kinds := []struct {
		weight int
		make   func(int) string
	}{
		{8, func(int) string { return g.instantSelector() }},
		{22, g.overTime},
		{14, g.pointwise},
		{16, g.aggregation},
		{18, g.vectorBinary},
		{8, g.scalarBinary},
		{9, g.histogramCall},
		{4, g.relabel},
		{3, g.info},
		{3, g.sorted},
		{3, func(d int) string { return g.pick("-", "+", "-") + g.operand(d-1) }},
		{3, func(d int) string { return "(" + g.vector(d-1) + ")" }},
		{3, func(d int) string { return "vector(" + g.scalar(d-1) + ")" }},
		{4, g.absent},
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := g.rng.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k.make(depth)
		}
	}
	return g.instantSelector()
}

// operand is a vector that may stand beside an operator.
func (g *Generator) operand(depth int) string {
	v := g.vector(depth)
	if _, err := g.parser.ParseExpr(v); err != nil {
		return "(" + v + ")"
	}
	e, _ := g.parser.ParseExpr(v)
	switch e.(type) {
	case *parser.BinaryExpr, *parser.UnaryExpr:
		if g.chance(0.8) {
			return "(" + v + ")"
		}
	}
	return v
}

func (g *Generator) number() string {
	return g.pick("0", "1", "2", "-1", "0.5", "0.9", "1e3", "10", "3", "100", "-0.25", "NaN", "Inf", "-Inf", "0x1F", "5m", "1e-3", "-0", "7", ".5")
}

// scalar makes an expression of type scalar.
func (g *Generator) scalar(depth int) string {
	if depth <= 0 || g.chance(0.4) {
		return g.number()
	}
	switch g.rng.IntN(11) {
	case 0:
		return "time()"
	case 1:
		return "pi()"
	case 2:
		return g.pick("start()", "end()", "step()", "range()")
	case 3:
		return fmt.Sprintf("%s(%s, %s)", g.pick("min_of", "max_of"), g.scalar(depth-1), g.scalar(depth-1))
	case 4:
		return fmt.Sprintf("(%s %s %s)", g.scalar(depth-1), g.pick("+", "-", "*", "/", "%", "^", "atan2"), g.scalar(depth-1))
	case 5:
		return fmt.Sprintf("(%s %s bool %s)", g.scalar(depth-1), g.comparison(), g.scalar(depth-1))
	case 6:
		return "-" + g.scalar(depth-1)
	case 7:
		return fmt.Sprintf(`scalar(i{instance=%q})`, g.pick("0", "1", "2"))
	case 8:
		return "scalar(" + g.pick("sum", "max", "count") + "(" + g.vector(depth-1) + "))"
	case 9:
		return "scalar(" + g.vector(depth-1) + ")"
	}
	return g.number()
}

func (g *Generator) comparison() string { return g.pick("==", "!=", "<", ">", "<=", ">=") }

// text makes a string.
func (g *Generator) text() string {
	s := g.pick("", "job", "instance", "x y", "ü", `a\b`, `say "no"`)
	return g.pick(fmt.Sprintf("%q", s), "`"+s+"`")
}

func list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		if quoted[i] = n; strings.Contains(n, ".") {
			quoted[i] = fmt.Sprintf("%q", n)
		}
	}
	return strings.Join(quoted, ", ")
}
