// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package unittest runs tests of rule files that are written in promtool's format.
//
// A File lists rule files and test groups. A test group has input series, on which the rules are evaluated tick by
// tick with the server's own state machine (rules.Trial), and says which alerts are to fire at some times, and what
// some expressions are to return. Run reads one such file and returns its Result: what failed, group by group, in
// promtool's words.
//
// Each test group runs on a Bench of its own, an empty store with an engine, which the caller opens; so the package
// knows neither storage nor engine. Input samples are written as the ticks reach them: what an evaluation cannot know
// in a server, it cannot know in a test. Everything happens on the caller's goroutine.
//
// The format is the one of https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/. One thing is
// different: an expected NaN is met by a NaN, which no value meets in promtool.
package unittest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"gopkg.in/yaml.v3"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Bench is what one test group runs on. Close gives it back.
type Bench struct {
	Appender sample.Appender
	Engine   promql.QueryEngine
	Close    func() error
}

// Options of Run. Open and Parser are required.
type Options struct {
	// Open returns an empty store with an engine that takes step for subqueries that name none.
	Open   func(ctx context.Context, step time.Duration) (Bench, error)
	Parser parser.Parser
	// Groups are the test groups to run, by name; nil: all.
	Groups *regexp.Regexp
	// Diff shows alerts that are not as expected line by line, with - for what is missing and + for what is too much.
	Diff bool
	// IgnoreUnknownFields passes over keys of rule files that no server knows.
	IgnoreUnknownFields bool
	// Debug takes what the rules wrote; nil: nobody wants to know.
	Debug io.Writer
}

// Result is what came of one file of tests.
type Result struct {
	File     string
	Err      error    // why no test could be run
	Warnings []string // such as a pattern that no rule file matches
	Groups   []GroupResult
}

// GroupResult is what came of one test group; it passed if there are no failures.
type GroupResult struct {
	Name     string
	Failures []error
}

// Failed reports whether something is not as expected.
func (r *Result) Failed() bool { return len(r.Errors()) > 0 }

// Errors returns everything that is not as expected.
func (r *Result) Errors() []error {
	if r.Err != nil {
		return []error{r.Err}
	}
	var errs []error
	for _, g := range r.Groups {
		errs = append(errs, g.Failures...)
	}
	return errs
}

// Run runs the tests of one file.
func Run(ctx context.Context, name string, o Options) Result {
	r := Result{File: name}
	f, err := read(name)
	if err != nil {
		r.Err = err
		return r
	}
	var files []string
	if files, r.Warnings, r.Err = ruleFiles(filepath.Dir(name), f.RuleFiles); r.Err != nil {
		return r
	}
	for i := range f.Tests {
		g := &f.Tests[i]
		if o.Groups != nil && !o.Groups.MatchString(g.Name) {
			continue
		}
		title := g.Name
		if title == "" {
			title = fmt.Sprintf("unnamed#%d", i)
		}
		t := test{file: f, group: g, ruleFiles: files, o: o}
		began := time.Now()
		t.debugf("DEBUG: Starting test %s\n", title)
		failures := t.run(ctx)
		t.debugf("DEBUG: Test %s finished, took %v\n", title, time.Since(began))
		r.Groups = append(r.Groups, GroupResult{Name: title, Failures: failures})
		if ctx.Err() != nil {
			r.Err = ctx.Err()
			return r
		}
	}
	return r
}

// read reads a file of tests.
func read(name string) (*File, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := &File{}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	seen := make(map[string]bool, len(f.GroupEvalOrder))
	for _, group := range f.GroupEvalOrder {
		if seen[group] {
			return nil, fmt.Errorf("group name repeated in evaluation order: %s", group)
		}
		seen[group] = true
	}
	if f.EvaluationInterval <= 0 {
		f.EvaluationInterval = defaultInterval
	}
	for i := range f.Tests {
		if f.Tests[i].Interval <= 0 {
			f.Tests[i].Interval = f.EvaluationInterval
		}
	}
	return f, nil
}

// ruleFiles returns the files that the patterns match; relative ones start at dir.
func ruleFiles(dir string, patterns []string) (files, warnings []string, err error) {
	for _, p := range patterns {
		if p != "" && !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, nil, fmt.Errorf("rule_files: pattern %q: %w", p, err)
		}
		if len(found) == 0 {
			warnings = append(warnings, "no file match pattern "+p)
		}
		files = append(files, found...)
	}
	return files, warnings, nil
}
