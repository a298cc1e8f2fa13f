// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/query/plan"
)

// only returns the switches that leave on the passes named.
func only(t *testing.T, names ...string) plan.Switches {
	t.Helper()
	var s plan.Switches
	for _, p := range plan.Passes() {
		keep := false
		for _, name := range names {
			keep = keep || name == p.Name
		}
		if keep {
			continue
		}
		var err error
		if s, err = s.Without(p.Name); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// rewriting checks what passes make of queries.
func rewriting(t *testing.T, o plan.Options, names ...string) func(query, want string) {
	o.Switches = only(t, names...)
	return func(query, want string) {
		t.Helper()
		if got := newPlan(t, query, o).Root.String(); got != want {
			t.Errorf("%s\n got %s\nwant %s", query, got, want)
		}
	}
}

func TestConstantsAreComputed(t *testing.T) {
	check := rewriting(t, between(1000, 2000, 10), "constants")
	check(`1 + 2 * 3`, `7`)
	check(`-(2 ^ 3)`, `-8`)
	check(`x > bool (1 < bool 2)`, `x > bool 1`)
	check(`x * pi()`, `x * 3.141592653589793`)
	check(`clamp(x, 10 - 5, 10)`, `clamp(x, 5, 10)`)
	check(`scalar(vector(1 + 1)) + x`, `2 + x`)
	check(`1 / 0 + x`, `+Inf + x`)
	check(`5 % 3 + (1 atan2 0) + (2 == bool 2)`, `4.570796326794897`)
	check(`time() + 1`, `time() + 1`)
	check(`end() - start() + x`, `1000 + x`)
	check(`scalar(x) + 1`, `scalar(x) + 1`)
	rewriting(t, between(1000, 1000, 0), "constants")(`time() + 1`, `1001`)
}

func TestMatchersAreWrittenInOneForm(t *testing.T) {
	check := rewriting(t, between(1000, 2000, 10), "matchers")
	check(`x{b="1",a="2"}`, `x{a="2",b="1"}`)
	check(`x{a="1",a="1"}`, `x{a="1"}`)
	check(`x{a=~"1"}`, `x{a="1"}`)
	check(`x{a!~"1"}`, `x{a!="1"}`)
	check(`x{a=~".*"}`, `x`)
	check(`x{a=~".+"}`, `x{a!=""}`)
	check(`x{a!~".+"}`, `x{a=""}`)
	check(`x{a=~""}`, `x{a=""}`)
	check(`x{a=~"1|2",b!~"1|2"}`, `x{a=~"1|2",b!~"1|2"}`)
	check(`x{a=~"(?i:1)"}`, `x{a=~"(?i:1)"}`)
	check(`x{a!~".*"}`, `x{a!~".*"}`)
	check(`rate({__name__=~"x"}[5m])`, `rate(x[5m])`)
	check(`timestamp(x{a=~"1"})`, `timestamp(x{a="1"})`)
}

func TestAbsentKeepsTheMatchersOfTheQuery(t *testing.T) {
	p := newPlan(t, `absent(x{a=~"1",a=~".*"})`, between(1000, 2000, 10))
	c, ok := p.Root.(*plan.Call)
	if !ok {
		t.Fatalf("got %T", p.Root)
	}
	s, ok := c.Args[0].(*plan.Select)
	if !ok || len(s.Written) != 3 || len(s.Matchers) != 2 {
		t.Errorf("got %d matchers written and %d to read with, want 3 and 2", len(s.Written), len(s.Matchers))
	}
}

func TestEqualPartsAreShared(t *testing.T) {
	check := rewriting(t, between(1000, 2000, 10), "share")
	check(`x + x`, `shared(x) + shared(x)`)
	check(`x + y`, `x + y`)
	check(`x + x offset 1m`, `x + x offset 1m`)
	check(`x{a="1"} + x{a="2"}`, `x{a="1"} + x{a="2"}`)
	check(`sum(rate(x[5m])) / sum(rate(x[5m]))`, `shared(sum(rate(x[5m]))) / shared(sum(rate(x[5m])))`)
	check(`sum(x) / count(x)`, `sum(shared(x)) / count(shared(x))`)
	check(`sum(x) / sum by (a) (x)`, `sum(shared(x)) / sum by (a) (shared(x))`)
	check(`sum(x) + sum(x) + x`, `(shared(sum(shared(x))) + shared(sum(shared(x)))) + shared(x)`)
	check(`1 + 1 + time() + time()`, `((1 + 1) + time()) + time()`)
	check(`vector(1) + vector(1)`, `vector(1) + vector(1)`)
	check(`rate(x[5m]) + increase(x[5m])`, `rate(x[5m]) + increase(x[5m])`)
	check(`timestamp(x) + x`, `timestamp(x) + x`)
	check(`timestamp(x) + timestamp(x)`, `shared(timestamp(x)) + shared(timestamp(x))`)
	check(`scalar(x) + scalar(x) + x`, `(scalar(shared(x)) + scalar(shared(x))) + shared(x)`)
	check(`x + on (a) group_left (b) y or x + on (a) group_left (c) y`,
		`(shared(x) + on (a) group_left (b) shared(y)) or (shared(x) + on (a) group_left (c) shared(y))`)
	check(`topk(1, x) + topk(2, x)`, `topk(1, shared(x)) + topk(2, shared(x))`)
	check(`x + absent(x{a=~"1"})`, `x + absent(x{a=~"1"})`)
}

// Samples are counted apart inside subqueries and for what is evaluated once.
func TestPartsOfDifferentSubqueriesAreNotShared(t *testing.T) {
	check := rewriting(t, between(1000, 2000, 10), "share")
	check(`rate(x[1h:1m]) + increase(x[1h:1m])`, `rate(x[1h:1m]) + increase(x[1h:1m])`)
	check(`rate(x[1h:1m]) + rate(x[1h:1m])`, `shared(rate(x[1h:1m])) + shared(rate(x[1h:1m]))`)
	check(`max_over_time((x + x)[1h:1m])`, `max_over_time((shared(x) + shared(x))[1h:1m])`)
	check(`sum(x @ 10) + y + sum(x @ 10)`, `(shared(sum(x @ 10.000)) + y) + shared(sum(x @ 10.000))`)
}

func TestAggregationsOfOneInputAreFedTogether(t *testing.T) {
	multis := func(query string) map[*plan.Multi]int {
		o := between(1000, 2000, 10)
		o.Switches = only(t, "share", "multi-aggregation")
		found := map[*plan.Multi]int{}
		var walk func(plan.Node)
		walk = func(n plan.Node) {
			if a, ok := n.(*plan.Aggregate); ok && a.Multi != nil {
				found[a.Multi]++
			}
			for _, in := range n.Inputs() {
				walk(in)
			}
		}
		walk(newPlan(t, query, o).Root)
		return found
	}
	for _, c := range []struct {
		query          string
		members, whole int
	}{
		{`sum(x) / count(x)`, 2, 1},
		{`sum(x) / count(x) + x`, 2, 0},
		{`max(rate(x[5m])) - min(rate(x[5m]))`, 2, 1},
		{`sum(x) + topk(1, x)`, 0, 0},
		{`sum(x) + sum(y)`, 0, 0},
		{`sum(x) / count(x) + max(y) - min(y)`, 4, 2},
		{`quantile(0.5, x) - quantile(0.9, x)`, 0, 0},
	} {
		members, whole := 0, 0
		for m, n := range multis(c.query) {
			members += n
			if m.Input.Whole == m {
				whole++
			}
			if n != len(m.Members) {
				t.Errorf("%s: %d of %d members stand in the plan", c.query, n, len(m.Members))
			}
		}
		if members != c.members || whole != c.whole {
			t.Errorf("%s: %d aggregations fed together, %d inputs of their own; want %d, %d", c.query, members, whole, c.members, c.whole)
		}
	}
}

func TestMatchersReachTheOtherSideOnlyWhereNobodyNotices(t *testing.T) {
	o := between(1000, 2000, 10)
	o.NoStatistics = true
	check := rewriting(t, o, "propagate-matchers")
	same := func(query string) {
		t.Helper()
		plain := between(1000, 2000, 10)
		plain.Switches = only(t)
		check(query, newPlan(t, query, plain).Root.String())
	}
	check(`x{a="1"} and on (a) y`, `x{a="1"} and on (a) y{a="1"}`)
	check(`x and on (a) y{a="1"}`, `x{a="1"} and on (a) y{a="1"}`)
	check(`x{a="1"} unless on (a) y`, `x{a="1"} unless on (a) y{a="1"}`)
	same(`x unless on (a) y{a="1"}`)
	same(`x{a="1"} or on (a) y`)
	same(`x{a="1"} and on (b) y`)
	same(`x{a="1"} and ignoring (a) y`)
	check(`x{a=~"1|2",c!="3"} and y`, `x{a=~"1|2",c!="3"} and y{a=~"1|2",c!="3"}`)
	check(`x{a="1"} * y`, `x{a="1"} * y{a="1"}`)
	same(`x{a="1"} * on (a) y`) // y may have several series for 1, and that is an error
	same(`x{a="1"} * {a=~".+"}`)
	check(`x{a="1"} * on (a) count by (a) (y)`, `x{a="1"} * on (a) count by (a) (y{a="1"})`)
	same(`x{a="1"} * on (a) sum by (a) (y)`) // sum() warns of histograms among floats
	same(`x{a="1"} * on (a) count by (b) (y)`)
	check(`x * on (a) group_left count by (a) (y{a="1"})`, `x{a="1"} * on (a) group_left () count by (a) (y{a="1"})`)
	same(`x * on (a) group_left y{a="1"}`)
	same(`x{a="1"} + fill(0) y`)
	same(`x{a="1"} and on (a) rate(y[5m])`)
	check(`rate(x{a="1"}[5m]) and on (a) y`, `rate(x{a="1"}[5m]) and on (a) y{a="1"}`)
	check(`sum by (a) (x{a="1",b="2"}) and y`, `sum by (a) (x{a="1",b="2"}) and y{a="1"}`)
	check(`-x{a="1"} and abs(y)`, `(-x{a="1"}) and abs(y{a="1"})`)
	same(`-x{a="1"} and abs({b="1"})`)
	same(`label_replace(x{a="1"}, "a", "2", "", "") and y`)
	same(`absent(x{a="1"}) and y`)
	o.NoStatistics = false
	rewriting(t, o, "propagate-matchers")(`x{a="1"} and y`, `x{a="1"} and y`)
}

func TestAggregationsOfAPartAreFedFromTheWhole(t *testing.T) {
	o := between(1000, 2000, 10)
	o.NoStatistics = true
	check := rewriting(t, o, "subsets", "share")
	check(`sum(x{a="1"}) / sum(x)`, `sum(shared(x), only {a="1"}) / sum(shared(x))`)
	check(`sum(x) / sum by (b) (x{a="1",c="2"})`, `sum(shared(x)) / sum by (b) (shared(x), only {a="1",c="2"})`)
	check(`sum(x{a="1"}) / sum(x{a="2"})`, `sum(x{a="1"}) / sum(x{a="2"})`)
	check(`sum(x{a="1"}) / sum(x{a="1",b="2"}) + count(x)`,
		`(sum(shared(x), only {a="1"}) / sum(shared(x), only {a="1",b="2"})) + count(shared(x))`)
	check(`sum(x{a="1"}) / count(x{a="1"}) / sum(x)`,
		`(sum(shared(x), only {a="1"}) / count(shared(x), only {a="1"})) / sum(shared(x))`)
	check(`sum(x{a="1"}) / x{a="1"} / sum(x)`, `(sum(shared(x{a="1"})) / shared(x{a="1"})) / sum(x)`)
	check(`sum(rate(x{a="1"}[5m])) / sum(rate(x[5m]))`, `sum(rate(x{a="1"}[5m])) / sum(rate(x[5m]))`)
	check(`sum(x{a="1"} offset 5m) / sum(x)`, `sum(x{a="1"} offset 5m) / sum(x)`)
	check(`sum(x{a="1"}) / quantile(0.5, x)`, `sum(x{a="1"}) / quantile(0.5, x)`)
	check(`sum(x{a="1"}) / sum(y)`, `sum(x{a="1"}) / sum(y)`)
	check(`max_over_time(sum(x)[5m:1m]) / sum(x{a="1"})`, `max_over_time(sum(x)[5m:1m]) / sum(x{a="1"})`)
	o.NoStatistics = false
	rewriting(t, o, "subsets")(`sum(x{a="1"}) / sum(x)`, `sum(x{a="1"}) / sum(x)`)
}

func TestJoinsAreNarrowedOnlyWhereNobodyNotices(t *testing.T) {
	for query, want := range map[string]bool{
		`x and y`: true, `x unless on (a) y`: true, `x or y`: false, `x * y`: true, `x * on (a) y`: false,
		`rate(x[5m]) and y`: false, `x and rate(y[5m])`: false, `x * on (a) group_left count by (a) (y)`: true,
		`x * on (a) group_left y`: false, `x + fill(0) y`: false, `x and x`: true, `x smoothed and y`: false,
	} {
		for _, unseen := range []bool{true, false} {
			o := between(1000, 2000, 10)
			o.NoStatistics = unseen
			b, ok := newPlan(t, query, o).Root.(*plan.Binary)
			if !ok || b.Narrow != (want && unseen) {
				t.Errorf("%s, statistics unseen %t: narrowed %t, want %t", query, unseen, b.Narrow, want && unseen)
			}
		}
	}
}

func TestSwitchesKnowThePasses(t *testing.T) {
	if _, err := (plan.Switches{}).Without("nonsense"); err == nil || !strings.Contains(err.Error(), `unknown pass "nonsense", known are: constants`) {
		t.Errorf("got %v, want the passes there are", err)
	}
	s, err := plan.Switches{}.Without("share")
	if err != nil || s.On("share") || !s.On("constants") {
		t.Errorf("share %t, constants %t, %v; want only share off", s.On("share"), s.On("constants"), err)
	}
	all, err := s.Without("all")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plan.Passes() {
		if all.On(p.Name) {
			t.Errorf("%s is on", p.Name)
		}
		if p.Does == "" {
			t.Errorf("%s does not say what it does", p.Name)
		}
	}
}

func TestLogSaysWhatPassesDid(t *testing.T) {
	o := between(1000, 2000, 10)
	o.Explain = true
	o.Switches, _ = o.Switches.Without("matchers")
	p := newPlan(t, `x + 1 * 2`, o)
	want := map[string]plan.Step{
		"constants": {Pass: "constants", Before: "x + (1 * 2)", After: "x + 2"},
		"matchers":  {Pass: "matchers", Skipped: "switched off"},
		"share":     {Pass: "share", Skipped: "there is one selector at most"},
	}
	for _, s := range p.Log {
		if w, ok := want[s.Pass]; ok && s != w {
			t.Errorf("got %+v, want %+v", s, w)
		}
	}
	if len(p.Log) != len(plan.Passes()) {
		t.Errorf("%d passes are in the log, want %d", len(p.Log), len(plan.Passes()))
	}
}
