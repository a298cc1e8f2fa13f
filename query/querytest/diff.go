// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// Comparison says how exact two outcomes must agree. The zero value compares all but peaks and bits.
type Comparison struct {
	// Bits demands equal bits of every float. Without it numbers may differ by 1e-9 of the larger one, zeros by
	// their sign and NaNs by their payload; zero, NaN, StaleNaN and the infinities must agree either way.
	Bits bool
	// Peak compares the largest number of samples held at once.
	Peak bool
	// NoStatistics leaves statistics out.
	NoStatistics bool
	// NoAnnotations leaves annotations out.
	NoAnnotations bool
	// NoResetHints leaves the counter reset hints of histograms out.
	NoResetHints bool
}

// tolerance is relative to the larger of two numbers.
const tolerance = 1e-9

// Diff says in a line or more how got differs from want, the outcomes of q; "" where they agree.
func (c Comparison) Diff(q Query, got, want Outcome) string {
	if d := diffErrors(got.Failed(), want.Failed()); d != "" {
		return d
	}
	if got.Refused != nil || want.Refused != nil {
		if (got.Refused == nil) != (want.Refused == nil) {
			return fmt.Sprintf("refused before it ran: got %v, want %v", got.Refused, want.Refused)
		}
		return ""
	}
	var found []string
	add := func(d string) {
		if d != "" {
			found = append(found, d)
		}
	}
	add(c.DiffResults(q, got.Result, want.Result))
	if !c.NoStatistics && want.Result.Err == nil {
		add(c.diffSamples(got.Samples, want.Samples))
	}
	return strings.Join(found, "\n")
}

// DiffResults is Diff of the results alone.
func (c Comparison) DiffResults(q Query, got, want *promql.Result) string {
	if d := diffErrors(got.Err, want.Err); d != "" {
		return d
	}
	var found []string
	if want.Err == nil {
		if d := c.diffValues(q, got.Value, want.Value); d != "" {
			found = append(found, d)
		}
	}
	if !c.NoAnnotations {
		if d := diffAnnotations(q.Text, got.Warnings, want.Warnings); d != "" {
			found = append(found, d)
		}
	}
	return strings.Join(found, "\n")
}

func diffErrors(got, want error) string {
	switch {
	case got == nil && want == nil:
		return ""
	case got == nil:
		return fmt.Sprintf("no error, want error %q", want)
	case want == nil:
		return fmt.Sprintf("error %q, want none", got)
	case got.Error() != want.Error():
		return fmt.Sprintf("error %q\n want %q", got, want)
	}
	if g, w := errorClass(got), errorClass(want); g != w {
		return fmt.Sprintf("error %q is a %s, want a %s", got, g, w)
	}
	return ""
}

// errorClass names what callers of an engine tell errors apart by.
func errorClass(err error) string {
	var (
		storage  promql.ErrStorage
		samples  promql.ErrTooManySamples
		timeout  promql.ErrQueryTimeout
		canceled promql.ErrQueryCanceled
	)
	switch {
	case errors.As(err, &storage):
		return "storage error"
	case errors.As(err, &samples):
		return "too-many-samples error"
	case errors.As(err, &timeout):
		return "timeout"
	case errors.As(err, &canceled):
		return "cancellation"
	}
	return "plain error"
}

func diffAnnotations(text string, got, want annotations.Annotations) string {
	gotW, gotI := got.AsStrings(text, 0, 0)
	wantW, wantI := want.AsStrings(text, 0, 0)
	return diffStrings("warnings", gotW, wantW) + diffStrings("infos", gotI, wantI)
}

func diffStrings(what string, got, want []string) string {
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return ""
	}
	return fmt.Sprintf("%s %q\n want %q ", what, got, want)
}

