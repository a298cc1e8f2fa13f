// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package jsonlines

import (
	"github.com/tidemarkdb/tidemark/ingest/push"
)

// list goes through the elements of a JSON array. A list that is not there has none.
type list struct {
	line  []byte
	at    int
	end   int
	from  int // where the element begins that was returned last
	begun bool
	done  bool
}

func newList(line []byte, p part) list {
	return list{line: line, at: p.from, end: p.to, done: p.to == 0}
}

// next returns the next element, nil if there is none.
func (l *list) next() ([]byte, error) {
	if l.done {
		return nil, nil
	}
	b := l.line[:l.end]
	at := blank(b, l.at)
	switch {
	case l.begun:
	case b[at] != '[':
		return nil, push.Bad(at, "a list begins with an opening bracket")
	default:
		l.begun = true
		if at = blank(b, at+1); at < len(b) && b[at] == ']' {
			l.done = true
			return nil, nil
		}
	}
	if at >= len(b) {
		return nil, push.Bad(at, "the list has no end")
	}
	l.from = at
	end, err := l.elementEnd(b, at)
	if err != nil {
		return nil, err
	}
	if at = blank(b, end); at >= len(b) || b[at] != ',' && b[at] != ']' {
		return nil, push.Bad(at, "a comma or a closing bracket is missing")
	}
	l.done = b[at] == ']'
	l.at = at + 1
	return b[l.from:end], nil
}

// elementEnd returns where an element ends; numbers are most of them.
func (l *list) elementEnd(b []byte, at int) (int, error) {
	if c := b[at]; c != '-' && (c < '0' || c > '9') {
		end, err := valueEnd(b, at)
		if err == nil && (c == ',' || c == ':' || c == ']' || c == '}') {
			err = push.Bad(at, "a value is missing")
		}
		return end, err
	}
	for at < len(b) && b[at] != ',' && b[at] != ']' && b[at] != ' ' {
		at++
	}
	return at, nil
}

// start returns the next start timestamp, 0 where the list has no more.
func (l *list) start() (int64, error) {
	b, err := l.next()
	if b == nil || err != nil {
		return 0, err
	}
	t, err := push.Integer(b)
	if err != nil {
		return 0, push.Bad(l.from, "a start timestamp is "+err.Error())
	}
	return t, nil
}
