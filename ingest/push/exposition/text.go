// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// Key spaces of the formats.
const (
	textSpace = push.FirstProtocol + 8 + iota
	parsedSpace
	typeSpace
)

// text reads Prometheus' text format line by line: name{label="value",...} value time. What stands before the value is the
// key of a series; where it is known nothing of it is looked at but its end.
type text struct {
	family  family
	scratch []byte
}

// Protocol implements push.Format.
func (*text) Protocol() string { return "prometheus" }

// End implements push.Format.
func (*text) End(data []byte, last bool) int { return push.End(data, last) }

// Line implements push.Format.
func (x *text) Line(f *push.Feed, line []byte) error {
	begin := firstOther(line, 0)
	if begin == len(line) {
		return nil
	}
	if line[begin] == '#' {
		return x.comment(f, line, begin)
	}
	end, err := seriesEnd(line, begin)
	if err != nil {
		return err
	}
	v, t, err := valueAndTime(f, line, end)
	if err != nil {
		return err
	}
	key := f.Hash(textSpace, line[begin:end])
	covered := x.family.covers(line[begin:end])
	kind := bare
	if covered && x.family.kind != bare {
		// Bounds of buckets and quantiles are written in one way whatever the sender's: with the type, the labels differ.
		kind = x.family.kind
		key = push.Join(key, f.Hash(typeSpace, []byte{byte(kind)}))
	}
	if err := f.Begin(key, int(kind)); err != nil {
		return err
	}
	if covered {
		x.family.describe(f)
	}
	f.Float(t, v)
	return nil
}

// seriesEnd returns where the name and the labels end.
func seriesEnd(line []byte, at int) (int, error) {
	for at < len(line) && line[at] != '{' && line[at] != ' ' && line[at] != '\t' {
		at++
	}
	brace := firstOther(line, at)
	if brace == len(line) || line[brace] != '{' {
		return at, nil
	}
	for at = brace + 1; at < len(line); at++ {
		switch line[at] {
		case '}':
			return at + 1, nil
		case '"':
			if at = closingQuote(line, at+1); at == len(line) {
				return at, push.Bad(at, "the closing quote is missing")
			}
		}
	}
	return at, push.Bad(at, "the closing brace is missing")
}

// closingQuote returns the index of the first quote at or behind from that has no backslash before it.
func closingQuote(line []byte, from int) int {
	for ; from < len(line); from++ {
		switch line[from] {
		case '\\':
			from++
		case '"':
			return from
		}
	}
	return len(line)
}

// firstOther returns the index of the first byte at or behind from that is neither space nor tab.
func firstOther(b []byte, from int) int {
	for from < len(b) && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	return from
}

// firstBlank returns the index of the first space or tab at or behind from.
func firstBlank(b []byte, from int) int {
	for from < len(b) && b[from] != ' ' && b[from] != '\t' {
		from++
	}
	return from
}

// valueAndTime reads what follows a series.
func valueAndTime(f *push.Feed, line []byte, at int) (v float64, t int64, err error) {
	at = firstOther(line, at)
	if at == len(line) {
		return 0, 0, push.Bad(at, "the value is missing")
	}
	end := firstBlank(line, at)
	if v, err = push.Decimal(line[at:end], true); err != nil {
		return 0, 0, push.Bad(at, "the value is "+err.Error())
	}
	at = firstOther(line, end)
	if at == len(line) {
		return v, f.Now(), nil
	}
	end = firstBlank(line, at)
	if t, err = push.Integer(line[at:end]); err != nil {
		return 0, 0, push.Bad(at, "the time is no number of milliseconds")
	}
	if at = firstOther(line, end); at < len(line) {
		return 0, 0, push.Bad(at, "there is something behind the time")
	}
	return v, t, nil
}

// Labels implements push.Format; n is the kind of the family.
func (x *text) Labels(f *push.Feed, line []byte, n int) (labels.Labels, error) {
	f.ResetLabels()
	x.scratch = x.scratch[:0]
	begin := firstOther(line, 0)
	at := begin
	for at < len(line) && line[at] != '{' && line[at] != ' ' && line[at] != '\t' {
		at++
	}
	named := at > begin
	if named {
		if !isName(line[begin:at], true) {
			return labels.EmptyLabels(), push.Bad(begin, push.Quoted(line[begin:at])+" is no name of a metric: other names than those of letters, digits, underscores and colons stand in quotes within the braces")
		}
		f.AddLabel([]byte(labels.MetricName), line[begin:at])
	}
	if at = firstOther(line, at); at < len(line) && line[at] == '{' {
		var err error
		if named, err = x.labels(f, line, at+1, named, kind(n)); err != nil {
			return labels.EmptyLabels(), err
		}
	}
	if !named {
		return labels.EmptyLabels(), push.Bad(begin, "the name of the metric is missing")
	}
	return f.Built()
}

