// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package jsonlines

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/push"
)

// metricSpace is the key space of the text of label sets.
const metricSpace = push.FirstProtocol + 32

// documents reads the lines of one body.
type documents struct {
	member [memberCount]part // of the line in hand
	nans   []nan
}

// part is where a value is in its line; it is there if to is not 0.
type part struct{ from, to int }

// The members of a document that mean something.
const (
	metric = iota
	values
	timestamps
	starts
	nans
	histograms
	histogramTimestamps
	histogramStarts
	memberCount
)

var memberNames = [memberCount]string{"metric", "values", "timestamps", "starts", "nan", "histograms", "histogram_timestamps", "histogram_starts"}

// nan is a NaN with bits of its own, by its place among the values.
type nan struct {
	at   int
	bits uint64
}

// Protocol implements push.Format.
func (*documents) Protocol() string { return "json" }

// End implements push.Format: no JSON text has a line break in it that a writer of lines would write.
func (*documents) End(data []byte, last bool) int { return push.End(data, last) }

// Line implements push.Format. A mistake among the values does not take back the samples before it.
func (d *documents) Line(f *push.Feed, line []byte) error {
	if len(bytes.TrimLeft(line, " \t")) == 0 {
		return nil
	}
	if err := d.split(line); err != nil {
		return err
	}
	m := d.member[metric]
	if m.to == 0 {
		return push.Bad(0, `the member "metric" is missing`)
	}
	if err := d.readNaNs(f, line); err != nil {
		return err
	}
	key := f.Hash(metricSpace, line[m.from:m.to])
	if err := d.floats(f, key, line); err != nil {
		return err
	}
	return d.histograms(f, key, line)
}

// split finds the members of a document.
func (d *documents) split(line []byte) error {
	d.member = [memberCount]part{}
	at := blank(line, 0)
	if at == len(line) || line[at] != '{' {
		return push.Bad(at, "a document begins with an opening brace")
	}
	at = blank(line, at+1)
	for first := true; ; first = false {
		if first && at < len(line) && line[at] == '}' {
			break
		}
		name := part{from: at}
		var err error
		if name.to, err = valueEnd(line, at); err != nil {
			return err
		}
		if line[at] != '"' {
			return push.Bad(at, "the name of a member stands in quotes")
		}
		at = blank(line, name.to)
		if at == len(line) || line[at] != ':' {
			return push.Bad(at, "a colon is missing behind the name of a member")
		}
		x := part{from: blank(line, at+1)}
		if x.to, err = valueEnd(line, x.from); err != nil {
			return err
		}
		for i, known := range memberNames {
			if string(line[name.from+1:name.to-1]) == known {
				d.member[i] = x
			}
		}
		if at = blank(line, x.to); at < len(line) && line[at] == ',' {
			at = blank(line, at+1)
			continue
		}
		if at == len(line) || line[at] != '}' {
			return push.Bad(at, "a comma or a closing brace is missing")
		}
		break
	}
	if at = blank(line, at+1); at < len(line) {
		return push.Bad(at, "there is something behind the closing brace")
	}
	return nil
}

// blank returns the index of the first byte at or behind from that is no white space.
func blank(b []byte, from int) int {
	for from < len(b) && (b[from] == ' ' || b[from] == '\t' || b[from] == '\r') {
		from++
	}
	return from
}

// valueEnd returns where a JSON value ends. What is in brackets is not looked at, but for texts.
func valueEnd(b []byte, from int) (int, error) {
	depth := 0
	for at := from; at < len(b); at++ {
		switch b[at] {
		case '"':
			for at++; at < len(b) && b[at] != '"'; at++ {
				if b[at] == '\\' {
					at++
				}
			}
			if at >= len(b) {
				return len(b), push.Bad(len(b), "the closing quote is missing")
			}
		case '[', '{':
			depth++
			if n := bytes.IndexAny(b[at+1:], `]}"[{`); n > 0 { // numbers, mostly: nothing of them is a bracket
				at += n
			}
			continue
		case ']', '}':
			depth--
		case ',', ':', ' ', '\t', '\r':
			continue
		default: // a number or a word
			for at+1 < len(b) && !endsWord(b[at+1]) {
				at++
			}
		}
		if depth < 0 {
			return at, push.Bad(at, "a value is missing")
		}
		if depth == 0 {
			return at + 1, nil
		}
	}
	return len(b), push.Bad(len(b), "the line ends within a value")
}

func endsWord(c byte) bool {
	switch c {
	case ',', ':', ']', '}', ' ', '\t', '\r':
		return true
	default:
		return false
	}
}

