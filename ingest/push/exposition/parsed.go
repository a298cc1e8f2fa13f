// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// parsed reads OpenMetrics and protobuf by Prometheus' own parsers, which take bodies as a whole.
type parsed struct {
	contentType string
	lines       bool // the body is text: behind a line that cannot be read the next one can
	family      family
	begun       int // series of the body

	counted, line int // the line breaks of the body that are counted, up to where

	parser textparse.Parser // stands at the series that is begun
	atHand int              // its number
	all    []labels.Labels  // of all series of the body, made when one is asked for again
}

// Protocol implements push.Format.
func (*parsed) Protocol() string { return "prometheus" }

// End implements push.Format; these bodies are taken as a whole.
func (*parsed) End(data []byte, _ bool) int { return len(data) }

// Line implements push.Format.
func (p *parsed) Line(f *push.Feed, body []byte) error {
	err := p.walk(body, func(e textparse.Entry) error {
		err := p.entry(f, e)
		if bad, ok := errors.AsType[*push.SyntaxError](err); ok { // of one series: the parser can go on
			p.locate(body, e, bad)
			f.Reject(bad)
			return nil
		}
		return err
	}, f.Reject)
	f.Seen(bytes.Count(body, []byte{'\n'}))
	return err
}

// locate says where in a body the series is that the parser stands at.
func (p *parsed) locate(body []byte, e textparse.Entry, bad *push.SyntaxError) {
	if !p.lines {
		bad.Reason = fmt.Sprintf("series %d of the body: %s", p.begun, bad.Reason)
		return
	}
	if end := behindEntry(body, p.parser, e) - 1; end > p.counted {
		p.line += bytes.Count(body[p.counted:end], []byte{'\n'})
		p.counted = end
	}
	bad.Line = 1 + p.line
}

// mostMistakes is how many malformed lines of a text are passed over before it is given up.
const mostMistakes = 100

// walk calls visit for all entries of a body, and reject for every line of a text that cannot be read. Of protobuf nothing
// can be read behind a mistake.
func (p *parsed) walk(body []byte, visit func(textparse.Entry) error, reject func(*push.SyntaxError)) error {
	at := 0 // what is before it has been read
	for n := 1; at < len(body); n++ {
		end, bad, err := p.walkUntil(body[at:], visit)
		if bad == nil || err != nil {
			return err
		}
		at += end
		mistake := &push.SyntaxError{Line: 1 + bytes.Count(body[:at], []byte{'\n'}), Reason: bad.Error()}
		at += lineBreak(body[at:])
		if !p.lines || n == mostMistakes {
			mistake.Reason = "what follows is not read: " + mistake.Reason
			at = len(body)
		}
		reject(mistake)
	}
	return nil
}

// lineBreak returns the index behind the first line break of b.
func lineBreak(b []byte) int {
	if n := bytes.IndexByte(b, '\n'); n >= 0 {
		return n + 1
	}
	return len(b)
}

// walkUntil calls visit for the entries of a body up to the first that cannot be read, and returns where its line begins,
// and what is wrong with it.
func (p *parsed) walkUntil(body []byte, visit func(textparse.Entry) error) (end int, bad, err error) {
	if p.parser, err = textparse.New(body, p.contentType, nil, textparse.ParserOptions{}); err != nil {
		return 0, err, nil
	}
	for {
		e, bad := p.parser.Next()
		switch {
		case errors.Is(bad, io.EOF):
			return len(body), nil, nil
		case bad != nil:
			return end, bad, nil
		}
		if err := visit(e); err != nil {
			return 0, nil, err
		}
		if p.lines {
			end = max(end, behindEntry(body, p.parser, e))
		}
	}
}

