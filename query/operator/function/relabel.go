// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unsafe"

	"github.com/prometheus/common/model"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// renamed is a node whose rows are those of its input under other labels.
type renamed struct {
	env *operator.Env
	in  operator.Node
	// check is done before the input is opened; nil: nothing.
	check func() error
	names func(*operator.Env, *vector.Table, *held) (*vector.Table, error)

	table *vector.Table
	held  held
}

// Open implements operator.Node.
func (n *renamed) Open(ctx context.Context) error {
	n.held.account = n.env.Account
	if n.check != nil {
		if err := n.check(); err != nil {
			return err
		}
	}
	if err := n.in.Open(ctx); err != nil {
		return err
	}
	t, err := n.names(n.env, n.in.Table(), &n.held)
	n.table = t
	return err
}

// Table implements operator.Node.
func (n *renamed) Table() *vector.Table { return n.table }

// Grid implements operator.Node.
func (n *renamed) Grid() vector.Grid { return n.in.Grid() }

// Cursor implements operator.Node.
func (n *renamed) Cursor(ids []uint32) operator.Cursor { return n.in.Cursor(ids) }

// Close implements operator.Node.
func (n *renamed) Close() {
	n.in.Close()
	n.held.release()
}

// labelReplace is a call of label_replace.
type labelReplace struct {
	dst, replacement, src, regex string
	compiled                     *regexp.Regexp
}

// newLabelReplace returns the node of a call whose texts are dst, replacement, src, regex.
func newLabelReplace(env *operator.Env, in operator.Node, texts []string) operator.Node {
	r := &labelReplace{dst: texts[0], replacement: texts[1], src: texts[2], regex: texts[3]}
	return NewMerge(env, &renamed{env: env, in: in, check: r.check, names: r.apply}, PerSeries)
}

func (r *labelReplace) check() error {
	re, err := regexp.Compile("^(?s:" + r.regex + ")$")
	if err != nil {
		return fmt.Errorf("invalid regular expression in label_replace(): %s", r.regex)
	}
	if !model.UTF8Validation.IsValidLabelName(r.dst) {
		return fmt.Errorf("invalid destination label name in label_replace(): %s", r.dst)
	}
	r.compiled = re
	return nil
}

// apply replaces once per value of the source label.
func (r *labelReplace) apply(env *operator.Env, t *vector.Table, h *held) (*vector.Table, error) {
	type outcome struct {
		matches bool
		sym     uint32
	}
	matched := false
	of, outcomes, err := perGroup(env, t.Keep(r.src), h, func(row uint32) (outcome, error) {
		value := t.Value(row, r.src)
		at := r.compiled.FindStringSubmatchIndex(value)
		if at == nil {
			return outcome{}, nil
		}
		matched = true
		most := len(r.replacement) + strings.Count(r.replacement, "$")*len(value)
		sym, err := symbol(t.Dict, most, func() string {
			return string(r.compiled.ExpandString(nil, r.replacement, value, at))
		})
		return outcome{matches: true, sym: sym}, err
	})
	if !matched || err != nil {
		return t, err
	}
	return setLabel(env, t, h, r.dst, func(row int) (uint32, bool) {
		o := outcomes[of[row]]
		return o.sym, o.matches
	})
}

// perGroup works something out for each group of equal rows of t: of[row] is the number of the group of a row.
func perGroup[T any](env *operator.Env, t *vector.Table, h *held, f func(row uint32) (T, error)) (of []uint32, out []T, err error) {
	var x T
	if err := h.charge(int64(t.N) * int64(8+unsafe.Sizeof(x))); err != nil {
		return nil, nil, err
	}
	of, first, err := t.Groups()
	if err != nil {
		return nil, nil, err
	}
	out = make([]T, len(first))
	for g, row := range first {
		if g&255 == 255 {
			if err := env.Check(); err != nil {
				return nil, nil, err
			}
		}
		if out[g], err = f(row); err != nil {
			return nil, nil, err
		}
	}
	return of, out, nil
}

// symbol returns the symbol of a text that may be new. A long one, which has at most a number of bytes, is charged for
// before it is made.
func symbol(d *vector.Dict, most int, text func() string) (uint32, error) {
	const long = 1 << 14
	if most > long {
		if err := d.Budget.Reserve(int64(most)); err != nil {
			return 0, err
		}
		defer d.Budget.Release(int64(most))
	}
	return d.Symbol(text())
}

// setLabel returns t with a label set in the rows for which value returns true. A metric name that was set stays.
func setLabel(env *operator.Env, t *vector.Table, h *held, name string, value func(row int) (uint32, bool)) (*vector.Table, error) {
	if err := h.charge(int64(t.N) * 5); err != nil {
		return nil, err
	}
	col := make([]uint32, t.N)
	copy(col, t.Column(name))
	var drop []bool
	if name == model.MetricNameLabel {
		drop = slices.Clone(t.Drop)
	}
	for row := range col {
		if row&0xffff == 0xffff {
			if err := env.Check(); err != nil {
				return nil, err
			}
		}
		sym, ok := value(row)
		if !ok {
			continue
		}
		col[row] = sym
		if drop != nil {
			drop[row] = false
		}
	}
	out := t.With(name, col)
	// A label that is new to all rows does not make any two the same.
	out.Distinct = t.Distinct && t.Column(name) == nil
	if drop != nil {
		out.Drop = drop
	}
	return out, nil
}

// labelJoin is a call of label_join.
type labelJoin struct {
	dst, sep string
	src      []string
}

// newLabelJoin returns the node of a call whose texts are dst, separator and the source labels.
func newLabelJoin(env *operator.Env, in operator.Node, texts []string) operator.Node {
	j := &labelJoin{dst: texts[0], sep: texts[1], src: texts[2:]}
	return NewMerge(env, &renamed{env: env, in: in, check: j.check, names: j.apply}, PerSeries)
}

func (j *labelJoin) check() error {
	for _, src := range j.src {
		if !model.UTF8Validation.IsValidLabelName(src) {
			return fmt.Errorf("invalid source label name in label_join(): %s", src)
		}
	}
	if !model.UTF8Validation.IsValidLabelName(j.dst) {
		return fmt.Errorf("invalid destination label name in label_join(): %s", j.dst)
	}
	return nil
}

// apply joins once per combination of values of the source labels.
func (j *labelJoin) apply(env *operator.Env, t *vector.Table, h *held) (*vector.Table, error) {
	values := make([]string, len(j.src))
	of, syms, err := perGroup(env, t.Keep(j.src...), h, func(row uint32) (uint32, error) {
		most := len(j.sep) * len(values)
		for i, src := range j.src {
			values[i] = t.Value(row, src)
			most += len(values[i])
		}
		return symbol(t.Dict, most, func() string { return strings.Join(values, j.sep) })
	})
	if err != nil {
		return nil, err
	}
	return setLabel(env, t, h, j.dst, func(row int) (uint32, bool) { return syms[of[row]], true })
}
