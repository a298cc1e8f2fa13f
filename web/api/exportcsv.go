// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// exportCSV writes a line for each sample that is a number: labels, value and time in the columns that were asked for.
type exportCSV struct {
	columns []csvColumn
	values  []string // of the labels of the series in hand, by column
}

// csvColumn is what a column holds.
type csvColumn struct {
	label string                     // its value; empty: the value or the time of the sample
	time  func([]byte, int64) []byte // nil: the value
}

func newExportCSV(r *http.Request) (exportWriter, error) {
	format := r.FormValue("format")
	if format == "" {
		return nil, badParam("format", errors.New("it lists the columns, such as __name__,job,__value__,__timestamp__:unix_s"))
	}
	x := &exportCSV{}
	for name := range strings.SplitSeq(format, ",") {
		c := csvColumn{label: name}
		stamp, isTime := strings.CutPrefix(name, "__timestamp__")
		switch {
		case name == "":
			return nil, badParam("format", errors.New("a column has no name"))
		case name == "__value__":
			c.label = ""
		case isTime && (stamp == "" || stamp[0] == ':'):
			c.label = ""
			if c.time = csvTime(strings.TrimPrefix(stamp, ":")); c.time == nil {
				return nil, badParam("format", errors.New("a time is unix_s, unix_ms, unix_ns, rfc3339 or custom:LAYOUT"))
			}
		}
		x.columns = append(x.columns, c)
	}
	x.values = make([]string, len(x.columns))
	return x, nil
}

// csvTime returns the way to write a time in that form, nil if there is none.
func csvTime(form string) func([]byte, int64) []byte {
	layout, custom := strings.CutPrefix(form, "custom:")
	switch {
	case custom && layout != "":
	case form == "" || form == "unix_ms":
		return func(b []byte, t int64) []byte { return strconv.AppendInt(b, t, 10) }
	case form == "unix_s":
		return func(b []byte, t int64) []byte { return strconv.AppendInt(b, time.UnixMilli(t).Unix(), 10) }
	case form == "unix_ns":
		return func(b []byte, t int64) []byte { return append(strconv.AppendInt(b, t, 10), "000000"...) }
	case form == "rfc3339":
		layout = "2006-01-02T15:04:05.999Z07:00"
	default:
		return nil
	}
	return func(b []byte, t int64) []byte { return time.UnixMilli(t).UTC().AppendFormat(b, layout) }
}

func (x *exportCSV) series(e *encoder, ls labels.Labels, b *column.Block, from, to int) {
	for i, c := range x.columns {
		if c.label != "" {
			x.values[i] = csvText(ls.Get(c.label))
		}
	}
	for row := from; row < to; row++ {
		if b.KindAt(row) != sample.Float {
			continue
		}
		for i, c := range x.columns {
			e.comma(i)
			switch {
			case c.label != "":
				e.raw(x.values[i])
			case c.time != nil:
				e.buf = c.time(e.buf, b.T[row])
			case math.IsNaN(b.V[row]) || math.IsInf(b.V[row], 0):
				e.buf = strconv.AppendFloat(e.buf, b.V[row], 'g', -1, 64)
			default:
				e.digits(b.V[row])
			}
		}
		e.raw("\n")
		e.room()
	}
}

// csvText puts a value in quotes where it needs them.
func csvText(s string) string {
	if !strings.ContainsAny(s, "\",\r\n") {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
