// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package unittest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// alert is an alert that fires, or should.
type alert struct{ labels, annotations labels.Labels }

func (a alert) compare(b alert) int {
	return cmp.Or(labels.Compare(a.labels, b.labels), labels.Compare(a.annotations, b.annotations))
}

func (a alert) equal(b alert) bool { return a.compare(b) == 0 }

type alerts []alert

func (as alerts) sort() { slices.SortFunc(as, alert.compare) }

// String returns the alerts as promtool shows them.
func (as alerts) String() string {
	if len(as) == 0 {
		return "[]"
	}
	var b strings.Builder
	b.WriteString("[")
	for i, a := range as {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n%d:\n  Labels:%s\n  Annotations:%s", i, a.labels, a.annotations)
	}
	b.WriteString("\n]")
	return b.String()
}

// result is one element of an expression's result.
type result struct {
	labels    labels.Labels
	value     float64
	histogram string // in the notation of tests; empty: value counts
}

type results []result

func (rs results) sort() {
	slices.SortStableFunc(rs, func(a, b result) int { return labels.Compare(a.labels, b.labels) })
}

// String returns the results as promtool shows them.
func (rs results) String() string {
	if len(rs) == 0 {
		return "nil"
	}
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.labels.String() + " " + r.histogram
		if r.histogram == "" {
			texts[i] = r.labels.String() + " " + strconv.FormatFloat(r.value, 'E', -1, 64)
		}
	}
	return strings.Join(texts, ", ")
}

// equal compares two results; fuzzy allows values to be neighbours.
func (r result) equal(o result, fuzzy bool) bool {
	same := r.value == o.value || (math.IsNaN(r.value) && math.IsNaN(o.value)) ||
		(fuzzy && (math.Nextafter(r.value, math.Inf(-1)) == o.value || math.Nextafter(r.value, math.Inf(1)) == o.value))
	return same && r.histogram == o.histogram && labels.Equal(r.labels, o.labels)
}

func resultsOf(v promql.Vector) results {
	rs := make(results, 0, len(v))
	for _, s := range v {
		rs = append(rs, result{labels: s.Metric, value: s.F, histogram: notation(s.H)})
	}
	return rs
}

func notation(h *histogram.FloatHistogram) string {
	if h == nil {
		return ""
	}
	return h.TestExpression()
}

// parseSample reads an expected element.
func parseSample(s *Sample, p parser.Parser) (result, error) {
	ls, err := p.ParseMetric(s.Labels)
	if err != nil {
		return result{}, fmt.Errorf("labels %q: %w", s.Labels, err)
	}
	r := result{labels: ls, value: s.Value}
	if s.Histogram == "" {
		return r, nil
	}
	_, values, err := p.ParseSeriesDesc("{} " + s.Histogram)
	switch {
	case err != nil:
		return result{}, fmt.Errorf("labels %q: %w", s.Labels, err)
	case len(values) != 1:
		return result{}, fmt.Errorf("labels %q: expected 1 value, got %d", s.Labels, len(values))
	case values[0].Histogram == nil:
		return result{}, fmt.Errorf("labels %q: expected histogram, got %v", s.Labels, values[0])
	}
	r.value, r.histogram = 0, notation(values[0].Histogram)
	return r, nil
}

// indent puts spaces before every line but the first.
func indent(text string, spaces int) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", spaces))
}

// diff returns the lines of both texts, with - before those that only the first has and + before those of the second.
// It keeps a longest common subsequence, found in O(n·m), which is little for what people write into tests.
func diff(expected, got string) string {
	a, b := strings.Split(expected, "\n"), strings.Split(got, "\n")
	common := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i, line := range slices.Backward(a) {
		for j, other := range slices.Backward(b) {
			if line == other {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case j == len(b) || (i < len(a) && common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return strings.Join(out, "\n")
}
