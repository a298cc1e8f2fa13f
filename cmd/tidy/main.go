// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Command tidy checks the rules of this repository that no linter knows: the import direction
// between our packages, a page of documentation for each of them, the size of functions and
// files, names that say nothing, licence headers, links between documents, tests that skip
// themselves, large binaries, and the list of modules linked into the server.
//
//	go run ./cmd/tidy            report every breach as file:line: what is wrong: what to do
//	go run ./cmd/tidy -update    also rewrite docs/deps.txt
//
// A rule is a function from a tree, which is the repository read once, to its findings. The
// rules are listed in one table below; they share nothing, so a new one is one function, one
// line of that table and one test. The tree is an fs.FS: the tests hand in a map.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// finding is one breach of a rule. Line 0 speaks of the whole file.
type finding struct {
	path string
	line int
	msg  string // what is wrong, a colon, what to do
}

func (f finding) String() string {
	if f.line == 0 {
		return fmt.Sprintf("%s: %s", f.path, f.msg)
	}
	return fmt.Sprintf("%s:%d: %s", f.path, f.line, f.msg)
}

// rules are all checks that need nothing but the tree.
var rules = []func(*tree) []finding{
	checkImports,
	checkPackagePages,
	checkFunctionSizes,
	checkFileSizes,
	checkNames,
	checkLicence,
	checkBinaries,
	checkOpenEnds,
	checkSkips,
	checkLinks,
	checkPins,
}

func main() {
	update := flag.Bool("update", false, "rewrite docs/deps.txt from what cmd/tidemark links")
	flag.Parse()
	n, err := run(*update)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tidy:", err)
		os.Exit(2)
	}
	if n > 0 {
		fmt.Fprintf(os.Stderr, "tidy: %d to mend\n", n)
		os.Exit(1)
	}
}

// run prints every finding and returns how many there are.
func run(update bool) (int, error) {
	root, err := findRoot()
	if err != nil {
		return 0, err
	}
	t, err := readTree(os.DirFS(root))
	if err != nil {
		return 0, err
	}
	var found []finding
	for _, rule := range rules {
		found = append(found, rule(t)...)
	}
	deps, err := checkDeps(root, update)
	if err != nil {
		return 0, err
	}
	found = append(found, deps...)
	slices.SortStableFunc(found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line))
	})
	for _, f := range found {
		fmt.Println(f)
	}
	return len(found), nil
}

// findRoot returns the directory of the go.mod above the working directory.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory: run tidy inside the repository")
		}
		dir = parent
	}
}
