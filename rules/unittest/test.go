// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package unittest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/rules"
)

// test is one test group under way.
type test struct {
	o         Options
	file      *File
	group     *Group
	ruleFiles []string

	bench    Bench
	trial    *rules.Trial
	input    input
	failures []error
}

func (t *test) failf(format string, args ...any) {
	t.failures = append(t.failures, fmt.Errorf(format, args...))
}

func (t *test) debugf(format string, args ...any) {
	if t.o.Debug != nil {
		fmt.Fprintf(t.o.Debug, format, args...)
	}
}

// run returns what is not as expected.
func (t *test) run(ctx context.Context) []error {
	if err := t.prepare(ctx); err != nil {
		return []error{err}
	}
	defer func() {
		if err := t.bench.Close(); err != nil {
			t.failf("close the store of the test: %w", err)
		}
	}()
	if !t.tick(ctx) {
		return t.failures
	}
	for i := range t.group.ExprTests {
		t.checkExpr(ctx, &t.group.ExprTests[i])
	}
	if t.o.Debug != nil {
		t.dump(ctx)
	}
	return t.failures
}

// prepare reads what the test group needs and opens its store last.
func (t *test) prepare(ctx context.Context) error {
	g := t.group
	for i := range g.AlertTests {
		if a := &g.AlertTests[i]; a.Alertname == "" {
			where := ""
			if g.Name != "" {
				where = fmt.Sprintf(" (in TestGroup %s)", g.Name)
			}
			return fmt.Errorf("an item under alert_rule_test misses required attribute alertname at eval_time %v%s", a.EvalTime, where)
		}
	}
	var err error
	if t.input, err = parseInput(g, t.o.Parser); err != nil {
		return err
	}
	if t.bench, err = t.o.Open(ctx, time.Duration(t.file.EvaluationInterval)); err != nil {
		return fmt.Errorf("open a store for the test: %w", err)
	}
	t.trial, err = rules.NewTrial(rules.Config{
		Files: t.ruleFiles, Interval: time.Duration(g.Interval), ExternalLabels: g.ExternalLabels, ExternalURL: g.ExternalURL,
		IgnoreUnknownFields: t.o.IgnoreUnknownFields,
	}, rules.Options{Query: rules.EngineQuery(t.bench.Engine, nil), Appender: t.bench.Appender, Parser: t.o.Parser})
	if err == nil {
		err = t.trial.Order(t.file.GroupEvalOrder)
	}
	if err != nil {
		return errors.Join(err, t.bench.Close())
	}
	return nil
}

// tick evaluates the rules from the start to the last test and checks the alerts on the way. It reports whether every
// rule could be evaluated.
func (t *test) tick(ctx context.Context) bool {
	due := slices.Clone(t.group.AlertTests)
	slices.SortStableFunc(due, func(a, b AlertTest) int { return int(a.EvalTime - b.EvalTime) })
	start, step, length := t.group.start(), time.Duration(t.file.EvaluationInterval), t.group.length()
	for after := time.Duration(0); after <= length; after += step {
		if ctx.Err() != nil {
			t.failf("%w", context.Cause(ctx))
			return false
		}
		ts := start.Add(after)
		if err := t.input.writeTill(ctx, t.bench.Appender, timestamp.FromTime(ts)); err != nil {
			t.failf("write the input series: %w", err)
			return false
		}
		t.trial.Eval(ctx, ts)
		if !t.checkRules(ts) {
			return false
		}
		for len(due) > 0 && time.Duration(due[0].EvalTime)-after < step {
			t.checkAlerts(&due[0])
			due = due[1:]
		}
		if after > length-step { // the sum of two times may be more than there is
			break
		}
	}
	return true
}

// checkRules reports whether all rules could be evaluated at ts.
func (t *test) checkRules(ts time.Time) bool {
	ok := true
	for _, g := range t.trial.Groups() {
		for i := range g.Rules {
			if r := &g.Rules[i]; r.LastError != "" {
				t.failf("    rule: %s, time: %s, err: %s", r.Name, ts.Sub(time.Unix(0, 0)), r.LastError)
				ok = false
			}
		}
	}
	return ok
}

// checkAlerts compares the alerts of a name that fire now with the expected ones.
func (t *test) checkAlerts(want *AlertTest) {
	var got alerts
	for _, g := range t.trial.Groups() {
		for i := range g.Rules {
			r := &g.Rules[i]
			if !r.Alerting || r.Name != want.Alertname {
				continue
			}
			for _, a := range r.Alerts {
				if a.State == rules.StateFiring {
					got = append(got, alert{labels: a.Labels, annotations: a.Annotations})
				}
			}
		}
	}
	expected := make(alerts, 0, len(want.Expected))
	for _, a := range want.Expected {
		lb := labels.NewBuilder(labels.FromMap(a.Labels))
		lb.Set(labels.AlertName, want.Alertname)
		expected = append(expected, alert{labels: lb.Labels(), annotations: labels.FromMap(a.Annotations)})
	}
	got.sort()
	expected.sort()
	if slices.EqualFunc(expected, got, alert.equal) {
		return
	}
	name := ""
	if t.group.Name != "" {
		name = fmt.Sprintf("    name: %s,\n", t.group.Name)
	}
	if t.o.Diff {
		t.failf("%s    alertname: %s, time: %s, \n        diff: %s", name, want.Alertname, want.EvalTime,
			indent(diff(expected.String(), got.String()), 12))
		return
	}
	t.failf("%s    alertname: %s, time: %s, \n        exp:%s, \n        got:%s", name, want.Alertname, want.EvalTime,
		indent(expected.String(), 12), indent(got.String(), 12))
}

// checkExpr compares the result of an expression with the expected one.
func (t *test) checkExpr(ctx context.Context, want *ExprTest) {
	complain := func(err error) {
		t.failf("    expr: %q, time: %s, err: %w", want.Expr, want.EvalTime, err)
	}
	at := t.group.start().Add(time.Duration(want.EvalTime))
	vector, err := rules.EngineQuery(t.bench.Engine, nil)(ctx, want.Expr, at)
	if err != nil {
		complain(err)
		return
	}
	expected := make(results, 0, len(want.Expected))
	for i := range want.Expected {
		e, err := parseSample(&want.Expected[i], t.o.Parser)
		if err != nil {
			complain(err)
			return
		}
		expected = append(expected, e)
	}
	got := resultsOf(vector)
	expected.sort()
	got.sort()
	if !slices.EqualFunc(expected, got, func(a, b result) bool { return a.equal(b, t.file.FuzzyCompare) }) {
		t.failf("    expr: %q, time: %s,\n        exp: %s\n        got: %s", want.Expr, want.EvalTime, expected, got)
	}
}

// dump shows all samples that the test group has in the end.
func (t *test) dump(ctx context.Context) {
	// A range has whole seconds.
	length := (t.group.length() + time.Second).Truncate(time.Second)
	q, err := t.bench.Engine.NewInstantQuery(ctx, nil, nil, fmt.Sprintf(`{__name__=~".+"}[%v]`, length), t.group.start().Add(length))
	if err != nil {
		t.debugf("DEBUG: Failed querying, err: %v\n", err)
		return
	}
	defer q.Close()
	res := q.Exec(ctx)
	m, ok := res.Value.(promql.Matrix)
	if res.Err != nil || !ok {
		t.debugf("DEBUG: Failed query exec, err: %v\n", res.Err)
		return
	}
	t.debugf("DEBUG: Dump of all data (input_series and rules) at %v:\n%s\n", length, m)
}