// labels reads from behind the opening brace to the closing one, and returns whether there is a name of a metric.
func (x *text) labels(f *push.Feed, line []byte, at int, named bool, k kind) (bool, error) {
	for {
		at = firstOther(line, at)
		if line[at] == '}' {
			return named, nil
		}
		from := at
		name, at2, err := x.labelName(line, at)
		if err != nil {
			return named, err
		}
		at = firstOther(line, at2)
		valued := line[at] == '='
		switch {
		case valued:
			at = firstOther(line, at+1)
			if line[at] != '"' {
				return named, push.Bad(at, "the value of a label stands in quotes")
			}
			end := closingQuote(line, at+1)
			value, err := x.unescaped(line, at+1, end)
			if err != nil {
				return named, err
			}
			f.AddLabel(name, k.normal(name, value))
			at = firstOther(line, end+1)
		case line[from] != '"':
			return named, push.Bad(at, "an equals sign is missing behind the name of a label")
		case named:
			return named, push.Bad(from, "the name of the metric is there twice")
		default:
			f.AddLabel([]byte(labels.MetricName), name)
			named = true
		}
		switch c := line[at]; {
		case c == ',':
			at++
		case c == '}':
		case valued && (c == '"' || isNameByte(c, false)): // Prometheus' parser does without a comma, too
		default:
			return named, push.Bad(at, "a comma or a closing brace is missing")
		}
	}
}

// labelName reads a name with or without quotes. The line has a closing brace, outside of quotes, behind it.
func (x *text) labelName(line []byte, at int) (name []byte, end int, err error) {
	if line[at] == '"' {
		end = closingQuote(line, at+1)
		name, err = x.unescaped(line, at+1, end)
		return name, end + 1, err
	}
	end = at
	for isNameByte(line[end], end > at) {
		end++
	}
	if end == at {
		return nil, at, push.Bad(at, "the name of a label is missing")
	}
	return line[at:end], end, nil
}

// unescaped returns what stands between quotes. What it returned before stays as it is.
func (x *text) unescaped(line []byte, from, to int) ([]byte, error) {
	b := line[from:to]
	if !utf8.Valid(b) {
		return nil, push.Bad(from, "the text is not UTF-8")
	}
	if bytes.IndexByte(b, '\\') < 0 {
		return b, nil
	}
	start := len(x.scratch)
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '\\' && i+1 < len(b) {
			switch b[i+1] {
			case 'n':
				c = '\n'
				i++
			case '\\', '"':
				c = b[i+1]
				i++
			}
		}
		x.scratch = append(x.scratch, c)
	}
	return x.scratch[start:len(x.scratch):len(x.scratch)], nil
}

func isNameByte(c byte, digits bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || digits && c >= '0' && c <= '9'
}

// isName reports whether b may stand without quotes.
func isName(b []byte, colons bool) bool {
	for i, c := range b {
		if !isNameByte(c, i > 0) && (!colons || c != ':') {
			return false
		}
	}
	return len(b) > 0
}

// kind is the type of a family, as far as it changes labels.
type kind uint8

const (
	bare kind = iota
	histogram
	summary
)

// normal returns the value of a label as scraping writes it: bounds are floats.
func (k kind) normal(name, value []byte) []byte {
	if k == histogram && string(name) == model.BucketLabel || k == summary && string(name) == model.QuantileLabel {
		if v, err := strconv.ParseFloat(string(value), 64); err == nil {
			return []byte(labels.FormatOpenMetricsFloat(v))
		}
	}
	return value
}

// comment reads a line that begins with a hash.
func (x *text) comment(f *push.Feed, line []byte, at int) error {
	at = firstOther(line, at+1)
	end := firstBlank(line, at)
	word := string(line[at:end])
	if word != "HELP" && word != "TYPE" {
		return nil
	}
	at = firstOther(line, end)
	if at == len(line) {
		return push.Bad(at, "the name of the metric is missing behind "+word)
	}
	var name []byte
	if line[at] == '"' {
		if end = closingQuote(line, at+1); end == len(line) {
			return push.Bad(at, "the closing quote is missing")
		}
		name = line[at+1 : end]
		end++
	} else {
		end = firstBlank(line, at)
		name = line[at:end]
		if !isName(name, true) {
			return push.Bad(at, push.Quoted(name)+" is no name of a metric")
		}
	}
	rest := line[firstOther(line, end):]
	x.family.of(name)
	if word == "HELP" {
		if !utf8.Valid(rest) {
			return push.Bad(len(line)-len(rest), "the text is not UTF-8")
		}
		x.family.help = helpText(rest)
		x.family.hash = 0
		return nil
	}
	if !x.family.setType(string(bytes.TrimRight(rest, " \t"))) {
		return push.Bad(len(line)-len(rest), push.Quoted(rest)+" is no type of a metric")
	}
	return nil
}

// helpText returns a description without its escapes.
func helpText(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	b = bytes.ReplaceAll(b, []byte(`\\`), []byte{0xff}) // no byte of UTF-8
	b = bytes.ReplaceAll(b, []byte(`\n`), []byte{'\n'})
	return string(bytes.ReplaceAll(b, []byte{0xff}, []byte{'\\'}))
}

var _ push.Format = (*text)(nil)
