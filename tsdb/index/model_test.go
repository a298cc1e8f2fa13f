// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// querier is what both indexes answer.
type querier interface {
	Select(t *budget.Task, ms []*labels.Matcher) ([]uint32, error)
	LabelNames(t *budget.Task, ms []*labels.Matcher, limit int) ([]string, error)
	LabelValues(t *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error)
}

// model answers by looking at every series.
type model map[uint32]labels.Labels

func (m model) matching(ms []*labels.Matcher) []uint32 {
	var ids []uint32
	for _, id := range slices.Sorted(maps.Keys(m)) {
		ok := true
		for _, x := range ms {
			ok = ok && x.Matches(m[id].Get(x.Name))
		}
		if ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m model) names(ms []*labels.Matcher) []string {
	set := map[string]bool{}
	for _, id := range m.matching(ms) {
		m[id].Range(func(l labels.Label) { set[l.Name] = true })
	}
	return slices.Sorted(maps.Keys(set))
}

func (m model) values(name string, ms []*labels.Matcher) []string {
	set := map[string]bool{}
	for _, id := range m.matching(ms) {
		if v := m[id].Get(name); v != "" {
			set[v] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func firstOf(values []string, limit int) []string {
	if limit > 0 && len(values) > limit {
		return values[:limit]
	}
	return values
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// compare asks q and the model the same.
func compare(t failer, q querier, m model, ms []*labels.Matcher, limit int) {
	t.Helper()
	account := budget.NewRoot("index", 0)
	task := budget.NewTask(context.Background(), account)
	ids, err := q.Select(task, ms)
	if diff := cmp.Diff(m.matching(ms), ids, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Fatalf("Select(%v) = %v\n%s", ms, err, diff)
	}
	names, err := q.LabelNames(task, ms, limit)
	if diff := cmp.Diff(firstOf(m.names(ms), limit), names, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Fatalf("LabelNames(%v, %d) = %v\n%s", ms, limit, err, diff)
	}
	for _, name := range []string{"a", "b", "__name__", "never", ""} {
		values, err := q.LabelValues(task, name, ms, limit)
		if diff := cmp.Diff(firstOf(m.values(name, ms), limit), values, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("LabelValues(%s, %v, %d) = %v\n%s", name, ms, limit, err, diff)
		}
	}
	if task.Settle(0); account.Used() != 0 {
		t.Fatalf("%d bytes are not given back", account.Used())
	}
}

var genName = rapid.SampledFrom([]string{"__name__", "a", "b", "c", "instance", "名"})

func genLabels(t *rapid.T) labels.Labels {
	b := labels.NewScratchBuilder(4)
	names := map[string]bool{}
	for range rapid.IntRange(0, 5).Draw(t, "labels") {
		name := genName.Draw(t, "name")
		if !names[name] {
			names[name] = true
			b.Add(name, genValue.Draw(t, "value"))
		}
	}
	b.Sort()
	return b.Labels()
}

var genValue = rapid.OneOf(
	rapid.SampledFrom([]string{"x", "y", "xy", "foo", "foobar", "Foo", "bar", "0", "1", "10", "a\nb", "\xff", "é"}),
	rapid.StringMatching(`[a-c]{1,3}`),
	rapid.Map(rapid.IntRange(0, 400), func(i int) string { return fmt.Sprintf("host-%03d", i) }),
)

func genMatchers(t *rapid.T) []*labels.Matcher {
	var ms []*labels.Matcher
	for range rapid.IntRange(0, 4).Draw(t, "matchers") {
		name := rapid.OneOf(genName, rapid.SampledFrom([]string{"never", ""})).Draw(t, "on")
		kind := labels.MatchType(rapid.IntRange(0, 3).Draw(t, "type"))
		value := rapid.OneOf(genValue, rapid.Just("")).Draw(t, "wanted")
		if kind == labels.MatchRegexp || kind == labels.MatchNotRegexp {
			value = rapid.SampledFrom([]string{
				"", ".*", ".+", "x", "x|y", "x|", "|", "foo.*", "foo.+", ".*o.*", ".*bar", "(?i)foo", "(?i)FOO.*", "[a-c]+",
				"host-.*", "host-00.", "host-(001|002|003)", "host-1..|foo", ".", "..", "a.b", "x*", "(x|y)?", "(foo|bar).*", "^x$",
				".*(1|2)", "host-[0-3].*", "[^x]*", "\\d+", "foo(bar)?", ".*?", "()", "a\nb",
			}).Draw(t, "expression")
		}
		if m, err := labels.NewMatcher(kind, name, value); err == nil {
			ms = append(ms, m)
		}
	}
	return ms
}

// corners are the cases of Prometheus' matcher semantics that are easily got wrong.
func corners() [][]*labels.Matcher {
	m := labels.MustNewMatcher
	eq, ne, re, nre := labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchNotRegexp
	return [][]*labels.Matcher{
		nil,
		{m(eq, "a", "x")},
		{m(eq, "a", "")},
		{m(ne, "a", "")},
		{m(ne, "a", "x")},
		{m(re, "a", ".*")},
		{m(nre, "a", ".*")},
		{m(re, "a", ".+")},
		{m(nre, "a", ".+")},
		{m(re, "a", "")},
		{m(nre, "a", "")},
		{m(re, "a", "x|")},
		{m(nre, "a", "x|")},
		{m(re, "a", "x|y")},
		{m(nre, "a", "x|y")},
		{m(re, "a", "x|x")},
		{m(eq, "never", "")},
		{m(eq, "never", "x")},
		{m(ne, "never", "")},
		{m(ne, "never", "x")},
		{m(re, "never", ".*")},
		{m(nre, "never", ".+")},
		{m(eq, "a", "x"), m(eq, "a", "y")},
		{m(eq, "a", "x"), m(ne, "a", "x")},
		{m(re, "a", "x|y"), m(ne, "a", "x"), m(re, "a", ".+")},
		{m(re, "__name__", ".+"), m(eq, "b", "")},
		{m(re, "a", "fo.*"), m(nre, "a", ".*bar")},
		{m(eq, "", "")},
		{m(eq, "", "x")},
	}
}

func cornerSeries() []labels.Labels {
	all := []labels.Labels{
		labels.EmptyLabels(),
		labels.FromStrings("__name__", "m"),
		labels.FromStrings("__name__", "m", "a", "x"),
		labels.FromStrings("__name__", "m", "a", "y"),
		labels.FromStrings("__name__", "m", "a", "foo", "b", "x"),
		labels.FromStrings("__name__", "m", "a", "foobar", "b", "x"),
		labels.FromStrings("__name__", "n", "a", "x", "b", "y"),
		labels.FromStrings("a", "x"),
		labels.FromStrings("b", "a\nb"),
	}
	slices.SortFunc(all, labels.Compare)
	return all
}

func checkCorners(t *testing.T, q querier, m model) {
	t.Helper()
	for _, ms := range corners() {
		for limit := range 3 {
			compare(t, q, m, ms, limit)
		}
	}
}
