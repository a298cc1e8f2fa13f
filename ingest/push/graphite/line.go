// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package graphite

import (
	"bytes"
	"math"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// pathSpace is the key space of paths with their tags.
const pathSpace = push.FirstProtocol + 16

// plaintext reads lines of path;tag=value;... value time. The path with its tags is the key of a series.
type plaintext struct{}

// Protocol implements push.Format.
func (plaintext) Protocol() string { return "graphite" }

// End implements push.Format.
func (plaintext) End(data []byte, last bool) int { return push.End(data, last) }

// Line implements push.Format.
func (plaintext) Line(f *push.Feed, line []byte) error {
	begin := firstOther(line, 0)
	if begin == len(line) {
		return nil
	}
	path := firstBlank(line, begin)
	at := firstOther(line, path)
	if at == len(line) {
		return push.Bad(at, "the value is missing")
	}
	end := firstBlank(line, at)
	v, err := push.Decimal(line[at:end], true)
	if err != nil {
		return push.Bad(at, "the value is "+err.Error())
	}
	at = firstOther(line, end)
	if at == len(line) && f.Unterminated() {
		return push.Bad(at, "the connection ended here: what there is of the line may be the beginning of another value")
	}
	end = firstBlank(line, at)
	t, err := milliseconds(f, line[at:end])
	if err != nil {
		return push.Bad(at, "the time is no number of seconds")
	}
	if at = firstOther(line, end); at < len(line) {
		return push.Bad(at, "there is something behind the time")
	}
	if err := f.Begin(f.Hash(pathSpace, line[begin:path]), 0); err != nil {
		return err
	}
	f.Float(t, v)
	return nil
}

// mostSeconds is the last time that fits in milliseconds, with room.
const mostSeconds = math.MaxInt64 / 1000 / 2

// milliseconds reads Unix seconds, with decimals; none, N and -1 stand for now.
func milliseconds(f *push.Feed, b []byte) (int64, error) {
	if len(b) == 0 || string(b) == "N" || string(b) == "-1" {
		return f.Now(), nil
	}
	seconds, err := push.Decimal(b, false)
	if err != nil || math.Abs(seconds) > mostSeconds {
		return 0, push.Bad(0, "")
	}
	return int64(math.Round(seconds * 1000)), nil
}

// Labels implements push.Format: the path is the name of the metric, the tags are labels.
func (plaintext) Labels(f *push.Feed, line []byte, _ int) (labels.Labels, error) {
	begin := firstOther(line, 0)
	end := firstBlank(line, begin)
	f.ResetLabels()
	at := partEnd(line[:end], begin)
	if at == begin {
		return labels.EmptyLabels(), push.Bad(begin, "the path is empty")
	}
	f.AddLabel([]byte(labels.MetricName), line[begin:at])
	for at < end {
		from := at + 1
		at = partEnd(line[:end], from)
		equals := bytes.IndexByte(line[from:at], '=')
		if equals <= 0 {
			return labels.EmptyLabels(), push.Bad(from, "a tag is not name=value")
		}
		f.AddLabel(line[from:from+equals], line[from+equals+1:at])
	}
	return f.Built()
}

// partEnd returns where the next semicolon is.
func partEnd(b []byte, from int) int {
	if n := bytes.IndexByte(b[from:], ';'); n >= 0 {
		return from + n
	}
	return len(b)
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

var _ push.Format = plaintext{}
