// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// prometheusModule returns the directory of the module whose packages the server links.
func prometheusModule(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/prometheus/prometheus/plugins").Output()
	if err != nil {
		t.Fatalf("find the module of Prometheus: %v", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// ruleTest is how a program ran a file of tests.
type ruleTest struct {
	Code      int
	Out, Said string
}

var (
	ownLine    = regexp.MustCompile(`(?m)^tidectl: .*\n`)
	blankLines = regexp.MustCompile(`\n\n+`)
)

func runRuleTest(t *testing.T, program, file string, flags ...string) ruleTest {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append(append([]string{"test", "rules"}, flags...), filepath.Base(file))...)
	cmd.Dir = filepath.Dir(file)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	// promtool writes the blank lines between complaints to the other stream.
	dense := func(s string) string { return blankLines.ReplaceAllString(strings.TrimSpace(s), "\n") }
	return ruleTest{cmd.ProcessState.ExitCode(), dense(out.String()), dense(ownLine.ReplaceAllString(said.String(), ""))}
}

// TestRuleTestsGoAsInPromtool runs promtool's own files of tests, and the example of Prometheus' documentation, by both.
func TestRuleTestsGoAsInPromtool(t *testing.T) {
	promtool, tidectl := peers.Build(t).Promtool, peers.BuildTool(t)
	// What is wrong with a file is said in other words, with more about the place.
	otherWords := regexp.MustCompile(`parse error|unmarshal errors|could not parse`)
	passed, failed := 0, 0
	check := func(file string, flags ...string) {
		t.Helper()
		want, got := runRuleTest(t, promtool, file, flags...), runRuleTest(t, tidectl, file, flags...)
		if otherWords.MatchString(want.Said) && got.Said != "" {
			got.Said = want.Said
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %v, - promtool, + tidectl:\n%s", filepath.Base(file), flags, diff)
		}
		if want.Code == 0 {
			passed++
		} else {
			failed++
		}
	}
	module := prometheusModule(t)
	files, err := filepath.Glob(filepath.Join(module, "cmd", "promtool", "testdata", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\ntests:")) {
			check(file)
			check(file, "--ignore-unknown-fields")
			check(file, "--run=group_1", "--run=^Failing test$")
		}
	}
	check(documentedRuleTest(t, module))
	if passed < 15 || failed < 10 {
		t.Errorf("%d runs passed and %d failed: promtool's files are not found", passed, failed)
	}
}

// documentedRuleTest writes down the example of Prometheus' documentation.
func documentedRuleTest(t *testing.T, module string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(module, "docs", "configuration", "unit_testing_rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"alerts.yml", "test.yml"} {
		_, after, ok := strings.Cut(string(text), "### `"+name+"`")
		block := fence.FindStringSubmatch(after)
		if !ok || block == nil {
			t.Fatalf("the documentation shows no %s", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(block[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "test.yml")
}
