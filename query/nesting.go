// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
)

// MaxNesting is how deep brackets in a query may nest. The parser's time grows with the square of the depth and no
// timeout ends it: 20,000 parentheses keep a core busy for 5 s, 1,000 for a few milliseconds. No query that was
// written to be read comes near.
const MaxNesting = 1000

// boundedParser refuses what nests deeper than MaxNesting, or weighs too much, before it is parsed.
type boundedParser struct{ parser.Parser }

// ParseExpr parses a query.
func (p boundedParser) ParseExpr(input string) (parser.Expr, error) {
	if err := bounded(input); err != nil {
		return nil, err
	}
	return p.Parser.ParseExpr(input)
}

// ParseMetricSelector parses a selector.
func (p boundedParser) ParseMetricSelector(input string) ([]*labels.Matcher, error) {
	if err := bounded(input); err != nil {
		return nil, err
	}
	return p.Parser.ParseMetricSelector(input)
}

// ParseMetricSelectors parses several selectors.
func (p boundedParser) ParseMetricSelectors(inputs []string) ([][]*labels.Matcher, error) {
	for _, input := range inputs {
		if err := bounded(input); err != nil {
			return nil, err
		}
	}
	return p.Parser.ParseMetricSelectors(inputs)
}

// bounded returns why an input is not to be parsed, if it is not.
func bounded(input string) error {
	if at := tooDeep(input); at >= 0 {
		return parser.ParseErrors{{
			PositionRange: posrange.PositionRange{Start: posrange.Pos(at), End: posrange.Pos(at + 1)},
			Err:           fmt.Errorf("brackets nest deeper than %d levels", MaxNesting),
			Query:         input,
		}}
	}
	_, err := weigh(input)
	return err
}

// tooDeep returns the position of the bracket that nests too deep, -1 if there is none. Brackets in strings and
// comments do not count.
func tooDeep(input string) int {
	if len(input) <= MaxNesting {
		return -1
	}
	depth := 0
	for i := 0; i < len(input); i++ {
		switch c := input[i]; c {
		case '(', '[', '{':
			if depth++; depth > MaxNesting {
				return i
			}
		case ')', ']', '}':
			depth--
		case '"', '\'', '`':
			for i++; i < len(input) && input[i] != c; i++ {
				if input[i] == '\\' && c != '`' {
					i++
				}
			}
		case '#':
			for i < len(input) && input[i] != '\n' {
				i++
			}
		}
	}
	return -1
}
