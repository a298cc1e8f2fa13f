// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/tidemarkdb/tidemark/ingest/push"
)

// layout says what the columns of a table hold.
type layout struct {
	metrics, labels []named
	time            int // the column, from 0; negative: there is none
	clock           clock
	last            int // the last column that is of use
}

// named is a column, from 0, and the metric or label that it holds values of.
type named struct {
	column int
	name   []byte
}

// mostColumns bounds what a line is split into.
const mostColumns = 1000

// parseLayout reads 1:metric:NAME,2:label:NAME,3:time:FORM.
func parseLayout(format string) (*layout, error) {
	bad := func(part, msg string) error {
		return &push.ArgumentError{Msg: fmt.Sprintf("the column %s of the argument format: %s: columns are NUMBER:metric:NAME, NUMBER:label:NAME or NUMBER:time:FORM", push.Quoted(part), msg)}
	}
	l := &layout{time: -1}
	seen := map[int]bool{}
	for part := range strings.SplitSeq(format, ",") {
		fields := strings.SplitN(part, ":", 3)
		if len(fields) != 3 {
			return nil, bad(part, "three parts are wanted")
		}
		n, err := strconv.Atoi(strings.TrimSpace(fields[0]))
		if err != nil || n < 1 || n > mostColumns || seen[n-1] {
			return nil, bad(part, fmt.Sprintf("the number is not one from 1 to %d, each there once", mostColumns))
		}
		n--
		seen[n] = true
		l.last = max(l.last, n)
		name := fields[2]
		switch fields[1] {
		case "metric":
			if !model.UTF8Validation.IsValidMetricName(name) {
				return nil, bad(part, "this is no name of a metric")
			}
			l.metrics = append(l.metrics, named{n, []byte(name)})
		case "label":
			if !model.UTF8Validation.IsValidLabelName(name) || name == model.MetricNameLabel {
				return nil, bad(part, "this is no name of a label")
			}
			l.labels = append(l.labels, named{n, []byte(name)})
		case "time":
			if l.time >= 0 {
				return nil, bad(part, "there is another time")
			}
			l.time = n
			if l.clock, err = parseClock(name); err != nil {
				return nil, bad(part, err.Error())
			}
		default:
			return nil, bad(part, push.Quoted(fields[1])+" is not metric, label or time")
		}
	}
	if len(l.metrics) == 0 {
		return nil, &push.ArgumentError{Msg: "the argument format names no metric"}
	}
	return l, nil
}

// clock is a way to write a time.
type clock struct {
	times, per int64  // of a number, to milliseconds
	layout     string // of Go's package time; then it is no number
}

func parseClock(form string) (clock, error) {
	if custom, ok := strings.CutPrefix(form, "custom:"); ok && custom != "" {
		return clock{layout: custom}, nil
	}
	switch form {
	case "unix_s":
		return clock{times: 1000, per: 1}, nil
	case "unix_ms":
		return clock{times: 1, per: 1}, nil
	case "unix_ns":
		return clock{times: 1, per: 1e6}, nil
	case "rfc3339":
		return clock{layout: time.RFC3339}, nil
	default:
		return clock{}, errors.New(push.Quoted(form) + " is not unix_s, unix_ms, unix_ns, rfc3339 or custom:LAYOUT")
	}
}

// milliseconds reads a time.
func (c clock) milliseconds(b []byte) (int64, error) {
	if c.layout != "" {
		t, err := time.Parse(c.layout, string(b)) // the only column that allocates
		if err != nil {
			return 0, errors.New("the time is not written as " + push.Quoted(c.layout))
		}
		return t.UnixMilli(), nil
	}
	n, err := push.Integer(b)
	if err != nil {
		return 0, fmt.Errorf("the time is %w", err)
	}
	if n > 1<<62/c.times || n < -1<<62/c.times {
		return 0, errors.New("the time is out of range")
	}
	if ms := n * c.times / c.per; n*c.times%c.per >= 0 {
		return ms, nil
	}
	return n*c.times/c.per - 1, nil
}
