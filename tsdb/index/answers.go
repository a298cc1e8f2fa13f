// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import "github.com/prometheus/prometheus/model/labels"

// Answers keeps what expressions have matched among the values of a reader, which never change, so that an expression
// that comes again looks at none of them. It may forget any of it. It is safe for concurrent use.
type Answers interface {
	// Answer returns the numbers that were kept for a key. They are not changed.
	Answer(key string) (numbers []uint32, ok bool)
	// Keep may keep numbers, which nobody changes any more.
	Keep(key string, numbers []uint32)
}

// KeepIn has what expressions match kept in a, where a key names them for this reader alone. It comes before the
// first use.
func (r *Reader) KeepIn(a Answers) { r.answers = a }

// keeper is a source that may know what a matcher has matched before.
type keeper interface {
	known(m *labels.Matcher) (lists []uint32, ok bool)
	learn(m *labels.Matcher, lists []uint32)
}

func (v readerView) known(m *labels.Matcher) (lists []uint32, ok bool) {
	if v.answers == nil {
		return nil, false
	}
	return v.answers.Answer(answerKey(m))
}

func (v readerView) learn(m *labels.Matcher, lists []uint32) {
	if v.answers != nil {
		v.answers.Keep(answerKey(m), lists)
	}
}

// answerKey names an expression. It has one answer with its negation: the values of which it says something else than
// of the empty text.
func answerKey(m *labels.Matcher) string { return string(appendText(nil, m.Name)) + m.Value }
