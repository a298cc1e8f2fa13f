// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

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
	of, first := t.Keep(r.src).Groups()
	type outcome struct {
		matches bool
		sym     uint32
	}
	outcomes := make([]outcome, len(first))
	matched := false
	for g, row := range first {
		if g&1023 == 1023 {
			if err := env.Check(); err != nil {
				return nil, err
			}
		}
		value := t.Value(row, r.src)
		at := r.compiled.FindStringSubmatchIndex(value)
		if at == nil {
			continue
		}
		sym, err := symbol(t.Dict, string(r.compiled.ExpandString(nil, r.replacement, value, at)), h)
		if err != nil {
			return nil, err
		}
		outcomes[g], matched = outcome{matches: true, sym: sym}, true
	}
	if !matched {
		return t, nil
	}
	return setLabel(t, r.dst, h, func(row int) (uint32, bool) {
		o := outcomes[of[row]]
		return o.sym, o.matches
	})
}

// symbol returns the symbol of a text that may be new.
func symbol(d *vector.Dict, text string, h *held) (uint32, error) {
	const entry = 64 // two headers and a place in the map
	if err := h.charge(int64(len(text)) + entry); err != nil {
		return 0, err
	}
	return d.Symbol(text), nil
}

// setLabel returns t with a label set in the rows for which value returns true. A metric name that was set stays.
func setLabel(t *vector.Table, name string, h *held, value func(row int) (uint32, bool)) (*vector.Table, error) {
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
	of, first := t.Keep(j.src...).Groups()
	syms := make([]uint32, len(first))
	values := make([]string, len(j.src))
	for g, row := range first {
		if g&1023 == 1023 {
			if err := env.Check(); err != nil {
				return nil, err
			}
		}
		for i, src := range j.src {
			values[i] = t.Value(row, src)
		}
		sym, err := symbol(t.Dict, strings.Join(values, j.sep), h)
		if err != nil {
			return nil, err
		}
		syms[g] = sym
	}
	return setLabel(t, j.dst, h, func(row int) (uint32, bool) { return syms[of[row]], true })
}
