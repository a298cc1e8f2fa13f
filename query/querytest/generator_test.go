// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

func TestGeneratorReachesTheWholeLanguage(t *testing.T) {
	missing := map[string]bool{}
	for name := range parser.Functions {
		missing[name+"("] = true
	}
	for item, text := range parser.ItemTypeStr {
		if item.IsOperator() || item.IsAggregator() {
			missing[text] = true
		}
	}
	for _, text := range []string{
		"anchored", "smoothed", "fill (", "fill_left (", "fill_right (", "offset -", "@ start()", "@ end()", "group_left", "group_right",
		" on (", " ignoring (", " bool ", " by (", " without (", "and on", "or ignoring", "[step()", "__name__",
	} {
		missing[text] = true
	}
	g := NewGenerator(1, RandomData(1))
	for range 20_000 {
		text := g.Text()
		maps.DeleteFunc(missing, func(part string, _ bool) bool { return strings.Contains(text, part) })
	}
	if len(missing) > 0 {
		t.Fatalf("never made: %q", slices.Sorted(maps.Keys(missing)))
	}
}

func TestGeneratorMakesTheSameQueriesForASeed(t *testing.T) {
	d := RandomData(5)
	a, b := NewGenerator(9, d), NewGenerator(9, d)
	for range 500 {
		if x, y := a.Query(), b.Query(); x.String() != y.String() {
			t.Fatalf("%s\nand %s", x, y)
		}
	}
}