func (c Comparison) diffSamples(got, want *stats.QuerySamples) string {
	switch {
	case got == nil && want == nil:
		return ""
	case got == nil || want == nil:
		return fmt.Sprintf("statistics %v, want %v", got, want)
	case got.TotalSamples != want.TotalSamples:
		return fmt.Sprintf("total samples %d, want %d", got.TotalSamples, want.TotalSamples)
	case got.SamplesRead != want.SamplesRead:
		return fmt.Sprintf("samples read %d, want %d", got.SamplesRead, want.SamplesRead)
	case !slices.Equal(got.TotalSamplesPerStep, want.TotalSamplesPerStep):
		return fmt.Sprintf("total samples per step %v, want %v", got.TotalSamplesPerStep, want.TotalSamplesPerStep)
	case !slices.Equal(got.SamplesReadPerStep, want.SamplesReadPerStep):
		return fmt.Sprintf("samples read per step %v, want %v", got.SamplesReadPerStep, want.SamplesReadPerStep)
	case c.Peak && got.PeakSamples != want.PeakSamples:
		return fmt.Sprintf("peak samples %d, want %d", got.PeakSamples, want.PeakSamples)
	}
	return ""
}

func (c Comparison) diffValues(q Query, got, want parser.Value) string {
	switch w := want.(type) {
	case promql.Scalar:
		g, ok := got.(promql.Scalar)
		if ok && g.T == w.T && c.sameFloat(g.V, w.V) {
			return ""
		}
	case promql.String:
		if got == want {
			return ""
		}
	case promql.Vector:
		if g, ok := got.(promql.Vector); ok {
			return c.diffVectors(g, w, orderMatters(q.Text))
		}
	case promql.Matrix:
		if g, ok := got.(promql.Matrix); ok {
			return c.diffMatrices(g, w)
		}
	}
	return fmt.Sprintf("value %T %v\n want %T %v", got, got, want, want)
}

// orderMatters reports whether the instant query text names an order of its result.
func orderMatters(text string) bool {
	expr, err := parser.NewParser(everything()).ParseExpr(text)
	if err != nil {
		return false
	}
	for {
		p, ok := expr.(*parser.ParenExpr)
		if !ok {
			break
		}
		expr = p.Expr
	}
	switch e := expr.(type) {
	case *parser.Call:
		return strings.HasPrefix(e.Func.Name, "sort")
	case *parser.AggregateExpr:
		return e.Op == parser.TOPK || e.Op == parser.BOTTOMK
	}
	return false
}

// everything are the options of a parser that takes all of PromQL.
func everything() parser.Options {
	return parser.Options{
		EnableExperimentalFunctions: true, ExperimentalDurationExpr: true,
		EnableExtendedRangeSelectors: true, EnableBinopFillModifiers: true,
	}
}

func (c Comparison) diffVectors(got, want promql.Vector, ordered bool) string {
	if !ordered {
		byLabels := func(a, b promql.Sample) int {
			return cmp.Or(labels.Compare(a.Metric, b.Metric), cmp.Compare(a.T, b.T))
		}
		got, want = slices.SortedFunc(slices.Values(got), byLabels), slices.SortedFunc(slices.Values(want), byLabels)
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d samples, want %d; missing is %v", len(got), len(want), want[i])
		case i >= len(want):
			return fmt.Sprintf("%d samples, want %d; too many is %v", len(got), len(want), got[i])
		case !labels.Equal(got[i].Metric, want[i].Metric):
			return fmt.Sprintf("sample %d of %d is %v\n want %v (of %d)", i, len(got), got[i], want[i], len(want))
		case got[i].T != want[i].T || !c.sameFloat(got[i].F, want[i].F):
			return fmt.Sprintf("sample %v (%x)\n want %v (%x)", got[i], got[i].F, want[i], want[i].F)
		}
		if d := c.diffHistogram(got[i].H, want[i].H); d != "" {
			return fmt.Sprintf("histogram of %v: %s", want[i].Metric, d)
		}
	}
	return ""
}