// behindEntry returns where the line behind an entry begins, as far as the entry tells where it is.
func behindEntry(body []byte, parser textparse.Parser, e textparse.Entry) int {
	var part []byte
	switch e {
	case textparse.EntrySeries:
		part, _, _ = parser.Series()
	case textparse.EntryType:
		part, _ = parser.Type()
	case textparse.EntryUnit:
		part, _ = parser.Unit()
	case textparse.EntryHelp:
		part, _ = parser.Help()
	default:
		return 0
	}
	base, at := uintptr(unsafe.Pointer(unsafe.SliceData(body))), uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	if at < base || at >= base+uintptr(len(body)) {
		return 0
	}
	from := int(at - base)
	return from + lineBreak(body[from:])
}

func (p *parsed) entry(f *push.Feed, e textparse.Entry) error {
	switch e {
	case textparse.EntryType:
		name, typ := p.parser.Type()
		p.family.of(name)
		p.family.typ = string(typ)
	case textparse.EntryHelp:
		name, help := p.parser.Help()
		p.family.of(name)
		p.family.help = string(help)
	case textparse.EntryUnit:
		name, unit := p.parser.Unit()
		p.family.of(name)
		p.family.unit = string(unit)
	case textparse.EntrySeries, textparse.EntryHistogram:
		return p.series(f, e)
	case textparse.EntryComment, textparse.EntryInvalid:
	}
	return nil
}

func (p *parsed) series(f *push.Feed, e textparse.Entry) error {
	x := newPoint(p.parser, e, f.Now())
	p.atHand = p.begun
	p.begun++
	key := f.Hash(parsedSpace, x.series)
	covered := p.family.covers(x.series)
	if covered {
		key = push.Join(key, f.Hash(typeSpace, []byte(p.family.typ)))
	}
	if err := f.Begin(key, p.atHand); err != nil {
		return err
	}
	if covered {
		p.family.describe(f)
	}
	if e == textparse.EntrySeries {
		f.Started(x.start, x.t, x.v)
	} else {
		if err := f.Charge(x.histogramBytes()); err != nil {
			return err
		}
		f.Histogram(x.start, x.t, x.h, x.fh)
	}
	for {
		var ex exemplar.Exemplar
		if !p.parser.Exemplar(&ex) {
			return nil
		}
		if !ex.HasTs {
			ex.Ts = x.t
		}
		f.Exemplar(sample.Exemplar{Labels: ex.Labels, V: ex.Value, T: ex.Ts, HasT: ex.HasTs})
	}
}

// Labels implements push.Format: those of the series that is being begun, or of any other of the body.
func (p *parsed) Labels(f *push.Feed, body []byte, n int) (labels.Labels, error) {
	var ls labels.Labels
	if p.parser != nil && n == p.atHand && p.all == nil {
		p.parser.Labels(&ls)
	} else {
		if err := p.remember(f, body); err != nil {
			return labels.EmptyLabels(), err
		}
		ls = p.all[n]
	}
	f.ResetLabels()
	ls.Range(func(l labels.Label) {
		f.AddLabel(unsafe.Slice(unsafe.StringData(l.Name), len(l.Name)), unsafe.Slice(unsafe.StringData(l.Value), len(l.Value)))
	})
	return f.Built()
}

// remember reads a body once more for the labels of its series.
func (p *parsed) remember(f *push.Feed, body []byte) error {
	if p.all != nil {
		return nil
	}
	const setBytes = int64(unsafe.Sizeof(labels.Labels{}))
	if err := f.Charge(int64(p.begun) * setBytes); err != nil {
		return err
	}
	all := make([]labels.Labels, 0, p.begun)
	err := p.walk(body, func(e textparse.Entry) error {
		if e != textparse.EntrySeries && e != textparse.EntryHistogram {
			return nil
		}
		var ls labels.Labels
		p.parser.Labels(&ls)
		all = append(all, ls)
		return f.Charge(int64(ls.ByteSize()))
	}, func(*push.SyntaxError) {})
	if err == nil {
		p.all = all
	}
	return err
}

var _ push.Format = (*parsed)(nil)
