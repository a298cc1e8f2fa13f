// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// maxTries bounds how often Shrink asks whether a smaller case still fails.
const maxTries = 800

// Shrink makes c smaller as long as fails says that it still shows a difference: the series, the query, its steps,
// then the samples.
func Shrink(c Case, fails func(Case) bool) Case {
	s := &shrinker{best: c, fails: fails, tries: maxTries}
	for round := true; round && s.tries > 0; {
		round = s.series()
		round = s.text() || round
		round = s.steps() || round
		round = s.samples() || round
	}
	return s.best
}

type shrinker struct {
	best  Case
	fails func(Case) bool
	tries int
}

// try keeps c if it still fails.
func (s *shrinker) try(c Case) bool {
	if s.tries--; s.tries < 0 || !s.fails(c) {
		return false
	}
	s.best = c
	return true
}

// text replaces the query by a smaller one until none fails.
func (s *shrinker) text() (smaller bool) {
	for again := true; again; {
		again = false
		for _, text := range smallerTexts(s.best.Query.Text) {
			c := s.best
			c.Query.Text = text
			if s.try(c) {
				again, smaller = true, true
				break
			}
		}
	}
	return smaller
}

// trimmings are parts that a query can often do without.
func trimmings() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(` offset (-?[a-z]+\([^()]*\)|-?\([^()]*\)|[^\s)\]]+)`),
		regexp.MustCompile(` @ (start\(\)|end\(\)|-?[0-9.]+)`),
		regexp.MustCompile(` (anchored|smoothed|bool)\b`),
		regexp.MustCompile(`\b(by|without) \([^()]*\)`),
		regexp.MustCompile(` (fill|fill_left|fill_right) ?\([^()]*\)`),
		regexp.MustCompile(` (group_left|group_right)( ?\([^()]*\))?`),
		regexp.MustCompile(` (on|ignoring) ?\([^()]*\)`),
		regexp.MustCompile(`\{[^{}]*\}`),
	}
}

// smallerTexts lists queries that are shorter than text, the shortest first.
func smallerTexts(text string) []string {
	p := parser.NewParser(everything())
	e, err := p.ParseExpr(text)
	if err != nil {
		return nil
	}
	var found []string
	add := func(t string) {
		if t == text || len(t) >= len(text) || slices.Contains(found, t) {
			return
		}
		if _, err := p.ParseExpr(t); err == nil {
			found = append(found, t)
		}
	}
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		if _, ok := n.(parser.Expr); !ok { // nil too: the end of a node's children
			return nil
		}
		at := n.PositionRange()
		if int(at.End) > len(text) || at.Start >= at.End {
			return nil
		}
		part := text[at.Start:at.End]
		add(part)
		add(text[:at.Start] + "1" + text[at.End:])
		for _, above := range path { // put a part in the place of one that it is in
			out := above.PositionRange()
			if int(out.End) <= len(text) && out.Start <= at.Start && out.End >= at.End {
				add(text[:out.Start] + part + text[out.End:])
				add(text[:out.Start] + "(" + part + ")" + text[out.End:])
			}
		}
		return nil
	})
	for _, t := range trimmings() {
		for _, at := range t.FindAllStringIndex(text, -1) {
			add(text[:at[0]] + text[at[1]:])
		}
	}
	slices.SortStableFunc(found, func(a, b string) int { return len(a) - len(b) })
	return found
}

// steps makes a range query an instant one, or one of fewer steps.
func (s *shrinker) steps() (smaller bool) {
	q := s.best.Query
	if q.Instant() {
		return false
	}
	with := func(start, end time.Time, step time.Duration) bool {
		c := s.best
		c.Query.Start, c.Query.End, c.Query.Step = start, end, step
		return s.try(c)
	}
	for t := q.Start; !t.After(q.End); t = t.Add(q.Step) {
		if with(t, t, 0) {
			return true
		}
	}
	for again := true; again; {
		q = s.best.Query
		n := q.End.Sub(q.Start) / q.Step
		half := q.Start.Add((n / 2) * q.Step)
		again = n >= 1 && (with(q.Start, half, q.Step) || with(half, q.End, q.Step) ||
			with(q.Start.Add(q.Step), q.End, q.Step) || with(q.Start, q.Start.Add((n-1)*q.Step), q.Step))
		smaller = smaller || again
	}
	return smaller
}

// series drops series, many at a time and then fewer.
func (s *shrinker) series() (smaller bool) {
	for size := len(s.best.Data.Series) / 2; size > 0; size /= 2 {
		for from := 0; from < len(s.best.Data.Series); {
			c := s.best
			to := min(from+size, len(c.Data.Series))
			c.Data.Series = slices.Delete(slices.Clone(c.Data.Series), from, to)
			if s.try(c) {
				smaller = true
			} else {
				from = to
			}
		}
	}
	return smaller
}

// samples drops samples of each series, many at a time and then fewer.
func (s *shrinker) samples() (smaller bool) {
	for i := range s.best.Data.Series {
		for size := len(s.best.Data.Series[i].Samples) / 2; size > 0; size /= 2 {
			for from := 0; from < len(s.best.Data.Series[i].Samples); {
				c := s.best
				se := c.Data.Series[i]
				to := min(from+size, len(se.Samples))
				se.Samples = slices.Delete(slices.Clone(se.Samples), from, to)
				c.Data.Series = slices.Clone(c.Data.Series)
				c.Data.Series[i] = se
				if len(se.Samples) > 0 && s.try(c) {
					smaller = true
				} else {
					from = to
				}
			}
		}
	}
	return smaller
}
