// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"regexp/syntax"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/strutil"
)

// What a text may hold. No timeout ends the parser and no account is charged by it, so what costs it much more than
// its length is bounded.
const (
	// MaxOperators is how many operators a query may have: the parser's time grows with the square of the length of
	// a chain of them. 5,000 take 0.1 s, 100,000 a minute.
	MaxOperators = 5000
	// MaxTokens is how many words, numbers, strings and signs a query may have. The parser makes some 200 B of each
	// before there is an account to charge.
	MaxTokens = 100_000
	// MaxRegexps is how large the programs of all regular expressions of a query may be together, in instructions
	// of package regexp: about one for each character, but x{1000} is a thousand. One takes 300 B while it is made.
	MaxRegexps = 200_000
)

// weight is what a text makes a query hold however little data there is.
type weight struct {
	tokens, operators, instructions, text int
}

// Bytes of the tree, the plan and the operators for each token, and of the program for each instruction.
const (
	tokenBytes       = 512
	instructionBytes = 90
)

// bytes is what the query holds while it runs.
func (w weight) bytes() int64 {
	return int64(w.text) + tokenBytes*int64(w.tokens) + instructionBytes*int64(w.instructions)
}

// weigh returns the weight of a text, and an error if it is more than may be parsed. A text that is no query is
// weighed up to where it stops being one.
func weigh(input string) (weight, error) {
	w := weight{text: len(input)}
	lexer := parser.Lex(input)
	var item parser.Item
	for {
		lexer.NextItem(&item)
		switch {
		case item.Typ == parser.EOF || item.Typ == parser.ERROR:
			return w, nil
		case item.Typ == parser.STRING: // most long ones are regular expressions, of selectors and of label_replace
			w.instructions += instructionsOf(item.Val, MaxRegexps)
			if w.instructions > MaxRegexps {
				return w, refusal(input, item, "the regular expressions are too large: together they may have %d characters, repetitions counted", MaxRegexps)
			}
		case item.Typ.IsOperator():
			if w.operators++; w.operators > MaxOperators {
				return w, refusal(input, item, "more than %d operators", MaxOperators)
			}
		}
		if w.tokens++; w.tokens > MaxTokens {
			return w, refusal(input, item, "more than %d tokens", MaxTokens)
		}
	}
}

func refusal(input string, at parser.Item, format string, args ...any) error {
	return parser.ParseErrors{{
		PositionRange: posrange.PositionRange{Start: at.Pos, End: at.Pos + posrange.Pos(len(at.Val))},
		Err:           fmt.Errorf(format, args...),
		Query:         input,
	}}
}

// classInstructions is what a class of Unicode by its name weighs: hundreds of ranges.
const classInstructions = 100

// instructionsOf estimates the size of the program of a regular expression, given as a literal of the language. It
// does not look closer once there are more than limit.
func instructionsOf(literal string, limit int) int {
	text, err := strutil.Unquote(literal)
	if err != nil {
		return 0 // the parser says so
	}
	n := len(text) + classInstructions*(strings.Count(text, `\p`)+strings.Count(text, `\P`))
	if !strings.ContainsAny(text, `.*+?[({\^$`) {
		return n / 16 // names side by side are looked up, not run; what can be repeated is one of them
	}
	if n > limit || !strings.Contains(text, "{") {
		return n
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	return programOf(tree, limit)
}

// programOf counts instructions, up to about limit.
func programOf(re *syntax.Regexp, limit int) int {
	n := 1 + len(re.Rune)/8 // a class
	switch re.Op {          //nolint:exhaustive // all others are one instruction beside what is below them
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpConcat, syntax.OpRepeat:
		n = 0
	}
	for _, sub := range re.Sub {
		if n += programOf(sub, limit); n > limit {
			return n
		}
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Max, re.Min+1)
	}
	return n
}