func (c Comparison) diffMatrices(got, want promql.Matrix) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d series, want %d; missing is %v", len(got), len(want), want[i])
		case i >= len(want):
			return fmt.Sprintf("%d series, want %d; too many is %v", len(got), len(want), got[i])
		case !labels.Equal(got[i].Metric, want[i].Metric):
			return fmt.Sprintf("series %d of %d is %v\n want %v (of %d)", i, len(got), got[i], want[i], len(want))
		}
		if d := c.diffSeries(got[i], want[i]); d != "" {
			return fmt.Sprintf("series %v: %s", want[i].Metric, d)
		}
	}
	return ""
}

func (c Comparison) diffSeries(got, want promql.Series) string {
	if len(got.Floats) != len(want.Floats) || len(got.Histograms) != len(want.Histograms) {
		return fmt.Sprintf("%d floats and %d histograms, want %d and %d\n got %v\nwant %v",
			len(got.Floats), len(got.Histograms), len(want.Floats), len(want.Histograms), got, want)
	}
	for i, w := range want.Floats {
		if g := got.Floats[i]; g.T != w.T || !c.sameFloat(g.F, w.F) {
			return fmt.Sprintf("float %d: %v at %d (%x), want %v at %d (%x)", i, g.F, g.T, g.F, w.F, w.T, w.F)
		}
	}
	for i, w := range want.Histograms {
		g := got.Histograms[i]
		if g.T != w.T {
			return fmt.Sprintf("histogram %d at %d, want at %d", i, g.T, w.T)
		}
		if d := c.diffHistogram(g.H, w.H); d != "" {
			return fmt.Sprintf("histogram %d at %d: %s", i, w.T, d)
		}
	}
	return ""
}

func (c Comparison) sameFloat(a, b float64) bool {
	if math.Float64bits(a) == math.Float64bits(b) {
		return true
	}
	if math.IsNaN(a) || math.IsNaN(b) {
		return !c.Bits && math.IsNaN(a) && math.IsNaN(b) && value.IsStaleNaN(a) == value.IsStaleNaN(b)
	}
	if a == b && !c.Bits {
		return true
	}
	if c.Bits || a == 0 || b == 0 || math.IsInf(a, 0) || math.IsInf(b, 0) {
		return false
	}
	return math.Abs(a-b) <= tolerance*max(math.Abs(a), math.Abs(b))
}

// diffHistogram compares what a reader of two histograms can tell apart: empty buckets do not count.
func (c Comparison) diffHistogram(got, want *histogram.FloatHistogram) string {
	if got == nil || want == nil {
		if got == nil && want == nil {
			return ""
		}
		return fmt.Sprintf("%v, want %v", got, want)
	}
	g, w := got.Copy().Compact(0), want.Copy().Compact(0)
	same := g.Schema == w.Schema &&
		c.sameFloat(g.ZeroThreshold, w.ZeroThreshold) && c.sameFloat(g.ZeroCount, w.ZeroCount) &&
		c.sameFloat(g.Count, w.Count) && c.sameFloat(g.Sum, w.Sum) &&
		slices.Equal(g.CustomValues, w.CustomValues) &&
		slices.Equal(g.PositiveSpans, w.PositiveSpans) && slices.Equal(g.NegativeSpans, w.NegativeSpans) &&
		slices.EqualFunc(g.PositiveBuckets, w.PositiveBuckets, c.sameFloat) &&
		slices.EqualFunc(g.NegativeBuckets, w.NegativeBuckets, c.sameFloat)
	if !same {
		return fmt.Sprintf("%s\n want %s", describe(g), describe(w))
	}
	if !c.NoResetHints && g.CounterResetHint != w.CounterResetHint {
		return fmt.Sprintf("counter reset hint %d, want %d, of %s", g.CounterResetHint, w.CounterResetHint, describe(w))
	}
	return ""
}

func describe(h *histogram.FloatHistogram) string {
	return fmt.Sprintf("{schema %d custom %v count %v sum %v zero %v@%v + %v %v - %v %v}", h.Schema, h.CustomValues,
		h.Count, h.Sum, h.ZeroCount, h.ZeroThreshold, h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets)
}
