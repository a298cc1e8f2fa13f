// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query"
)

// Case is everything that is needed to repeat a comparison. As text it looks like this, times in milliseconds,
// every sample as time, start timestamp and value:
//
//	# why it is kept
//	delayed-names start-timestamps lookback=300000
//	range 0 600000 30000
//	rate(m[5m])
//	series {__name__="m", job="a"}
//	15000 0 1
//	30000 0 stale
type Case struct {
	Note                                       string
	DelayedNames, TypeAndUnit, StartTimestamps bool
	Lookback                                   time.Duration
	Query                                      Query
	Data                                       DataSet
}

// NewCase notes q, asked of engines with the settings o over data.
func NewCase(o query.Options, q Query, data DataSet) Case {
	return Case{
		DelayedNames: o.Features.DelayedNameRemoval, TypeAndUnit: o.Features.TypeAndUnitLabels,
		StartTimestamps: o.Features.UseStartTimestamps, Lookback: o.LookbackDelta, Query: q, Data: data,
	}
}

// Options are the settings for the engines that c is put to.
func (c Case) Options() query.Options {
	o := SuiteOptions()
	o.MaxSamples = query.DefaultMaxSamples
	o.LookbackDelta = c.Lookback
	o.Features.DelayedNameRemoval, o.Features.TypeAndUnitLabels = c.DelayedNames, c.TypeAndUnit
	o.Features.UseStartTimestamps, o.Features.PerStepStats = c.StartTimestamps, true
	return o
}

const (
	wordDelayed  = "delayed-names"
	wordTyped    = "type-and-unit"
	wordStart    = "start-timestamps"
	wordLookback = "lookback="
)

// String writes c as text.
func (c Case) String() string {
	var b strings.Builder
	for line := range strings.Lines(c.Note) {
		fmt.Fprintf(&b, "# %s\n", strings.TrimSpace(line))
	}
	for _, w := range []struct {
		set  bool
		word string
	}{{c.DelayedNames, wordDelayed}, {c.TypeAndUnit, wordTyped}, {c.StartTimestamps, wordStart}} {
		if w.set {
			b.WriteString(w.word + " ")
		}
	}
	fmt.Fprintf(&b, "%s%d\n", wordLookback, c.Lookback.Milliseconds())
	if c.Query.Instant() {
		fmt.Fprintf(&b, "instant %d\n", c.Query.Start.UnixMilli())
	} else {
		fmt.Fprintf(&b, "range %d %d %d\n", c.Query.Start.UnixMilli(), c.Query.End.UnixMilli(), c.Query.Step.Milliseconds())
	}
	fmt.Fprintln(&b, c.Query.Text)
	c.Data.text(&b)
	return b.String()
}

// ParseCase reads what String wrote.
func ParseCase(text string) (Case, error) {
	var c Case
	line := 0
	scanner := bufio.NewScanner(strings.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for n := 1; scanner.Scan(); n++ {
		s := strings.TrimSpace(scanner.Text())
		if note, ok := strings.CutPrefix(s, "#"); ok {
			c.Note += strings.TrimSpace(note) + "\n"
			continue
		}
		if s == "" {
			continue
		}
		line++
		if err := c.parseLine(line, s); err != nil {
			return Case{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return Case{}, fmt.Errorf("read case: %w", err)
	}
	if line < 3 {
		return Case{}, fmt.Errorf("a case has settings, times and a query; this one ends after %d lines", line)
	}
	c.Data.finish()
	return c, nil
}

// parseLine reads the n-th line that says something.
func (c *Case) parseLine(n int, s string) error {
	switch n {
	case 1:
		return c.parseSettings(s)
	case 2:
		return c.parseTimes(s)
	case 3:
		c.Query.Text = s
		return nil
	}
	if ls, ok := strings.CutPrefix(s, "series "); ok {
		metric, err := parser.NewParser(everything()).ParseMetric(ls)
		if err != nil {
			return fmt.Errorf("series %q: %w", ls, err)
		}
		c.Data.Series = append(c.Data.Series, Series{Labels: metric})
		return nil
	}
	if len(c.Data.Series) == 0 {
		return fmt.Errorf("sample %q comes before the first series", s)
	}
	x, err := parseSample(s)
	if err != nil {
		return err
	}
	last := &c.Data.Series[len(c.Data.Series)-1]
	last.Samples = append(last.Samples, x)
	return nil
}

func (c *Case) parseSettings(s string) error {
	for word := range strings.FieldsSeq(s) {
		switch {
		case word == wordDelayed:
			c.DelayedNames = true
		case word == wordTyped:
			c.TypeAndUnit = true
		case word == wordStart:
			c.StartTimestamps = true
		case strings.HasPrefix(word, wordLookback):
			var ms int64
			if _, err := fmt.Sscanf(word, wordLookback+"%d", &ms); err != nil {
				return fmt.Errorf("setting %q: %w", word, err)
			}
			c.Lookback = time.Duration(ms) * time.Millisecond
		default:
			return fmt.Errorf("unknown setting %q", word)
		}
	}
	return nil
}

func (c *Case) parseTimes(s string) error {
	var start, end, step int64
	c.Query.Opts = promql.NewPrometheusQueryOpts(true, 0)
	if _, err := fmt.Sscanf(s, "instant %d", &start); err == nil {
		c.Query.Start, c.Query.End = time.UnixMilli(start), time.UnixMilli(start)
		return nil
	}
	if _, err := fmt.Sscanf(s, "range %d %d %d", &start, &end, &step); err != nil {
		return fmt.Errorf("times %q: want `instant t` or `range start end step`: %w", s, err)
	}
	c.Query.Start, c.Query.End = time.UnixMilli(start), time.UnixMilli(end)
	c.Query.Step = time.Duration(step) * time.Millisecond
	return nil
}
