// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"strings"
	"testing"
)

func TestQueriesMayNestOnlySoDeep(t *testing.T) {
	p := Features{}.NewParser()
	nested := func(n int, open, inner, shut string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
	}
	check := func(what, query string, want bool) {
		t.Helper()
		_, err := p.ParseExpr(query)
		if got := err == nil; got != want {
			t.Errorf("%s: parsed %t, want %t: %v", what, got, want, err)
		}
		if !want && err != nil && !strings.Contains(err.Error(), "1:1001: parse error: brackets nest deeper than 1000 levels") {
			t.Errorf("%s: %v does not say where and why", what, err)
		}
	}
	check("as deep as allowed", nested(MaxNesting, "(", "up", ")"), true)
	check("one deeper", nested(MaxNesting+1, "(", "up", ")"), false)
	check("a bomb", nested(200_000, "(", "up", ")"), false)
	check("many brackets side by side", "up"+strings.Repeat(" + (up)", 2*MaxNesting), true)
	check("brackets in a string", `up{a="`+strings.Repeat("(", 2*MaxNesting)+`\"("}`, true)
	check("brackets in a raw string", "up{a=`"+strings.Repeat("(", 2*MaxNesting)+"\\`}", true)
	check("brackets in a comment", "up #"+strings.Repeat("(", 2*MaxNesting)+"\n", true)
}
