// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/function"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func newEnv(delayed bool) *operator.Env {
	return &operator.Env{
		Dict: vector.NewDict(), Account: budget.NewRoot("query", 1<<40), Samples: operator.NewSamplesum(0, 0),
		Options: operator.Options{DelayedNameRemoval: delayed},
	}
}

// family is what the rows of a random classic histogram are like.
type familyConfig struct {
	les                       []string
	gaps, falling, nan, mixed bool
}

var boundSets = [][]string{
	{"0.1", "0.5", "1", "5", "+Inf"},
	{"-1", "0", "1", "+Inf"},
	{"+Inf"},
	{"1", "2"},
	{"1", "1.0", "2", "2e0", "+Inf"},
	{"1", "oops", "+Inf"},
	{"1", "", "3", "+Inf"},
	{"0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "2", "3", "4", "Inf"},
}

func randomWorld(r *rand.Rand, steps int, native bool) *operatortest.Reference {
	w := &operatortest.Reference{Grid: vector.Grid{Start: 600_000, Step: 60_000, N: steps}}
	var rows []operatortest.Series
	seen := map[string]bool{}
	for range 1 + r.IntN(5) {
		base := labels.FromStrings(labels.MetricName, "m", "a", fmt.Sprint(r.IntN(3)))
		if r.IntN(3) == 0 {
			base = labels.NewBuilder(base).Set("b", "x").Set("__unit__", "s").Labels()
		}
		if seen[base.String()] {
			continue
		}
		seen[base.String()] = true
		c := familyConfig{les: boundSets[r.IntN(len(boundSets))], gaps: r.IntN(2) == 0, falling: r.IntN(3) == 0, nan: r.IntN(8) == 0}
		c.mixed = native && r.IntN(2) == 0
		if !native || r.IntN(2) == 0 {
			rows = append(rows, classicRows(r, base, c, steps)...)
		}
		if native && !slices.Contains(c.les, "") {
			rows = append(rows, nativeRow(r, base, steps))
		}
	}
	sort.Slice(rows, func(i, j int) bool { return labels.Compare(rows[i].Labels, rows[j].Labels) < 0 })
	w.Load(rows)
	return w
}

func classicRows(r *rand.Rand, base labels.Labels, c familyConfig, steps int) []operatortest.Series {
	rows := make([]operatortest.Series, len(c.les))
	for i, le := range c.les {
		rows[i] = operatortest.Series{Labels: labels.NewBuilder(base).Set("le", le).Labels()}
		rows[i].V, rows[i].K = make([]float64, steps), make([]vector.Kind, steps)
		rows[i].H = make([]*histogram.FloatHistogram, steps)
	}
	for step := range steps {
		count := 0.0
		for i := range rows {
			count += float64(r.IntN(4)) * r.Float64()
			if r.IntN(5) == 0 {
				count *= 1 + 1e-13
			}
			v := count
			if c.falling && r.IntN(3) == 0 {
				v -= r.Float64()
			}
			if c.nan && r.IntN(3) == 0 {
				v = []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0}[r.IntN(5)]
			}
			rows[i].V[step] = v
			switch {
			case c.gaps && r.IntN(5) == 0:
			case c.mixed && r.IntN(20) == 0:
				rows[i].K[step], rows[i].H[step] = vector.Histogram, operatortest.RandomHistogram(r)
			default:
				rows[i].K[step] = vector.Float
			}
		}
	}
	return rows
}

func nativeRow(r *rand.Rand, ls labels.Labels, steps int) operatortest.Series {
	s := operatortest.Series{Labels: ls}
	for range steps {
		h := operatortest.RandomHistogram(r)
		if r.IntN(4) == 0 {
			h.Sum = math.NaN()
			h.Count += float64(r.IntN(3))
		}
		k := vector.Histogram
		if r.IntN(3) == 0 {
			k, h = vector.Absent, nil
		}
		s.V, s.K, s.H = append(s.V, 0), append(s.K, k), append(s.H, h)
	}
	return s
}

var quantileTexts = []string{"0.5", "0.9", "0", "1", "-0.1", "1.1", "NaN", "0.3", "time() % 420 / 300"}

func randomQuery(r *rand.Rand) string {
	q := func() string { return quantileTexts[r.IntN(len(quantileTexts))] }
	bound := func() string {
		return []string{"0", "1", "-Inf", "+Inf", "0.7", "2.5", "NaN", "time() % 420 / 100"}[r.IntN(8)]
	}
	switch r.IntN(3) {
	case 0:
		return fmt.Sprintf("histogram_quantile(%s, m)", q())
	case 1:
		return fmt.Sprintf(`histogram_quantiles(m, "%s", %s, %s, 0.77)`, []string{"q", "a", "le"}[r.IntN(3)], q(), q())
	default:
		return fmt.Sprintf("histogram_fraction(%s, %s, m)", bound(), bound())
	}
}

// parse returns the config of a query and the positions of its arguments.
func parse(t *testing.T, w *operatortest.Reference, query string) (Config, []posrange.PositionRange) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	call := expr.(*parser.Call)
	c := Config{Kind: map[string]Kind{"histogram_quantile": Quantile, "histogram_quantiles": Quantiles, "histogram_fraction": Fraction}[call.Func.Name]}
	at := []posrange.PositionRange{call.PosRange}
	for _, a := range call.Args {
		at = append(at, a.PositionRange())
		switch {
		case a.Type() == parser.ValueTypeScalar:
			c.Params = append(c.Params, w.Scalar(t, a.String()))
		case a.Type() == parser.ValueTypeString:
			c.Label = a.(*parser.StringLiteral).Val
		}
	}
	return c, at
}

// annotated is a node with the annotations of another.
type annotated struct {
	operator.Node
	of *Node
}

func (a annotated) Notes() *operator.Notes { return a.of.Notes() }

func checkSameAsPrometheus(t *testing.T, w *operatortest.Reference, query string, delayed bool) {
	t.Helper()
	c, at := parse(t, w, query)
	env := newEnv(delayed)
	in := operatortest.Rows(env, w.Grid, w.Rows(t, "m")...)
	in.PerBatch = 3
	env.Workers = operator.NewWorkers(w.Grid.N % 3)
	c.Input = in
	n := New(env, c)
	whole := operator.Node(function.NewMerge(env, n, function.PerStep))
	if delayed {
		whole = function.NewDropNames(env, whole)
	}
	got := w.Read(t, env, annotated{whole, n}, query, at)
	want := w.Answer(t, query, delayed)
	slices.Sort(got.Rows) // Prometheus has no order for them
	slices.Sort(want.Rows)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (delayed %v, %d steps) differs, -prometheus +ours:\n%s", query, delayed, w.Grid.N, d)
	}
	if used := env.Account.Used(); used != 0 {
		t.Errorf("%s: %d bytes are still charged", query, used)
	}
}

func TestEstimatesAreThoseOfPrometheus(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 11))
	for range 2000 {
		w := randomWorld(r, []int{1, 2, 7}[r.IntN(3)], r.IntN(2) == 0)
		checkSameAsPrometheus(t, w, randomQuery(r), r.IntN(2) == 0)
	}
}
