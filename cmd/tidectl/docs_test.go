// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsInTheDocumentsAreCommands parses every tidectl command line that a document shows.
func TestCommandsInTheDocumentsAreCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "bin/tidectl" {
				continue
			}
			found++
			if c, _ := parse(words[1:], io.Discard, io.Discard); c == nil {
				t.Errorf("%s: %s: cannot be parsed", file, line)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d command lines found: the documents are not read", found)
	}
}
