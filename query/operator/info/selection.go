// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// defaultMetric is the info metric without a selector for names.
const defaultMetric = "target_info"

// selection is what the second argument asks for.
type selection struct {
	names []*labels.Matcher // of info metrics
	data  []*labels.Matcher // of all other labels
	// optional says that series without info are results, too.
	optional bool
}

func newSelection(ms []*labels.Matcher) selection {
	s := selection{optional: true}
	positive := false
	for _, m := range ms {
		if m.Name == labels.MetricName {
			s.names = append(s.names, m)
			positive = positive || m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
			continue
		}
		s.data = append(s.data, m)
		s.optional = s.optional && m.Matches("")
	}
	switch {
	case len(s.names) == 0:
		s.names = []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, defaultMetric)}
	case !positive:
		all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+_info")
		s.names = append([]*labels.Matcher{all}, s.names...)
	}
	return s
}

// adds tells whether a label of info series is added.
func (s *selection) adds(name string) bool {
	if name == labels.MetricName {
		return false
	}
	return len(s.data) == 0 || slices.ContainsFunc(s.data, func(m *labels.Matcher) bool { return m.Name == name })
}

// isInfo tells which rows are of the info metrics themselves. They are not enriched.
func (s *selection) isInfo(t *vector.Table) []bool {
	is := make([]bool, t.N)
	known := map[uint32]bool{}
	names := t.Column(labels.MetricName)
	for row := range is {
		sym := symbol(names, uint32(row))
		info, ok := known[sym]
		if !ok {
			name := t.Dict.Text(sym)
			info = !slices.ContainsFunc(s.names, func(m *labels.Matcher) bool { return !m.Matches(name) })
			known[sym] = info
		}
		is[row] = info
	}
	return is
}

// target is the values of the identifying labels, as symbols.
type target [len(identifying)]uint32

// targetsOf returns the target of each row.
func targetsOf(t *vector.Table) []target {
	of := make([]target, t.N)
	for i, name := range identifying {
		if col := t.Column(name); col != nil {
			for row := range of {
				of[row][i] = col[row]
			}
		}
	}
	return of
}

// pattern tells which of the labels a target has: bit 0 for the last, as Prometheus' engine orders its selections.
func (t target) pattern() int {
	p := 0
	for i, sym := range t {
		if sym != 0 {
			p |= 1 << (len(t) - 1 - i)
		}
	}
	return p
}

// targetSet is the targets to look for: values by pattern and label.
type targetSet [1 << len(identifying)][len(identifying)]map[uint32]struct{}

func (s *targetSet) add(t target) {
	p := t.pattern()
	if p == 0 {
		return
	}
	for i, sym := range t {
		if sym == 0 {
			continue
		}
		if s[p][i] == nil {
			s[p][i] = map[uint32]struct{}{}
		}
		s[p][i][sym] = struct{}{}
	}
}

// has tells whether a target would be selected. Values of different labels are not tied to one another.
func (s *targetSet) has(t target) bool {
	p := t.pattern()
	for i, sym := range t {
		if _, ok := s[p][i][sym]; sym != 0 && !ok {
			return false
		}
	}
	return p != 0
}

// selections returns the matchers of identifying labels, one list per pattern in use. They may select more than the
// targets.
func (s *targetSet) selections(d *vector.Dict) [][]*labels.Matcher {
	var all [][]*labels.Matcher
	for p := 1; p < len(s); p++ {
		var ms []*labels.Matcher
		used := false
		for i, name := range identifying {
			if len(s[p][i]) == 0 {
				ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, name, ""))
				continue
			}
			used = true
			ms = append(ms, oneOf(name, s[p][i], d))
		}
		if used {
			all = append(all, ms)
		}
	}
	return all
}

// maxPattern is how long an expression that lists values may be. Each byte of it takes 300 B while it is compiled.
const maxPattern = 32 << 10

// oneOf returns the matcher of some values of a label, or of all values where there are too many to list: has tells
// which are meant.
func oneOf(name string, syms map[uint32]struct{}, d *vector.Dict) *labels.Matcher {
	values := make([]string, 0, len(syms))
	size := 0
	for sym := range syms {
		text := d.Text(sym)
		if size += len(text) + 1; size > maxPattern {
			return labels.MustNewMatcher(labels.MatchNotEqual, name, "")
		}
		values = append(values, text)
	}
	slices.Sort(values)
	for i, v := range values {
		values[i] = regexp.QuoteMeta(v)
	}
	return labels.MustNewMatcher(labels.MatchRegexp, name, strings.Join(values, "|"))
}

// symbol reads a column that may be nil.
func symbol(col []uint32, row uint32) uint32 {
	if col == nil {
		return 0
	}
	return col[row]
}
