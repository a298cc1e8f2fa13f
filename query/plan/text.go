// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// String implements Node.
func (n *Number) String() string { return strconv.FormatFloat(n.Value, 'g', -1, 64) }

// String implements Node.
func (n *Text) String() string { return strconv.Quote(n.Value) }

// String implements Node.
func (s *Select) String() string { return s.text(0) }

// text is the selector with a range, if it has one, and the modifiers as they were written.
func (s *Select) text(span int64) string {
	var b strings.Builder
	name, named := s.Name()
	named = named && model.UTF8Validation.IsValidMetricName(name) && model.LegacyValidation.IsValidMetricName(name)
	if named {
		b.WriteString(name)
	}
	written := 0
	for _, m := range s.Matchers {
		if named && m.Name == labels.MetricName && m.Type == labels.MatchEqual && m.Value == name {
			continue
		}
		b.WriteString([]string{"{", ","}[min(written, 1)])
		b.WriteString(m.String())
		written++
	}
	if written > 0 || !named {
		b.WriteString([]string{"{}", "}"}[min(written, 1)])
	}
	if span > 0 {
		b.WriteString("[" + duration(span) + "]")
	}
	switch {
	case s.Anchored:
		b.WriteString(" anchored")
	case s.Smoothed:
		b.WriteString(" smoothed")
	}
	b.WriteString(modifiers(s.At, s.WrittenOffset))
	return b.String()
}

func modifiers(at *int64, offset int64) string {
	var b strings.Builder
	if at != nil {
		b.WriteString(" @ " + strconv.FormatFloat(float64(*at)/1000, 'f', 3, 64))
	}
	switch {
	case offset > 0:
		b.WriteString(" offset " + duration(offset))
	case offset < 0:
		b.WriteString(" offset -" + duration(-offset))
	}
	return b.String()
}

func duration(ms int64) string {
	return model.Duration(time.Duration(ms) * time.Millisecond).String()
}

// String implements Node.
func (w *Window) String() string { return w.Select.text(w.Range) }

// String implements Node.
func (s *Stamp) String() string {
	if s.Begin {
		return "start_timestamp(" + s.Select.String() + ")"
	}
	return "timestamp(" + s.Select.String() + ")"
}

// String implements Node.
func (s *Subquery) String() string {
	return operand(s.Expr) + "[" + duration(s.Range) + ":" + duration(s.Step) + "]" + modifiers(s.At, s.WrittenOffset)
}

// String implements Node.
func (c *Call) String() string { return c.Func + "(" + list(c.Args) + ")" }

func list(nodes []Node) string {
	texts := make([]string, len(nodes))
	for i, n := range nodes {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

// String implements Node.
func (a *Aggregate) String() string {
	var b strings.Builder
	b.WriteString(a.Op.String())
	switch {
	case a.Without:
		b.WriteString(" without (" + strings.Join(a.Grouping, ", ") + ") ")
	case len(a.Grouping) > 0:
		b.WriteString(" by (" + strings.Join(a.Grouping, ", ") + ") ")
	}
	b.WriteString("(" + list(a.Inputs()))
	for i, m := range a.Only {
		b.WriteString([]string{", only {", ","}[min(i, 1)] + m.String())
	}
	if len(a.Only) > 0 {
		b.WriteString("}")
	}
	b.WriteString(")")
	return b.String()
}

// String implements Node.
func (b *Binary) String() string {
	var s strings.Builder
	s.WriteString(operand(b.LHS) + " " + b.Op.String())
	if b.Bool {
		s.WriteString(" bool")
	}
	if m := b.Matching; m != nil {
		s.WriteString(matching(m))
	}
	s.WriteString(" " + operand(b.RHS))
	return s.String()
}

func matching(m *parser.VectorMatching) string {
	var s strings.Builder
	switch {
	case m.On:
		s.WriteString(" on (" + strings.Join(m.MatchingLabels, ", ") + ")")
	case len(m.MatchingLabels) > 0:
		s.WriteString(" ignoring (" + strings.Join(m.MatchingLabels, ", ") + ")")
	}
	switch m.Card {
	case parser.CardManyToOne:
		s.WriteString(" group_left (" + strings.Join(m.Include, ", ") + ")")
	case parser.CardOneToMany:
		s.WriteString(" group_right (" + strings.Join(m.Include, ", ") + ")")
	case parser.CardOneToOne, parser.CardManyToMany:
	}
	fill := func(name string, v *float64) {
		if v != nil {
			s.WriteString(" " + name + "(" + strconv.FormatFloat(*v, 'g', -1, 64) + ")")
		}
	}
	fill("fill_left", m.FillValues.LHS)
	fill("fill_right", m.FillValues.RHS)
	return s.String()
}

// operand is n in brackets where it needs them.
func operand(n Node) string {
	switch x := n.(type) {
	case *Binary, *Negate:
		return "(" + n.String() + ")"
	case *Broadcast:
		return operand(x.Expr)
	default:
		return n.String()
	}
}

// String implements Node.
func (n *Negate) String() string { return "-" + operand(n.Expr) }

// String implements Node: PromQL has no sign for it.
func (b *Broadcast) String() string { return b.Expr.String() }
