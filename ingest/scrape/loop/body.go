// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"slices"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/textparse"
)

// maxReturns is how often a body may leave the way that is known and come back to it: each time the rest is copied.
const maxReturns = 32

// noParserError is that of a body of no known kind.
type noParserError struct{ err error }

func (e *noParserError) Error() string { return e.err.Error() }
func (e *noParserError) Unwrap() error { return e.err }

// read reads a body.
func (r *round) read(body []byte, contentType string) error {
	if !r.set.plainText || !isPlainText(contentType, r.set.parser.FallbackContentType) {
		r.deviate()
		p, err := textparse.New(body, contentType, nil, r.set.parser)
		if p == nil {
			return &noParserError{err}
		}
		_, err = r.readParsed(p, nil, false)
		return r.ending(err)
	}
	pos := r.readKnown(body, 0)
	for returns := 0; pos < len(body) && r.req.Err() == nil; returns++ {
		next, err := r.readOdd(body, pos, returns < maxReturns)
		if err != nil {
			return r.ending(err)
		}
		pos = r.readKnown(body, next)
	}
	return r.ending(nil)
}

// isPlainText reports whether the parser would be that of the text format.
func isPlainText(contentType, fallback string) bool {
	const text = "text/plain"
	if contentType == text+"; version=0.0.4; charset=utf-8" { // nearly always
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err == nil {
		switch media {
		case text:
			return true
		case "application/openmetrics-text", "application/vnd.google.protobuf":
			return false
		}
	}
	return fallback == text
}

// ending returns the error of a scrape, which is that of a limit where there is no other. What was read before is known to
// the cache from now on, in any case.
func (r *round) ending(err error) error {
	if r.limitErr != nil {
		r.m.sampleLimit.Inc()
	}
	if r.bucketErr != nil {
		r.m.bucketLimit.Inc()
	}
	foreseen := r.foresee()
	for _, first := range []error{err, r.req.Err(), r.limitErr, r.bucketErr} {
		if first != nil {
			return first
		}
	}
	return foreseen
}

// readOdd reads a body in the text format from pos on with a parser, to its end or, where it may, until a series was
// where it is expected. It returns where it stopped.
func (r *round) readOdd(body []byte, pos int, mayReturn bool) (int, error) {
	r.deviate()
	// The parser has one state at the beginning of a line: the last type. So it is told that once more.
	head := r.typ.line()
	r.buf = append(append(r.buf[:0], head...), body[pos:]...)
	r.buf = slices.Grow(r.buf, 1) // room for what the parser adds
	p := textparse.NewPromParser(r.buf, nil, false)
	if head != "" {
		if _, err := p.Next(); err != nil {
			return 0, err
		}
	}
	g := &gap{body: r.buf, start: len(head)}
	stopped, err := r.readParsed(p, g, mayReturn)
	if err != nil {
		return 0, err
	}
	if !stopped {
		r.note(g, len(r.buf))
		return len(body), nil
	}
	return pos + g.start - len(head), nil
}

// readParsed reads what a parser has, to its end or, where it may, until a series was where it is expected; stopped says
// that it was. g is that of the text format, nil for others.
func (r *round) readParsed(p textparse.Parser, g *gap, mayReturn bool) (stopped bool, err error) {
	for {
		kind, err := p.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			return false, err
		}
		switch kind {
		case textparse.EntryType, textparse.EntryHelp, textparse.EntryUnit:
			r.tell(p, kind, g)
			continue
		case textparse.EntryComment:
			continue
		case textparse.EntrySeries, textparse.EntryHistogram, textparse.EntryInvalid:
		}
		x := parsed{p: p, isHistogram: kind == textparse.EntryHistogram}
		if x.isHistogram {
			x.text, x.explicit, x.hist.h, x.hist.fh = p.Histogram()
		} else {
			x.text, x.explicit, x.v = p.Series()
		}
		r.inSync = true
		if g != nil {
			at := g.offset(x.text)
			r.note(g, at)
			g.start = at + len(x.text)
			g.start += bytes.IndexByte(g.body[g.start:len(g.body)+1], '\n') + 1 // the parser has added one
		}
		if err := r.sample(&x); err != nil {
			return false, err
		}
		if mayReturn && r.inSync && g.start <= len(g.body) {
			return true, nil
		}
	}
}

// tell notes what a body says of a family.
func (r *round) tell(p textparse.Parser, kind textparse.Entry, g *gap) {
	var name []byte
	typ := noType
	f := &r.c.families
	describe := func(change func(*metadata.Metadata) bool) {
		r.family = f.at(name)
		f.tell(r.family, r.c.iter, change)
	}
	switch kind {
	case textparse.EntryType:
		n, t := p.Type()
		name, typ = n, typeNumber(t)
		describe(func(m *metadata.Metadata) bool {
			changed := m.Type != t
			m.Type = t
			return changed
		})
	case textparse.EntryHelp:
		n, help := p.Help()
		name = n
		describe(func(m *metadata.Metadata) bool { return setText(&m.Help, help) })
	default:
		n, unit := p.Unit()
		name = n
		describe(func(m *metadata.Metadata) bool { return setText(&m.Unit, unit) })
	}
	r.describe = true
	r.mayLook()
	if typ != noType {
		r.typ = typ
	}
	if g != nil {
		g.tell(name, r.family, typ)
	}
}

func setText(to *string, text []byte) bool {
	if *to == string(text) {
		return false
	}
	*to = string(text)
	return true
}
