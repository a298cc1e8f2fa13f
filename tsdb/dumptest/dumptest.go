// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package dumptest compares the bytes that a format document shows with those that are written, for tests of whoever
// writes them.
//
//	document  a page of docs whose name begins with "format"
//	dump      the bytes of an example as hex.Dump writes them, once in a document, between two comments of HTML
//
// It keeps nothing. Tests that update one document must not run side by side.
package dumptest

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	begin = "<!-- dump -->\n```\n"
	end   = "```\n<!-- end of dump -->"
)

// Check fails unless doc shows raw. With update it makes doc show it.
func Check(tb testing.TB, doc string, raw []byte, update bool) {
	tb.Helper()
	text, err := os.ReadFile(doc)
	if err != nil {
		tb.Fatal(err)
	}
	want := hex.Dump(raw)
	shown, after, err := with(string(text), want)
	if err != nil {
		tb.Fatalf("%s: %v", doc, err)
	}
	if !update {
		if shown != want {
			tb.Errorf("%s shows\n%s\nbut what is written is\n%s", doc, shown, want)
		}
		return
	}
	if err := os.WriteFile(doc, []byte(after), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// with returns the dump of a document, and the document with another one.
func with(doc, dump string) (was, after string, err error) {
	head, rest, ok := strings.Cut(doc, begin)
	was, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", "", fmt.Errorf("no dump between %q and %q", begin, end)
	}
	return was, head + begin + dump + end + tail, nil
}
