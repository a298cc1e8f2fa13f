// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Call is a call of a function.
type Call struct {
	Func string
	// Grid is the steps of the result.
	Grid vector.Grid
	// In is the vector argument, nil if there is none; Scalars and Texts are the others, in the order of the call.
	In      operator.Node
	Scalars []operator.Scalar
	Texts   []string
	// Labels of the result of absent: see AbsentLabels.
	Labels labels.Labels
	// Many says that the call is not evaluated at a single time, even if its grid has one step only. Functions that
	// sort then warn.
	Many bool
}

// Build returns the node of a call. Rows that have become the same by losing their name are merged, or fail, already.
// If the node is an operator.Annotated, slot 0 is the call.
func Build(env *operator.Env, c Call) (operator.Node, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	switch c.Func {
	case "sort", "sort_desc", "sort_by_label", "sort_by_label_desc":
		return newSort(env, &c), nil
	case "label_replace":
		return newLabelReplace(env, c.In, c.Texts), nil
	case "label_join":
		return newLabelJoin(env, c.In, c.Texts), nil
	case "absent":
		return newAbsent(env, c.In, c.Labels), nil
	case "vector":
		return newVector(env, c.Grid, c.Scalars[0]), nil
	}
	if f := date(c.Func); f != nil && c.In == nil {
		return newDateNow(env, c.Grid, f), nil
	}
	n := c.rowwise(env)
	if n == nil {
		return nil, fmt.Errorf("function: no function %q", c.Func)
	}
	return NewMerge(env, n, PerStep), nil
}

// arity is what a call has to have: counts of scalars and texts, and whether a vector.
type arity struct {
	in             bool
	scalars, texts int
	// more texts may follow; fewer scalars may be given.
	moreTexts, fewerScalars bool
}

func (c *Call) check() error {
	a := arity{in: true}
	switch c.Func {
	case "vector":
		a = arity{scalars: 1}
	case "clamp":
		a.scalars = 2
	case "clamp_min", "clamp_max":
		a.scalars = 1
	case "round":
		a.scalars, a.fewerScalars = 1, true
	case "label_replace":
		a.texts = 4
	case "label_join":
		a.texts, a.moreTexts = 2, true
	case "sort_by_label", "sort_by_label_desc":
		a.moreTexts = true
	default:
		a.in = date(c.Func) == nil || c.In != nil
	}
	enough := len(c.Scalars) == a.scalars || a.fewerScalars && len(c.Scalars) < a.scalars
	named := len(c.Texts) == a.texts || a.moreTexts && len(c.Texts) > a.texts
	if (c.In != nil) != a.in || !enough || !named {
		return fmt.Errorf("function: wrong arguments for %s: %d scalars, %d texts", c.Func, len(c.Scalars), len(c.Texts))
	}
	return nil
}

// rowwise returns the node of a function from row to row; nil: it is none.
func (c *Call) rowwise(env *operator.Env) operator.Node {
	k, names := c.plain(), dropNames
	switch c.Func {
	case "clamp":
		return newClamp(env, c.In, c.Scalars[0], c.Scalars[1])
	case "clamp_min":
		return newClamp(env, c.In, c.Scalars[0], nil)
	case "clamp_max":
		return newClamp(env, c.In, nil, c.Scalars[0])
	case "round":
		if len(c.Scalars) == 0 {
			return newRound(env, c.In, nil)
		}
		return newRound(env, c.In, c.Scalars[0])
	case "timestamp":
		k = timestamps(c.Grid)
	case "start_timestamp":
		k = empty // only samples of the storage have one
	}
	if k == nil {
		return nil
	}
	if ofHistogram(c.Func) != nil {
		names = dropNameOnly
	}
	return &rowwise{env: env, in: c.In, names: names, bind: fixed(k)}
}

// plain returns the kernel of a function without other arguments; nil: it is none.
func (c *Call) plain() kernel {
	if f := flat(c.Func); f != nil {
		return overFlat(f)
	}
	if f := pointwise(c.Func); f != nil {
		return overFloats(f)
	}
	if f := date(c.Func); f != nil {
		return overFloats(func(x float64) float64 { return f(int64(x)) })
	}
	if f := ofHistogram(c.Func); f != nil {
		return overHistograms(f)
	}
	return nil
}

// timestamps returns the kernel that makes each cell the time of its step.
func timestamps(grid vector.Grid) kernel {
	return func(_ *work, b *vector.Batch) error {
		for v := b.V; len(v) > 0; v = v[b.Steps:] {
			for j := range b.Steps {
				v[j] = float64(grid.At(j)) / 1000
			}
		}
		if len(b.H) == 0 {
			return nil
		}
		clear(b.H)
		b.H = b.H[:0]
		for i, k := range b.K {
			b.K[i] = min(k, vector.Float)
		}
		for i, s := range b.Shape {
			if s&vector.HasHistograms != 0 {
				b.Shape[i] = s&^vector.HasHistograms | vector.HasFloats
			}
		}
		return nil
	}
}
