// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// canonicalMatchers writes the matchers of selectors in one form, so that selectors that mean the same look the same
// and the index is asked nothing in vain.
func canonicalMatchers() Pass {
	return Pass{
		Name: "matchers", Does: "writes matchers in the simplest form, each once and in one order",
		apply: func(p *Plan) string {
			visit(p.Root, func(n Node) {
				if s := selectOf(n); s != nil {
					s.Matchers = canonical(s.Matchers)
				}
			})
			return ""
		},
	}
}

func canonical(ms []*labels.Matcher) []*labels.Matcher {
	out := make([]*labels.Matcher, 0, len(ms))
	for _, m := range ms {
		if m.Type == labels.MatchRegexp && m.Value == ".*" {
			continue
		}
		out = append(out, simplest(m))
	}
	slices.SortFunc(out, func(a, b *labels.Matcher) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
	})
	return slices.CompactFunc(out, sameMatcher)
}

func sameMatcher(a, b *labels.Matcher) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Value == b.Value
}

// simplest returns a matcher that says the same as m without a regular expression, where there is one.
func simplest(m *labels.Matcher) *labels.Matcher {
	equal, unequal := labels.MatchEqual, labels.MatchNotEqual
	switch m.Type {
	case labels.MatchEqual, labels.MatchNotEqual:
		return m
	case labels.MatchNotRegexp:
		equal, unequal = unequal, equal
	case labels.MatchRegexp:
	}
	value, t := "", equal
	switch only := m.SetMatches(); {
	case m.Value == "":
	case m.Value == ".+":
		t = unequal
	case len(only) == 1 && only[0] == m.Value:
		value = m.Value
	default:
		return m
	}
	return &labels.Matcher{Type: t, Name: m.Name, Value: value}
}
