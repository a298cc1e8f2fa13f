// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/prometheus/util/junitxml"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules/unittest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// testRulesCommand runs tests of rule files.
type testRulesCommand struct {
	files         []string
	groups        []string
	junit         string
	features      []string
	debug, diff   bool
	ignoreUnknown bool
}

func addTestRules(parent *kingpin.CmdClause, commands map[string]command) {
	c := &testRulesCommand{}
	parent.Flag("junit", "File to write the results to, as JUnit XML.").StringVar(&c.junit)
	cmd := parent.Command("rules", "Run tests of rule files, in promtool's format, by our engine.")
	cmd.Flag("run", "Run only test groups whose names match this regular expression; may be repeated.").StringsVar(&c.groups)
	cmd.Flag("debug", "Show all samples that the rules wrote.").BoolVar(&c.debug)
	cmd.Flag("diff", "Show alerts that are not as expected line by line.").BoolVar(&c.diff)
	cmd.Flag("ignore-unknown-fields", "Pass over keys of rule files that no server knows.").BoolVar(&c.ignoreUnknown)
	cmd.Flag("enable-feature", "Feature of PromQL to enable, as the server has them; may be repeated, or a list with commas.").StringsVar(&c.features)
	cmd.Arg("test-rule-file", "The files of tests.").Required().StringsVar(&c.files)
	commands[cmd.FullCommand()] = c
}

func (c *testRulesCommand) run(ctx context.Context, out, progress io.Writer) error {
	features, err := promqlFeatures(c.features)
	if err != nil {
		return err
	}
	o := unittest.Options{
		Parser: features.NewParser(), Diff: c.diff, IgnoreUnknownFields: c.ignoreUnknown,
		Open: func(ctx context.Context, step time.Duration) (unittest.Bench, error) {
			return openBench(ctx, step, features)
		},
	}
	if len(c.groups) > 0 {
		if o.Groups, err = regexp.Compile(strings.Join(c.groups, "|")); err != nil {
			return fmt.Errorf("--run: %w", err)
		}
	}
	if c.debug {
		o.Debug = progress
	}
	report := &junitxml.JUnitXML{}
	failed := 0
	for _, file := range c.files {
		began := time.Now()
		r := unittest.Run(ctx, file, o)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		show(&r, out, progress)
		note(report.Suite(file), &r, began)
		if r.Failed() {
			failed++
		}
	}
	if c.junit != "" {
		if err := writeReport(c.junit, report); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d files of tests failed", failed, len(c.files))
	}
	return nil
}

// show prints what came of a file as promtool does.
func show(r *unittest.Result, out, complaints io.Writer) {
	for _, w := range r.Warnings {
		fmt.Fprintf(complaints, "  WARNING: %s\n", w)
	}
	if !r.Failed() {
		fmt.Fprint(out, "  SUCCESS\n\n")
		return
	}
	fmt.Fprintln(complaints, "  FAILED:")
	for _, err := range r.Errors() {
		fmt.Fprintf(complaints, "%s\n\n", err)
	}
	fmt.Fprintln(complaints)
}

// note adds what came of a file to the report.
func note(suite *junitxml.TestSuite, r *unittest.Result, began time.Time) {
	suite.Settime(began.Format("2006-01-02T15:04:05"))
	if r.Err != nil {
		suite.Abort(r.Err)
		return
	}
	for _, g := range r.Groups {
		test := suite.Case(g.Name)
		for _, err := range g.Failures {
			test.Fail(err.Error())
		}
	}
}

func writeReport(name string, report *junitxml.JUnitXML) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--junit: %w", err)
	}
	if err := errors.Join(report.WriteXML(f), f.Close()); err != nil {
		return fmt.Errorf("--junit: write %s: %w", name, err)
	}
	return nil
}

// openBench opens an empty store of its own, with an engine, for one test.
func openBench(ctx context.Context, step time.Duration, features query.Features) (unittest.Bench, error) {
	dir, err := os.MkdirTemp("", "tidectl-test-rules-")
	if err != nil {
		return unittest.Bench{}, err
	}
	db, err := tsdb.Open(ctx, tsdb.Options{
		Dir: dir, Sync: journal.Process, SegmentBytes: 1 << 20, Shards: 1, MaxFuture: -1, Scrub: -1, BlockCache: 1 << 20, SeriesCache: 1 << 20,
	})
	if err != nil {
		return unittest.Bench{}, errors.Join(err, os.RemoveAll(dir))
	}
	engine := query.NewEngine(db, query.Options{
		EvaluationInterval: func() time.Duration { return step }, Features: features,
	})
	return unittest.Bench{Appender: db, Engine: engine, Close: func() error {
		return errors.Join(engine.Close(), db.Close(), os.RemoveAll(dir))
	}}, nil
}

// promqlFeatures returns the features of PromQL that the names stand for.
func promqlFeatures(lists []string) (query.Features, error) {
	f := query.Features{}
	switches := map[string]*bool{
		"promql-experimental-functions": &f.ExperimentalFunctions, "promql-extended-range-selectors": &f.ExtendedRangeSelectors,
		"promql-binop-fill-modifiers": &f.BinopFillModifiers, "promql-delayed-name-removal": &f.DelayedNameRemoval,
		"type-and-unit-labels": &f.TypeAndUnitLabels, "use-start-timestamps": &f.UseStartTimestamps,
	}
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			on, ok := switches[name]
			switch {
			case ok:
				*on = true
			case name != "" && name != "promql-at-modifier" && name != "promql-negative-offset": // always on
				return f, fmt.Errorf("--enable-feature: %q is no feature of PromQL", name)
			}
		}
	}
	return f, nil
}
