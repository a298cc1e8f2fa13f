// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// direction says who may import whom. `a < b` means that b may import a and everything a may
// import; a comma joins packages that stand on the same step; a semicolon ends a chain. A package
// that is named nowhere may import none of ours, and is reported so that its place is decided
// rather than found. docs/architecture.md draws the same picture.
const direction = `
	tsdb/invariant < tsdb/fsx, tsdb/budget < tsdb/arena;
	tsdb/budget < tsdb/sample < tsdb/column < tsdb/column/queryable, tsdb/column/columntest;
	tsdb/arena, tsdb/column
		< tsdb/journal, tsdb/chunk
		< tsdb/index
		< tsdb/wal, tsdb/block
		< tsdb/head, tsdb/compact
		< tsdb
		< tsdb/prom, tsdb/tsdbtest;
	tsdb/budget < tsdb/encoding < tsdb/chunk;
	tsdb/column/queryable < tsdb;
	tsdb/decbuf < tsdb/chunk, query/cache, ingest/forward;
	tsdb/dumptest < tsdb/block, ingest/forward;

	tsdb/arena, tsdb/column/queryable, tsdb/journal
		< ingest/config, ingest/limits, ingest, rules, web/api;

	tsdb/arena, tsdb/column/queryable, tsdb/journal < query/vector < query/operator
		< query/operator/scan, query/operator/window, query/operator/function, query/operator/aggregate,
		  query/operator/bucket, query/operator/join, query/operator/info, query/foreign,
		  query/operator/operatortest
		< query/exec;
	query/foreign < query/remoteread;
	query/operator < query/operator/scalar < query/exec;
	query/operator < query/operator/retain < query/operator/aggregate, query/operator/bucket;
	tsdb/column/columntest < query/operator/operatortest;
	query/operator < query/operator/operand < query/operator/join, query/operator/info;
	query/vector < query/plan < query/exec, query/cache < query < query/querytest;
	tsdb/column/columntest < query/querytest;
	query < rules < rules/notify, rules/unittest, rules/backtest;
	rules/backtest < web/api;
	tsdb/arena, tsdb/column/queryable, tsdb/journal < ingest/dedup < ingest;
	ingest < ingest/ingesttest;
	ingest < ingest/scrape/loop < ingest/scrape;
	ingest, ingest/config < ingest/scrape, ingest/remotewrite, ingest/forward, ingest/otlp, ingest/push;
	ingest/push < ingest/push/influx, ingest/push/graphite, ingest/push/exposition, ingest/push/csv, ingest/push/jsonlines;
	ingest/scrape/kinds, ingest/scrape/scrapetest;
	rules < web/api < web;
`

// graph maps a package to all packages it may import.
type graph map[string]map[string]bool

// parseDirection turns the text above into its transitive closure.
func parseDirection(text string) (graph, error) {
	g := graph{}
	for chain := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(chain) == "" {
			continue
		}
		var below []string
		for step := range strings.SplitSeq(chain, "<") {
			names := strings.FieldsFunc(step, func(r rune) bool { return strings.ContainsRune(", \t\n", r) })
			if len(names) == 0 {
				return nil, fmt.Errorf("direction: a step without a package in %q", strings.TrimSpace(chain))
			}
			for _, name := range names {
				g.allow(name, below)
			}
			below = append(below, names...)
		}
	}
	g.close()
	for name, may := range g {
		if may[name] {
			return nil, fmt.Errorf("direction: %s stands below itself", name)
		}
	}
	return g, nil
}

func (g graph) allow(name string, below []string) {
	if g[name] == nil {
		g[name] = map[string]bool{}
	}
	for _, b := range below {
		g[name][b] = true
	}
}

// close adds what may be imported through another package until nothing changes.
func (g graph) close() {
	for changed := true; changed; {
		changed = false
		for _, may := range g {
			for mid := range may {
				for far := range g[mid] {
					if !may[far] {
						may[far] = true
						changed = true
					}
				}
			}
		}
	}
}

// checkImports compares every import of one of our packages by another with direction.
func checkImports(t *tree) []finding {
	g, err := parseDirection(direction)
	if err != nil {
		return []finding{{path: "cmd/tidy/imports.go", msg: err.Error()}}
	}
	var found []finding
	unplaced := map[string]bool{}
	for _, f := range t.goFiles() {
		from := f.dir()
		if !strings.HasPrefix(from, "cmd/") && g[from] == nil && !unplaced[from] && !strings.Contains(from, "internal") {
			unplaced[from] = true
			found = append(found, finding{path: f.path, msg: fmt.Sprintf(
				"package %s has no place in the import graph: add it to direction in cmd/tidy/imports.go and to docs/architecture.md", from)})
		}
		for _, imp := range f.ast.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			to, ours := strings.CutPrefix(p, modulePath+"/")
			if !ours || g.permits(from, to, f.isTest()) {
				continue
			}
			found = append(found, finding{f.path, t.line(imp.Pos()), fmt.Sprintf(
				"%s must not import %s: declare the small interface it needs and let cmd connect the two, or move the shared type down", from, to)})
		}
	}
	return found
}

// permits tells whether a file of package from may import package to. Tests may reach everywhere
// but into cmd: a program's parts belong to that program.
func (g graph) permits(from, to string, test bool) bool {
	if owner, ok := program(to); ok {
		mine, isCmd := program(from)
		return isCmd && mine == owner
	}
	if parent, _, ok := strings.Cut(to, "/internal"); ok {
		to = parent
	}
	if parent, _, ok := strings.Cut(from, "/internal"); ok {
		from = parent
	}
	return test || from == to || strings.HasPrefix(from, "cmd/") || g[from][to]
}

// program returns the name of the program a package under cmd belongs to.
func program(pkg string) (string, bool) {
	parts := strings.Split(pkg, "/")
	if len(parts) < 2 || parts[0] != "cmd" {
		return "", false
	}
	return parts[1], true
}

// packages lists the directories that hold Go files outside testdata, with their non-test files.
func (t *tree) packages() map[string][]*file {
	out := map[string][]*file{}
	for _, f := range t.goFiles() {
		if !f.isTest() {
			out[f.dir()] = append(out[f.dir()], f)
		}
	}
	return out
}

// sortedKeys keeps reports in one order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
