// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFunctionLines = 70   // fits on a screen with its doc comment
	maxFileLines     = 600  // one sitting's reading
	maxTestLines     = 1000 // tables are long and read in parts
	minPageLines     = 4    // purpose, nouns, lifetime, concurrency: four lines at the very least
)

// bannedNames say where a thing was put and not what it is.
var bannedNames = []string{
	"util", "utils", "common", "helper", "helpers", "misc", "base", "types", "v2", "legacy", "manager",
}

// checkPackagePages asks for the page that opens a package.
func checkPackagePages(t *tree) []finding {
	var found []finding
	pkgs := t.packages()
	for _, dir := range sortedKeys(pkgs) {
		best, name := 0, pkgs[dir][0].ast.Name.Name
		for _, f := range pkgs[dir] {
			if f.ast.Doc != nil {
				best = max(best, strings.Count(f.ast.Doc.Text(), "\n"))
			}
		}
		if best < minPageLines {
			found = append(found, finding{path: pkgs[dir][0].path, msg: fmt.Sprintf(
				"package %s has %d lines of documentation: say in doc.go or the main file what it is for, its nouns, its lifetime and who may call it concurrently",
				name, best)})
		}
	}
	return found
}

// checkFunctionSizes counts the lines of every function body that are not comments alone.
func checkFunctionSizes(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles() {
		if f.isTest() || f.isGenerated() {
			continue
		}
		comments := commentLines(t, f)
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := 0
			for line := t.line(fn.Body.Lbrace) + 1; line < t.line(fn.Body.Rbrace); line++ {
				if !comments[line] {
					n++
				}
			}
			if n > maxFunctionLines {
				found = append(found, finding{f.path, t.line(fn.Pos()), fmt.Sprintf(
					"function %s has %d lines, %d at most: name a part of it", fn.Name.Name, n, maxFunctionLines)})
			}
		}
	}
	return found
}

// commentLines are the lines on which nothing but a comment stands.
func commentLines(t *tree, f *file) map[int]bool {
	lines := strings.Split(f.text, "\n")
	out := map[int]bool{}
	for _, g := range f.ast.Comments {
		for _, c := range g.List {
			first, last := t.line(c.Pos()), t.line(c.End())
			for n := first; n <= last; n++ {
				out[n] = n > first || strings.HasPrefix(strings.TrimSpace(lines[n-1]), c.Text[:2])
			}
		}
	}
	return out
}

func checkFileSizes(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles() {
		limit := maxFileLines
		if f.isTest() {
			limit = maxTestLines
		}
		if n := f.lines(); n > limit && !f.isGenerated() {
			found = append(found, finding{path: f.path, msg: fmt.Sprintf(
				"%d lines, %d at most: move one noun with its methods to its own file", n, limit)})
		}
	}
	return found
}

// checkNames looks at the words of file names and at package directories.
func checkNames(t *tree) []finding {
	var found []finding
	seen := map[string]bool{}
	for _, f := range t.goFiles() {
		stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
		for word := range strings.SplitSeq(stem, "_") {
			if slices.Contains(bannedNames, word) {
				found = append(found, finding{path: f.path, msg: fmt.Sprintf(
					"file name says %q: name it after the noun it holds", word)})
			}
		}
		dir := path.Base(f.dir())
		if seen[f.dir()] {
			continue
		}
		seen[f.dir()] = true
		if slices.Contains(bannedNames, dir) || strings.HasSuffix(dir, "util") || strings.HasSuffix(dir, "utils") {
			found = append(found, finding{path: f.dir(), msg: fmt.Sprintf(
				"package name says %q: name it after the concept its users need", dir)})
		}
	}
	return found
}

const licence = "// Copyright The Tidemark Authors\n// SPDX-License-Identifier: Apache-2.0\n\n"

func checkLicence(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles() {
		if !strings.HasPrefix(f.text, licence) && !f.isGenerated() {
			found = append(found, finding{
				f.path, 1,
				"no licence header: start with the copyright line, the SPDX line and an empty line, as cmd/tidy/main.go does",
			})
		}
	}
	return found
}

var (
	openEnd     = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	openEndGood = regexp.MustCompile(`\bTODO\([a-z][a-z0-9-]*, #[0-9]+\): `)
)

// checkOpenEnds lets an open end stand only with a name and an issue.
func checkOpenEnds(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles() {
		if f.dir() == "cmd/tidy" {
			continue // speaks of them
		}
		for _, g := range f.ast.Comments {
			for _, c := range g.List {
				if m := openEnd.FindString(c.Text); m != "" && !openEndGood.MatchString(c.Text) {
					found = append(found, finding{f.path, t.line(c.Pos()), fmt.Sprintf(
						"%s without a name and an issue: do it now, or write TODO(name, #issue): what and why not yet", m)})
				}
			}
		}
	}
	return found
}

// checkSkips reports tests that take themselves out. What a test needs is installed by
// `make test`; what cannot run anywhere is not a test.
func checkSkips(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles() {
		if !f.isTest() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name, pos, ok := skipCall(n); ok {
				found = append(found, finding{f.path, t.line(pos), fmt.Sprintf(
					"%s hides a test that does not run: install what it needs in make test and fail without it; a fuzz target returns instead", name)})
			}
			return true
		})
	}
	return found
}

// skipCall recognises t.Skip, b.Skipf and their like on the usual names of a testing value.
func skipCall(n ast.Node) (string, token.Pos, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", 0, false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", 0, false
	}
	on, ok := sel.X.(*ast.Ident)
	if !ok || !slices.Contains([]string{"t", "b", "f", "tb"}, on.Name) {
		return "", 0, false
	}
	if !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
		return "", 0, false
	}
	return on.Name + "." + sel.Sel.Name, call.Pos(), true
}
