// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package influx

import (
	"bytes"
	"errors"
	"math"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// Key spaces of the two parts of a series: measurement and tags, and the field.
const (
	pointSpace = push.FirstProtocol + iota
	fieldSpace
)

// protocol reads line protocol: measurement,tag=value,... field=value,... time.
//
// The bytes before the first space that is not escaped are the key of a point, with the bytes of a field's name that of a
// series. So the same tags in another order are another key, which costs a Resolve and nothing else.
type protocol struct {
	database string // the label db, empty for none
	scale    scale
	line     []byte  // the one that was read last
	fields   []field // of it
	scratch  []byte
}

// field is a number of a point: where its name is in the line, and its value.
type field struct {
	from, to int
	v        float64
}

// Protocol implements push.Format.
func (*protocol) Protocol() string { return "influx" }

// End implements push.Format. Texts may have line breaks in them; a text begins with a quote behind the equals sign of a
// field.
func (*protocol) End(data []byte, last bool) int {
	n := push.End(data, last)
	if n < 0 || bytes.IndexByte(data[:n], '"') < 0 {
		return n
	}
	first := n
	for at := unescaped(data[:n], 0, ' '); at < n; {
		quote := bytes.Index(data[at:n], []byte(`="`))
		if quote < 0 {
			break
		}
		// A text without an end, or whose end is that of another one far away, is this line's mistake, not that of all
		// lines behind it.
		end := closingQuote(data[:min(len(data), push.DefaultMaxLine)], at+quote+2)
		if end < 0 {
			if last || len(data) > push.DefaultMaxLine {
				return first
			}
			return -1
		}
		if at = end + 1; at <= n {
			continue
		}
		next := push.End(data[at:], last)
		switch {
		case next < 0 && len(data) <= push.DefaultMaxLine:
			return -1
		case next < 0 || at+next > push.DefaultMaxLine:
			return first
		}
		n = at + next
	}
	return n
}

// unescaped returns the index of the first c at or behind from that has no backslash before it, len(b) if there is none.
func unescaped(b []byte, from int, c byte) int {
	for i := from; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case c:
			return i
		}
	}
	return len(b)
}

// closingQuote returns the index of the quote that ends a text, negative if there is none.
func closingQuote(b []byte, from int) int {
	if n := unescaped(b, from, '"'); n < len(b) {
		return n
	}
	return -1
}

// Line implements push.Format.
func (p *protocol) Line(f *push.Feed, line []byte) error {
	begin := firstOther(line, 0)
	if begin == len(line) || line[begin] == '#' {
		return nil
	}
	space := unescaped(line, begin, ' ')
	if err := checkPoint(line, begin, space); err != nil {
		return err
	}
	at, skipped, err := p.readFields(line, space)
	if err != nil {
		return err
	}
	t, err := p.time(f, line, at)
	if err != nil {
		return err
	}
	f.Skip(skipped)
	if len(p.fields) == 0 {
		return nil
	}
	key := f.Hash(pointSpace, line[begin:space])
	for i, x := range p.fields {
		if err := f.Begin(push.Join(key, f.Hash(fieldSpace, line[x.from:x.to])), i); err != nil {
			return err
		}
		f.Float(t, x.v)
	}
	return nil
}

// checkPoint makes sure that there is a measurement, and that tags have names and values.
func checkPoint(line []byte, begin, end int) error {
	if end == len(line) {
		return push.Bad(end, "the fields are missing")
	}
	at := begin
	for first := true; at <= end; first = false {
		comma := unescaped(line[:end], at, ',')
		switch equals := unescaped(line[:comma], at, '='); {
		case first && comma == at:
			return push.Bad(at, "the measurement is missing")
		case first:
		case comma == at:
			return push.Bad(at, "a tag is missing behind the comma")
		case equals == comma:
			return push.Bad(at, "the tag has no equals sign")
		case equals == at:
			return push.Bad(at, "the tag has no name")
		}
		at = comma + 1
	}
	return nil
}

// readFields reads the fields that begin behind a space and returns where they end, and how many are no numbers.
func (p *protocol) readFields(line []byte, space int) (at, skipped int, err error) {
	p.line, p.fields = line, p.fields[:0]
	at = firstOther(line, space)
	for {
		from := at
		at = fieldName(line, at)
		switch {
		case at == from && at == len(line):
			return at, 0, push.Bad(at, "the fields are missing")
		case at == from:
			return at, 0, push.Bad(at, "the field has no name")
		case at == len(line) || line[at] != '=':
			return at, 0, push.Bad(at, "the field has no equals sign")
		}
		x := field{from: from, to: at}
		value := at + 1
		if value < len(line) && line[value] == '"' {
			end := closingQuote(line, value+1)
			if end < 0 {
				return at, 0, push.Bad(value, "the text has no closing quote")
			}
			skipped++
			at = end + 1
		} else {
			at = valueEnd(line, value)
			if x.v, err = number(line[value:at]); err != nil {
				return at, 0, push.Bad(value, err.Error())
			}
			p.fields = append(p.fields, x)
		}
		switch {
		case at == len(line) || line[at] == ' ':
			return at, skipped, nil
		case line[at] != ',':
			return at, 0, push.Bad(at, "a comma or a space is missing behind the value")
		}
		at++
	}
}

