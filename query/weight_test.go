// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/util/strutil"
)

func TestWhatIsTooMuchToParseIsRefused(t *testing.T) {
	p := Features{}.NewParser()
	check := func(what, query, refused string) {
		t.Helper()
		begun := time.Now()
		_, err := p.ParseExpr(query)
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s: took %s", what, took)
		}
		switch {
		case refused == "" && err != nil:
			t.Errorf("%s: %.200v", what, err)
		case refused != "" && (err == nil || !strings.Contains(err.Error(), refused)):
			t.Errorf("%s: %.200v, want an error with %q", what, err, refused)
		}
	}
	const operators, regexps = "more than 5000 operators", "the regular expressions are too large"
	check("as many operators as allowed", "m"+strings.Repeat(" + m", MaxOperators), "")
	check("one more", "m"+strings.Repeat(" + m", MaxOperators+1), operators)
	check("as many tokens as allowed", `label_join(m, "a", "-"`+strings.Repeat(`, "b"`, MaxTokens/2-4)+")", "")
	check("more", `label_join(m, "a", "-"`+strings.Repeat(`, "b"`, MaxTokens/2)+")", "more than 100000 tokens")
	check("a chain of signs", strings.Repeat("-", 1_000_000)+"m", operators)
	check("a chain of numbers", "1"+strings.Repeat("^1", 1_000_000), operators)
	check("a chain of set operators", "m"+strings.Repeat(" or m", 1_000_000), operators)
	check("operators in strings and comments", `m{a="`+strings.Repeat("+", 100_000)+`"} #`+strings.Repeat("+", 100_000), "")
	check("many names", `m{a=~"`+strings.Repeat("instance-1234|", 100_000)+`x"}`, "")
	check("many patterns", `m{a=~"`+strings.Repeat("instance-1234.*|", 10_000)+`x"}`, "")
	check("too many patterns", `m{a=~"`+strings.Repeat("instance-1234.*|", 20_000)+`x"}`, regexps)
	check("repetitions", `m{a=~"`+strings.Repeat("a{1000}", 150)+`"}`, "")
	check("too many repetitions", `m{a!~"`+strings.Repeat("a{1000}", 300)+`"}`, regexps)
	check("too many repetitions in many selectors", "m"+strings.Repeat(" or m{a=~`b{1000}`}", 300), regexps)
	check("too many repetitions in a function", `label_replace(m, "a", "$1", "b", "`+strings.Repeat("a{1000}", 300)+`")`, regexps)
	check("nested repetitions", `m{a=~"`+strings.Repeat("((a{0,10}b){10}c{2}){5}", 300)+`"}`, regexps)
	check("classes of Unicode", "m{a=~`"+strings.Repeat(`\pL`, 5000)+"`}", regexps)
	check("a broken expression", `m{a=~"(`+strings.Repeat("a{2}", 10)+`"}`, "error parsing regexp")
	if _, err := p.ParseMetricSelector(`m{a=~"` + strings.Repeat("a{1000}", 300) + `"}`); err == nil {
		t.Error("a selector may have what a query may not")
	}
	if _, err := p.ParseMetricSelectors([]string{"m", `m{a=~"` + strings.Repeat("a{1000}", 300) + `"}`}); err == nil {
		t.Error("one of several selectors may have what a query may not")
	}
}

// The estimate must not be far below what the compiler makes of an expression.
func TestInstructionsAreEstimated(t *testing.T) {
	for _, text := range []string{
		"a.*b", "(foo|bar)+x?", "a{1000}", "(a{10}){100}", "((ab|c){3,7}d{2,}){20}", "[a-z]{500}", "(?i)hello{300}",
		"x{0,1000}", "(x{0,30}y{0,30}){1,30}", strings.Repeat("abc.*|", 500) + "z",
	} {
		tree, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		prog, err := syntax.Compile(tree.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		got := instructionsOf(strutilQuote(text), 1<<30)
		if got*3 < len(prog.Inst) || got > 10*len(prog.Inst)+20 {
			t.Errorf("%.40s: %d instructions, want about %d", text, got, len(prog.Inst))
		}
		regexp.MustCompile(text)
	}
}

func strutilQuote(s string) string {
	q := "`" + s + "`"
	if got, err := strutil.Unquote(q); err != nil || got != s {
		panic("not a raw string: " + s)
	}
	return q
}
