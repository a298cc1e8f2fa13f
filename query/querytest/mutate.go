// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// maxCost bounds the points of nested subqueries in what Mutate and Affordable let through.
const maxCost = 500

// Mutate makes another query of expr, one of somebody else's: it swaps functions, operators and ranges and wraps the
// whole. With rename its selectors become those of the generator's data. "" where nothing valid came of it.
func (g *Generator) Mutate(expr string, rename bool) string {
	e, err := g.parser.ParseExpr(expr)
	if err != nil {
		return ""
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		g.change(n, rename)
		return nil
	})
	text := g.wrapped(e)
	if _, err := g.parser.ParseExpr(text); err != nil || !Affordable(text) {
		return ""
	}
	return text
}

func (g *Generator) change(n parser.Node, rename bool) {
	switch n := n.(type) {
	case *parser.VectorSelector:
		g.changeSelector(n, rename)
	case *parser.MatrixSelector:
		if n.RangeExpr == nil && g.chance(0.3) {
			n.Range = time.Duration(g.set.Interval*(1+g.rng.Int64N(10))) * time.Millisecond
		}
	case *parser.Call:
		if g.chance(0.4) {
			g.changeCall(n)
		}
	case *parser.AggregateExpr:
		if n.Param == nil && g.chance(0.4) {
			all := []parser.ItemType{parser.SUM, parser.AVG, parser.MIN, parser.MAX, parser.COUNT, parser.GROUP, parser.STDDEV, parser.STDVAR}
			n.Op = all[g.rng.IntN(len(all))]
		}
		if rename && len(n.Grouping) > 0 {
			n.Grouping = g.labels("job", "instance", "code", "le")
		}
	case *parser.BinaryExpr:
		g.changeBinary(n, rename)
	}
}

func (g *Generator) changeSelector(s *parser.VectorSelector, rename bool) {
	if rename {
		name := g.metric()
		if strings.Contains(s.Name, "bucket") {
			name = "b_bucket"
		} else if strings.Contains(s.Name, "histogram") {
			name = g.pick("h", "hg", "c", "mix")
		}
		s.Name = name
		s.LabelMatchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name)}
		if g.chance(0.2) {
			s.LabelMatchers = append(s.LabelMatchers, labels.MustNewMatcher(labels.MatchRegexp, "job", g.pick("a", "a|b", ".+")))
		}
	}
	if s.OriginalOffset == 0 && s.OriginalOffsetExpr == nil && g.chance(0.1) {
		s.OriginalOffset = time.Duration(g.rng.Int64N(10)-4) * time.Duration(g.set.Interval) * time.Millisecond
	}
	if s.Timestamp == nil && s.StartOrEnd == 0 && g.chance(0.05) {
		s.StartOrEnd = []parser.ItemType{parser.START, parser.END}[g.rng.IntN(2)]
	}
}

// changeCall swaps a function for one that takes the same arguments.
func (g *Generator) changeCall(c *parser.Call) {
	var same []*parser.Function
	for _, name := range functions(parser.ValueTypeMatrix) {
		same = append(same, parser.Functions[name])
	}
	for _, name := range functions(parser.ValueTypeVector) {
		same = append(same, parser.Functions[name])
	}
	f := same[g.rng.IntN(len(same))]
	for range 20 {
		if takes(f, c.Args) {
			c.Func = f
			return
		}
		f = same[g.rng.IntN(len(same))]
	}
}

func takes(f *parser.Function, args parser.Expressions) bool {
	if len(args) == 0 || len(args) != len(f.ArgTypes) {
		return false
	}
	for i, a := range args {
		if a.Type() != f.ArgTypes[i] {
			return false
		}
	}
	return true
}

func (g *Generator) changeBinary(b *parser.BinaryExpr, rename bool) {
	if !b.Op.IsSetOperator() && !b.Op.IsComparisonOperator() && g.chance(0.4) {
		all := []parser.ItemType{parser.ADD, parser.SUB, parser.MUL, parser.DIV, parser.MOD, parser.POW, parser.ATAN2}
		b.Op = all[g.rng.IntN(len(all))]
	}
	if rename && b.VectorMatching != nil && len(b.VectorMatching.MatchingLabels) > 0 {
		b.VectorMatching.MatchingLabels = g.labels("job", "instance", "code")
		b.VectorMatching.Include = nil
	}
}

// wrapped writes e, at times as the argument of something else.
func (g *Generator) wrapped(e parser.Expr) string {
	text := e.String()
	if e.Type() != parser.ValueTypeVector {
		return text
	}
	switch g.rng.IntN(9) {
	case 0:
		return fmt.Sprintf("%s by (%s) (%s)", g.pick("sum", "avg", "max", "count", "group", "stddev"), list(g.labels("job", "instance", "__name__")), text)
	case 1:
		fn := g.pick("last_over_time", "sum_over_time", "rate", "max_over_time", "changes", "count_over_time", "absent_over_time")
		return fmt.Sprintf("%s((%s)[%dms:%dms])", fn, text, 5*g.set.Interval, g.set.Interval)
	case 2:
		return fmt.Sprintf("(%s) %s %s", text, g.operator(), g.number())
	case 3:
		return fmt.Sprintf("(%s) %s (%s)", text, g.setOperator(), g.instantSelector())
	case 4:
		return fmt.Sprintf("topk(%s, %s)", g.pick("1", "2", "3"), text)
	}
	return text
}

// Affordable reports whether text is a query whose nested subqueries have few points, so that a test may run it.
func Affordable(text string) bool {
	e, err := parser.NewParser(everything()).ParseExpr(text)
	return err == nil && points(e) <= maxCost
}

// points is the product of the points of nested subqueries; a duration that is not a number counts as many.
func points(n parser.Node) float64 {
	most := 1.0
	for c := range parser.ChildrenIter(n) {
		most = max(most, points(c))
	}
	s, ok := n.(*parser.SubqueryExpr)
	if !ok {
		return most
	}
	if s.RangeExpr != nil || s.StepExpr != nil {
		return most * 100
	}
	step := s.Step
	if step == 0 {
		step = time.Minute
	}
	return most * (1 + float64(s.Range)/float64(step))
}