// fieldName returns where the name of a field ends that begins there.
func fieldName(line []byte, at int) int {
	for ; at < len(line); at++ {
		switch line[at] {
		case '\\':
			at++
		case '=', ',', ' ':
			return at
		}
	}
	return len(line)
}

func valueEnd(line []byte, at int) int {
	for at < len(line) && line[at] != ',' && line[at] != ' ' {
		at++
	}
	return at
}

var errValue = errors.New("the value is neither a number, nor true or false, nor a quoted text")

// number reads the value of a field: a float, an integer with the suffix i or u, or true or false as 1 and 0.
func number(b []byte) (float64, error) {
	if len(b) == 0 {
		return 0, errors.New("the value is missing")
	}
	switch last := b[len(b)-1]; {
	case last == 'i' || last == 'u':
		v, err := push.Decimal(b[:len(b)-1], false)
		if err != nil || bytes.ContainsAny(b, ".eE+") || (last == 'u' && b[0] == '-') {
			return 0, errValue
		}
		return v, nil
	case last >= '0' && last <= '9' || last == '.':
		v, err := push.Decimal(b, false)
		if err != nil {
			return 0, errValue
		}
		return v, nil
	}
	switch string(b) {
	case "t", "T", "true", "True", "TRUE":
		return 1, nil
	case "f", "F", "false", "False", "FALSE":
		return 0, nil
	}
	return 0, errValue
}

// time reads the time of a point, which may be missing.
func (p *protocol) time(f *push.Feed, line []byte, at int) (int64, error) {
	at = firstOther(line, at)
	if at == len(line) {
		return f.Now(), nil
	}
	t, err := push.Integer(bytes.TrimRight(line[at:], " "))
	if err != nil {
		return 0, push.Bad(at, "the time is no whole number")
	}
	if t, ok := p.scale.milliseconds(t); ok {
		return t, nil
	}
	return 0, push.Bad(at, "the time is out of range: is the precision right?")
}

// Labels implements push.Format: the measurement, an underscore and the field are the name of the metric.
func (p *protocol) Labels(f *push.Feed, line []byte, n int) (labels.Labels, error) {
	begin := firstOther(line, 0)
	space := unescaped(line, begin, ' ')
	if unsafe.SliceData(line) != unsafe.SliceData(p.line) || len(line) != len(p.line) {
		if _, _, err := p.readFields(line, space); err != nil {
			return labels.EmptyLabels(), err
		}
	}
	x := p.fields[n]
	p.scratch = p.scratch[:0]
	comma := unescaped(line[:space], begin, ',')
	p.plain(line[begin:comma])
	p.scratch = append(p.scratch, '_')
	p.plain(line[x.from:x.to])
	f.ResetLabels()
	f.AddLabel([]byte(labels.MetricName), p.scratch)
	hasDatabase := false
	for comma < space {
		at := comma + 1
		comma = unescaped(line[:space], at, ',')
		equals := unescaped(line[:comma], at, '=')
		name := p.plain(line[at:equals])
		hasDatabase = hasDatabase || string(name) == databaseLabel
		f.AddLabel(name, p.plain(line[equals+1:comma]))
	}
	if p.database != "" && !hasDatabase {
		f.AddLabel([]byte(databaseLabel), []byte(p.database))
	}
	return f.Built()
}

// firstOther returns the index of the first byte at or behind from that is no space.
func firstOther(b []byte, from int) int {
	for from < len(b) && b[from] == ' ' {
		from++
	}
	return from
}

// plain appends b without its escapes to the scratch space and returns what it appended. What it returned before stays
// as it is.
func (p *protocol) plain(b []byte) []byte {
	from := len(p.scratch)
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) && (b[i+1] == ',' || b[i+1] == ' ' || b[i+1] == '=' || b[i+1] == '\\') {
			i++
		}
		p.scratch = append(p.scratch, b[i])
	}
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// scale turns times of a precision into milliseconds.
type scale struct{ times, per int64 }

func (s scale) milliseconds(t int64) (int64, bool) {
	if s.per > 1 {
		ms := t / s.per
		if t%s.per < 0 {
			ms--
		}
		return ms, true
	}
	if t > math.MaxInt64/s.times || t < math.MinInt64/s.times {
		return 0, false
	}
	return t * s.times, true
}

var _ push.Format = (*protocol)(nil)

// scales are the precisions of both versions of the protocol.
var scales = map[string]scale{
	"": {1, 1e6}, "n": {1, 1e6}, "ns": {1, 1e6}, "u": {1, 1e3}, "us": {1, 1e3}, "µ": {1, 1e3}, "µs": {1, 1e3},
	"ms": {1, 1}, "s": {1e3, 1}, "m": {60e3, 1}, "h": {3600e3, 1},
}
