// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// AbsentLabels returns the labels of the series that absent and absent_over_time yield for an argument: those that a
// selector requires to be equal to one value.
func AbsentLabels(arg parser.Expr) labels.Labels {
	var ms []*labels.Matcher
	switch e := arg.(type) {
	case *parser.VectorSelector:
		ms = e.LabelMatchers
	case *parser.MatrixSelector:
		if s, ok := e.VectorSelector.(*parser.VectorSelector); ok {
			ms = s.LabelMatchers
		}
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	once := map[string]bool{}
	for _, m := range ms {
		switch {
		case m.Name == labels.MetricName:
		case m.Type == labels.MatchEqual && !once[m.Name]:
			b.Set(m.Name, m.Value)
			once[m.Name] = true
		default:
			b.Del(m.Name)
		}
	}
	return b.Labels()
}

// single is a node of one series.
type single struct {
	env    *operator.Env
	grid   vector.Grid
	labels labels.Labels
	// fill sets the cells, absent before. It opens the inputs.
	fill   func(ctx context.Context, v []float64, k []vector.Kind) error
	inputs []closer

	table *vector.Table
	row   store
}

type closer interface{ Close() }

// Open implements operator.Node.
func (s *single) Open(ctx context.Context) error {
	var err error
	if s.table, err = tableOf(s.env.Dict, s.labels); err != nil {
		return err
	}
	s.row.batch.Budget = s.env.Account
	s.row.batch.Reset(s.grid.N)
	if _, err := s.row.batch.Add(0); err != nil {
		return err
	}
	v, k, _ := s.row.batch.Row(0)
	if err := s.fill(ctx, v, k); err != nil {
		return err
	}
	s.row.batch.Measure(0)
	return nil
}

// tableOf returns a table of one row.
func tableOf(d *vector.Dict, ls labels.Labels) (*vector.Table, error) {
	t := &vector.Table{N: 1, Distinct: true, Dict: d}
	err := ls.Validate(func(l labels.Label) error {
		sym, err := d.Symbol(l.Value)
		t.Names, t.Cols = append(t.Names, l.Name), append(t.Cols, []uint32{sym})
		return err
	})
	return t, err
}

// Table implements operator.Node.
func (s *single) Table() *vector.Table { return s.table }

// Grid implements operator.Node.
func (s *single) Grid() vector.Grid { return s.grid }

// Cursor implements operator.Node.
func (s *single) Cursor(ids []uint32) operator.Cursor { return s.row.cursor(ids) }

// Close implements operator.Node.
func (s *single) Close() {
	for _, in := range s.inputs {
		in.Close()
	}
	s.row.close()
}

// newAbsent returns the node that is 1 where in has no cell.
func newAbsent(env *operator.Env, in operator.Node, ls labels.Labels) operator.Node {
	fill := func(ctx context.Context, v []float64, k []vector.Kind) error {
		if err := in.Open(ctx); err != nil {
			return err
		}
		for j := range k {
			v[j], k[j] = 1, vector.Float
		}
		left := len(k)
		return env.Drain(ctx, in, nil, func(b *vector.Batch) error {
			for i := 0; i < b.Rows() && left > 0; i++ {
				_, present, _ := b.Row(i)
				for j, p := range present {
					if p != vector.Absent && k[j] != vector.Absent {
						k[j] = vector.Absent
						left--
					}
				}
			}
			return nil
		})
	}
	return &single{env: env, grid: in.Grid(), labels: ls, fill: fill, inputs: []closer{in}}
}

// newVector returns vector(s).
func newVector(env *operator.Env, grid vector.Grid, s operator.Scalar) operator.Node {
	fill := func(ctx context.Context, v []float64, k []vector.Kind) error {
		if err := s.Open(ctx); err != nil {
			return err
		}
		copy(v, s.Values())
		for from, to := range env.Runs(len(k)) {
			for j := from; j < to; j++ {
				k[j] = vector.Float
			}
		}
		return env.Check()
	}
	return &single{env: env, grid: grid, fill: fill, inputs: []closer{s}}
}

// newDateNow returns a date function of the evaluation time.
func newDateNow(env *operator.Env, grid vector.Grid, f func(int64) float64) operator.Node {
	fill := func(_ context.Context, v []float64, k []vector.Kind) error {
		for from, to := range env.Runs(len(k)) {
			for j := from; j < to; j++ {
				v[j], k[j] = f(grid.At(j)/1000), vector.Float
			}
		}
		return env.Check()
	}
	return &single{env: env, grid: grid, fill: fill}
}