// floats adds the pairs of values and timestamps.
func (d *documents) floats(f *push.Feed, key ingest.Key, line []byte) error {
	v, t, st := newList(line, d.member[values]), newList(line, d.member[timestamps]), newList(line, d.member[starts])
	special := d.nans
	if commas(line, d.member[values]) != commas(line, d.member[timestamps]) { // before anything is stored
		return push.Bad(d.member[timestamps].from, notAsMany)
	}
	for n := 0; ; n++ {
		value, err := v.next()
		if err != nil {
			return err
		}
		at, err := t.next()
		if err != nil {
			return err
		}
		switch {
		case value == nil && at == nil:
			return nil
		case value == nil || at == nil:
			return push.Bad(d.member[timestamps].from, notAsMany)
		}
		x, err := number(value)
		if err != nil {
			return push.Bad(v.from, err.Error())
		}
		ms, err := push.Integer(at)
		if err != nil {
			return push.Bad(t.from, "a timestamp is "+err.Error())
		}
		start, err := st.start()
		if err != nil {
			return err
		}
		if len(special) > 0 && special[0].at == n {
			if string(value) != "null" {
				return push.Bad(v.from, "the bits of a NaN are given for a value that is not null")
			}
			x = math.Float64frombits(special[0].bits)
			special = special[1:]
		}
		if err := d.begin(f, key, n); err != nil {
			return err
		}
		f.Started(start, ms, x)
	}
}

const notAsMany = "there are not as many timestamps as values"

// commas counts what separates the elements of a list of numbers.
func commas(line []byte, p part) int { return bytes.Count(line[p.from:p.to], []byte{','}) }

// begin begins the series before the first of its rows, and again where there are very many of them.
func (d *documents) begin(f *push.Feed, key ingest.Key, row int) error {
	switch {
	case row == 0:
	case !f.Full():
		return nil
	default:
		if err := f.Flush(); err != nil {
			return err
		}
	}
	return f.Begin(key, 0)
}

// number reads a value.
func number(b []byte) (float64, error) {
	switch {
	case string(b) == "null":
		return math.Float64frombits(value.NormalNaN), nil
	case b[0] != '"':
		v, err := push.Decimal(b, true) // older versions of VictoriaMetrics write NaN and +Inf without quotes
		if err != nil {
			return 0, fmt.Errorf("a value is %w", err)
		}
		return v, nil
	case string(b) == `"Infinity"`:
		return math.Inf(1), nil
	case string(b) == `"-Infinity"`:
		return math.Inf(-1), nil
	case string(b) == `"NaN"`:
		return math.Float64frombits(value.NormalNaN), nil
	default:
		return 0, errors.New(`a value is not a number, null, "Infinity" or "-Infinity"`)
	}
}

// readNaNs reads the bits of special NaNs: [[place,"bits"],...] in the order of their places.
func (d *documents) readNaNs(f *push.Feed, line []byte) error {
	d.nans = d.nans[:0]
	p := d.member[nans]
	if p.to == 0 {
		return nil
	}
	if err := f.Charge(int64(p.to - p.from)); err != nil {
		return err
	}
	pairs := newList(line, p)
	for {
		b, err := pairs.next()
		if b == nil || err != nil {
			return err
		}
		pair := newList(line, part{pairs.from, pairs.from + len(b)})
		place, err := pair.next()
		if err != nil {
			return err
		}
		bits, err := pair.next()
		if err != nil {
			return err
		}
		at, err := push.Integer(place)
		if err != nil || at < 0 || len(d.nans) > 0 && int(at) <= d.nans[len(d.nans)-1].at {
			return push.Bad(pairs.from, "the place of a NaN is not behind that of the one before")
		}
		x, err := strconv.ParseUint(string(bytes.Trim(bits, `"`)), 16, 64)
		if err != nil || !math.IsNaN(math.Float64frombits(x)) {
			return push.Bad(pairs.from, "these are not the bits of a NaN")
		}
		d.nans = append(d.nans, nan{int(at), x})
	}
}

// Labels implements push.Format.
func (d *documents) Labels(f *push.Feed, line []byte, _ int) (labels.Labels, error) {
	if err := d.split(line); err != nil {
		return labels.EmptyLabels(), err
	}
	m := d.member[metric]
	b := line[m.from:m.to]
	if !utf8.Valid(b) {
		return labels.EmptyLabels(), push.Bad(m.from, "the labels are not UTF-8")
	}
	f.ResetLabels()
	if err := eachLabel(b, f.AddLabel); err != nil {
		return labels.EmptyLabels(), push.Bad(m.from, "the labels are no object of texts: "+err.Error())
	}
	return f.Built()
}

// eachLabel calls add with each name and value of an object, also where a name is there twice.
func eachLabel(b []byte, add func(name, value []byte)) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return cmp.Or(err, errors.New("there is no opening brace"))
	}
	for d.More() {
		name, err := d.Token() // the decoder makes sure that it is a text
		if err != nil {
			return err
		}
		value, err := d.Token()
		if err != nil {
			return err
		}
		text, ok := value.(string)
		if !ok {
			return fmt.Errorf("the value of %s is none", push.Quoted(name.(string)))
		}
		add([]byte(name.(string)), []byte(text))
	}
	_, err := d.Token()
	return err
}

var _ push.Format = (*documents)(nil)
