// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
	"github.com/tidemarkdb/tidemark/ingest/config"
)

// snippet is a fenced block of a document.
type snippet struct {
	file, language, text string
}

var fence = regexp.MustCompile("(?ms)^ *```(\\w+)\n(.*?)^ *```")

// snippets returns the blocks of all documents that name a language.
func snippets(t *testing.T) []snippet {
	t.Helper()
	root := peers.Root(t)
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"))
	var out []snippet
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			out = append(out, snippet{filepath.Base(file), m[1], m[2]})
		}
	}
	return out
}

// TestCommandsInTheDocumentsAreCommands parses every tidemark command line and looks up every make
// target that a document shows.
func TestCommandsInTheDocumentsAreCommands(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(peers.Root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	servers, targets := 0, 0
	for _, s := range snippets(t) {
		if s.language != "sh" {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(s.text, "\\\n", " "), "\n") {
			words := strings.Fields(line)
			switch {
			case len(words) == 0:
			case words[0] == "bin/tidemark" || words[0] == "tidemark":
				servers++
				if _, err := parseFlags(words[1:], io.Discard); err != nil {
					t.Errorf("%s: %s: %v", s.file, line, err)
				}
			case words[0] == "make" && len(words) > 1:
				targets++
				if !strings.Contains(string(makefile), "\n"+words[1]+":") {
					t.Errorf("%s: %s: the Makefile has no such target", s.file, line)
				}
			}
		}
	}
	if servers < 3 || targets < 3 {
		t.Errorf("%d command lines and %d targets found: the documents are not read", servers, targets)
	}
}

// TestConfigurationsInTheDocumentsLoad loads every YAML block that is a configuration.
func TestConfigurationsInTheDocumentsLoad(t *testing.T) {
	loaded := 0
	for _, s := range snippets(t) {
		if s.language != "yaml" {
			continue
		}
		loaded++
		file := filepath.Join(t.TempDir(), "prometheus.yml")
		if err := os.WriteFile(file, []byte(s.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.Options{File: file}); err != nil {
			t.Errorf("%s: %v in\n%s", s.file, err, s.text)
		}
	}
	if loaded == 0 {
		t.Error("no configuration found: the documents are not read")
	}
}

func TestExampleConfigurationLoads(t *testing.T) {
	c, err := config.Load(config.Options{File: filepath.Join(peers.Root(t), "docs", "example", "prometheus.yml")})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := c.RuleFiles()
	if err != nil || len(rules) != 1 {
		t.Errorf("rule files are %q: %v", rules, err)
	}
	if len(c.Inert) > 0 {
		t.Errorf("the example sets keys without effect: %q", c.Inert)
	}
}

var (
	promiseTests = regexp.MustCompile("`([a-z/]+)` (Test[A-Za-z0-9_]+(?:, Test[A-Za-z0-9_]+)*)")
	testName     = regexp.MustCompile(`Test[A-Z][A-Za-z0-9_]*`)
)

// TestEveryTestThatHoldsAPromiseExists looks up the tests of the table in docs/testing.md, and the states in it.
func TestEveryTestThatHoldsAPromiseExists(t *testing.T) {
	root := peers.Root(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, m := range promiseTests.FindAllStringSubmatch(string(text), -1) {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(m[1]), "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no tests, %v", m[1], err)
			continue
		}
		var all strings.Builder
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(source)
		}
		for _, name := range testName.FindAllString(m[2], -1) {
			if named++; !strings.Contains(all.String(), "\nfunc "+name+"(t *testing.T)") {
				t.Errorf("docs/testing.md names %s of %s, which there is not", name, m[1])
			}
		}
	}
	if all := len(testName.FindAllString(string(text), -1)); named != all || named < 50 {
		t.Errorf("%d of %d tests were looked up: the others are not named behind their package", named, all)
	}
	states, err := os.ReadFile(filepath.Join(root, "docs", "states.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\| \[([a-z -]+)\]\(#`).FindAllStringSubmatch(string(states), -1) {
		if m[1] != "normal" && !strings.Contains(string(text), "| State *"+m[1]+"*") {
			t.Errorf("docs/testing.md names no test of the state %s", m[1])
		}
	}
}
