// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package csv imports tables whose columns are numbers, labels and a time.
//
// The argument format of a request says which column is what: 2:metric:ask,3:metric:bid,1:label:ticker,4:time:rfc3339.
// Each number of a line is a sample; an empty one is none. Values stand in quotes where they hold a comma, and a quote in
// them is written twice. A line ends at its line break, in quotes too.
//
// A Handler is safe for concurrent use and starts no goroutines.
package csv

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// Key spaces of the two parts of a series: the values of its labels, and the name of the metric.
const (
	labelSpace = push.FirstProtocol + 24 + iota
	metricSpace
)

// Handler serves the import route.
type Handler struct{ receiver *push.Receiver }

// New returns a Handler.
func New(receiver *push.Receiver) *Handler { return &Handler{receiver} }

// ServeHTTP takes a table in.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := r.URL.Query().Get("format")
	l, err := parseLayout(format)
	if err != nil {
		push.Answer(w, push.Report{}, err)
		return
	}
	report, err := h.receiver.TakeRequest(w, r, push.Body{Format: &table{layout: l}, Scope: format})
	push.Answer(w, report, err)
}

// table reads the lines of one body.
type table struct {
	*layout
	columns []column // of the line in hand
	scratch []byte   // values that had quotes in them
	key     []byte
}

// column is where a value begins in its line, and the value.
type column struct {
	at    int
	value []byte
}

// Protocol implements push.Format.
func (*table) Protocol() string { return "csv" }

// End implements push.Format.
func (*table) End(data []byte, last bool) int { return push.End(data, last) }

// Line implements push.Format.
func (x *table) Line(f *push.Feed, line []byte) error {
	if err := x.split(line); err != nil {
		return err
	}
	if len(x.columns) <= x.last {
		return push.Bad(len(line), fmt.Sprintf("there are %d columns, and %d are to be read", len(x.columns), x.last+1))
	}
	t := f.Now()
	if x.time >= 0 {
		var err error
		c := x.columns[x.time]
		if t, err = x.clock.milliseconds(c.value); err != nil {
			return push.Bad(c.at, err.Error())
		}
	}
	for _, m := range x.metrics { // before any of them is stored
		if c := x.columns[m.column]; len(c.value) > 0 {
			if _, err := push.Decimal(c.value, true); err != nil {
				return push.Bad(c.at, "the value is "+err.Error())
			}
		}
	}
	x.key = x.key[:0]
	for _, l := range x.labels {
		x.key = append(append(x.key, x.columns[l.column].value...), 0xff)
	}
	key := f.Hash(labelSpace, x.key)
	for i, m := range x.metrics {
		c := x.columns[m.column]
		if len(c.value) == 0 {
			continue
		}
		v, _ := push.Decimal(c.value, true) // it was read before
		if err := f.Begin(push.Join(key, f.Hash(metricSpace, m.name)), i); err != nil {
			return err
		}
		f.Float(t, v)
	}
	return nil
}

// split takes a line apart, as far as its columns are of use.
func (x *table) split(line []byte) error {
	x.columns, x.scratch = x.columns[:0], x.scratch[:0]
	for at := 0; len(x.columns) <= x.last; {
		if at < len(line) && line[at] == '"' {
			value, end := x.unquoted(line, at+1)
			if end < 0 {
				return push.Bad(at, "the closing quote is missing")
			}
			x.columns = append(x.columns, column{at, value})
			if end < len(line) && line[end] != ',' {
				return push.Bad(end, "a comma is missing behind the closing quote")
			}
			at = end
		} else {
			end := bytes.IndexByte(line[at:], ',')
			if end < 0 {
				end = len(line) - at
			}
			x.columns = append(x.columns, column{at, line[at : at+end]})
			at += end
		}
		if at == len(line) {
			return nil
		}
		at++
	}
	return nil
}

// unquoted returns a value in quotes, and where it ends; a negative number where it does not.
func (x *table) unquoted(line []byte, from int) ([]byte, int) {
	start := len(x.scratch)
	for at := from; ; {
		n := bytes.IndexByte(line[at:], '"')
		if n < 0 {
			return nil, -1
		}
		n += at
		if n+1 == len(line) || line[n+1] != '"' {
			if at == from {
				return line[from:n], n + 1
			}
			x.scratch = append(x.scratch, line[at:n]...)
			return x.scratch[start:len(x.scratch):len(x.scratch)], n + 1
		}
		x.scratch = append(x.scratch, line[at:n+1]...)
		at = n + 2
	}
}

// Labels implements push.Format; n is the number of the metric.
func (x *table) Labels(f *push.Feed, line []byte, n int) (labels.Labels, error) {
	if err := x.split(line); err != nil {
		return labels.EmptyLabels(), err
	}
	f.ResetLabels()
	f.AddLabel([]byte(labels.MetricName), x.metrics[n].name)
	for _, l := range x.layout.labels {
		f.AddLabel(l.name, x.columns[l.column].value)
	}
	return f.Built()
}

var _ push.Format = (*table)(nil)
