// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Rule says when series that have become the same cannot be merged.
type Rule uint8

// The rules.
const (
	// PerStep is that of operators that Prometheus evaluates step by step: two values at one step are an error. It is not
	// checked for instant vectors with delayed name removal.
	PerStep Rule = iota
	// PerSeries is that of operators on whole series (unary minus, label_replace, label_join, the end of a query):
	// two floats or two histograms at one step are an error. For a float beside a histogram see Reader.
	PerSeries
	// Never is that of functions over range vectors: two series with a value at any step are an error. It is not
	// checked with delayed name removal.
	Never
)

// Reader is what reads the rows of a node that merges PerSeries.
type Reader uint8

// The readers. They differ in what becomes of a float and a histogram at one step.
const (
	// Other is any operator. It gets the float, and no histogram of a later step.
	Other Reader = iota
	// Answer is the query itself. It gets both; see vector.HasBoth.
	Answer
	// Repeat is the operator that repeats one step, which fails.
	Repeat
)

// ReadBy tells a node made by this package who reads it.
func ReadBy(n operator.Node, r Reader) {
	if m, ok := n.(*Merge); ok {
		m.reader = r
	}
}

// errSameLabels has Prometheus' words.
func errSameLabels() error {
	return errors.New("vector cannot contain metrics with the same labelset")
}

// errNotOne has Prometheus' words for a series that has a float and a histogram where there should be one value.
func errNotOne() error { return errors.New("unexpected number of samples") }

// Merge is the node that makes one row of rows that have the same labels.
type Merge struct {
	env  *operator.Env
	in   operator.Node
	rule Rule
	// reader matters for PerSeries only.
	reader Reader

	// pass: all rows of the input have different labels.
	pass  bool
	table *vector.Table
	// group[row] is the merged row of a row of the input; the rows of group g are members[from[g]:from[g+1]].
	group, members, from []uint32
	rows                 *store // holds the result where it had to be made to know the names
	held                 held
}

// NewMerge returns in with rows of equal labels merged. It does nothing, not even per batch, when there are none. Its
// annotations are those of in.
func NewMerge(env *operator.Env, in operator.Node, rule Rule) *Merge {
	return &Merge{env: env, in: in, rule: rule}
}

// Open implements operator.Node.
func (m *Merge) Open(ctx context.Context) error {
	m.held.account = m.env.Account
	if err := m.in.Open(ctx); err != nil {
		return err
	}
	t := m.in.Table()
	m.pass = m.unchecked()
	if !m.pass {
		var err error
		if m.pass, err = t.Unique(); err != nil {
			return err
		}
	}
	if m.pass {
		m.table = t
		return nil
	}
	if err := m.held.charge(int64(t.N) * int64(4*(6+len(t.Cols)))); err != nil {
		return err
	}
	of, first, err := t.Groups()
	if err != nil {
		return err
	}
	m.group = of
	if m.Grid().N == 1 {
		return m.instant(ctx, t, len(first))
	}
	m.members, m.from = membersOf(of, len(first))
	m.table = t.Take(first)
	m.table.Distinct = true
	if t.Drop == nil || m.sameDrop(t) {
		return nil
	}
	return m.evaluate(ctx, t)
}

// unchecked tells whether series that are the same stay what they are. With delayed name removal they do in the cases in
// which Prometheus leaves the check to the end of the query.
func (m *Merge) unchecked() bool {
	return m.env.DelayedNameRemoval && (m.rule == Never || m.rule == PerStep && m.Grid().Instant())
}

// membersOf lists the rows of each group.
func membersOf(of []uint32, groups int) (members, from []uint32) {
	from = make([]uint32, groups+1)
	for _, g := range of {
		from[g+1]++
	}
	for g := range groups {
		from[g+1] += from[g]
	}
	members = make([]uint32, len(of))
	next := slices.Clone(from)
	for row, g := range of {
		members[next[g]] = uint32(row)
		next[g]++
	}
	return members, from
}

// sameDrop tells whether all rows of a group agree about dropping their name.
func (m *Merge) sameDrop(t *vector.Table) bool {
	for row, g := range m.group {
		if t.Drop[row] != m.table.Drop[g] {
			return false
		}
	}
	return true
}

// instant merges now: an instant vector has its series in the order of those that have a value.
func (m *Merge) instant(ctx context.Context, t *vector.Table, groups int) error {
	m.rows = &store{batch: vector.Batch{Budget: m.env.Account}}
	place := slices.Repeat([]int{-1}, groups)
	if err := m.env.Drain(ctx, m.in, nil, func(b *vector.Batch) error {
		for i, k := range b.K {
			if k == vector.Absent {
				continue
			}
			at := &place[m.group[b.IDs[i]]]
			if *at < 0 {
				*at = m.rows.batch.Rows()
				if err := m.rows.add(b, i); err != nil {
					return err
				}
				continue
			}
			if err := m.beside(*at, b, i); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	m.table = t.Take(m.rows.batch.IDs)
	m.table.Distinct = true
	switch both := func(s vector.Shape) bool { return s&vector.HasBoth != 0 }; m.reader {
	case Other:
		m.rows.batch.Part()
	case Repeat:
		if slices.ContainsFunc(m.rows.batch.Shape, both) {
			return errNotOne()
		}
	case Answer:
	}
	for i := range m.rows.batch.IDs {
		m.rows.batch.IDs[i] = uint32(i)
	}
	return nil
}

// beside merges row i of b, which has one cell, with row at of the result.
func (m *Merge) beside(at int, b *vector.Batch, i int) error {
	to, k := &m.rows.batch, b.K[i]
	if m.rule != PerSeries || to.K[at] == k || (to.Shape[at]|b.Shape[i])&vector.HasBoth != 0 {
		return errSameLabels()
	}
	if k == vector.Float {
		to.V[at] = b.V[i]
	} else {
		if err := to.UseHistograms(); err != nil {
			return err
		}
		to.H[at] = b.H[i]
	}
	to.K[at], to.Shape[at] = vector.Float, vector.HasFloats|vector.HasHistograms|vector.HasBoth
	return nil
}

// evaluate merges now: whether a name is dropped depends on which row comes first, at the earliest step for PerStep,
// else of those that have any value.
func (m *Merge) evaluate(ctx context.Context, t *vector.Table) error {
	firstStep := slices.Repeat([]int{m.Grid().N}, len(m.table.Drop))
	m.rows = &store{batch: vector.Batch{Budget: m.env.Account}}
	c := &mergeCursor{m: m, in: m.in.Cursor(m.members), saw: func(row uint32, k []vector.Kind) {
		g := m.group[row]
		at := slices.IndexFunc(k, func(k vector.Kind) bool { return k != vector.Absent })
		if at >= 0 && m.rule != PerStep {
			at = 0
		}
		if at >= 0 && at < firstStep[g] {
			firstStep[g], m.table.Drop[g] = at, t.Drop[row]
		}
	}}
	defer c.Close()
	return m.rows.fill(ctx, m.env, c)
}

// Table implements operator.Node.
func (m *Merge) Table() *vector.Table { return m.table }

// Grid implements operator.Node.
func (m *Merge) Grid() vector.Grid { return m.in.Grid() }

// Notes implements operator.Annotated.
func (m *Merge) Notes() *operator.Notes {
	if a, ok := m.in.(operator.Annotated); ok {
		return a.Notes()
	}
	return &operator.Notes{}
}

// Close implements operator.Node.
func (m *Merge) Close() {
	m.in.Close()
	if m.rows != nil {
		m.rows.close()
	}
	m.held.release()
}

// Cursor implements operator.Node.
func (m *Merge) Cursor(ids []uint32) operator.Cursor {
	switch {
	case m.pass:
		return m.in.Cursor(ids)
	case m.rows != nil:
		return m.rows.cursor(ids)
	}
	c := &mergeCursor{m: m, held: held{account: m.env.Account}}
	rows := m.members
	if ids != nil {
		rows, c.err = m.membersIn(ids, &c.held)
	}
	c.in = m.in.Cursor(rows)
	return c
}

// membersIn returns the rows of some groups.
func (m *Merge) membersIn(groups []uint32, h *held) ([]uint32, error) {
	n := 0
	for _, g := range groups {
		n += int(m.from[g+1] - m.from[g])
	}
	if err := h.charge(int64(n) * 4); err != nil {
		return nil, err
	}
	rows := make([]uint32, 0, n)
	for _, g := range groups {
		rows = append(rows, m.members[m.from[g]:m.from[g+1]]...)
	}
	return rows, nil
}

// mergeCursor reads the rows of one group after the other.
type mergeCursor struct {
	m   *Merge
	in  operator.Cursor
	saw func(row uint32, k []vector.Kind) // told of every row; nil: nobody

	held  held
	err   error        // of making the cursor
	batch vector.Batch // of the input
	at    int          // next row of batch
	// open is the group that the last row of the output belongs to, and busy whether that has a value.
	open int64
	busy bool
}

// Next implements operator.Cursor.
func (c *mergeCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	if c.err != nil {
		return false, c.err
	}
	c.batch.Budget = c.m.env.Account
	steps := c.m.Grid().N
	b.Reset(steps)
	c.open = -1
	limit := operator.BatchRows(steps)
	for {
		if c.at == c.batch.Rows() {
			c.at = 0
			if err := c.m.env.Check(); err != nil {
				return false, err
			}
			ok, err := c.in.Next(ctx, &c.batch)
			if err != nil || !ok {
				c.part(b)
				return b.Rows() > 0, err
			}
		}
		group := c.m.group[c.batch.IDs[c.at]]
		if int64(group) != c.open && b.Rows() >= limit {
			c.part(b)
			return true, nil
		}
		if err := c.add(b, group); err != nil {
			return false, err
		}
		c.at++
	}
}

// add adds the next row of the input to the row of its group.
func (c *mergeCursor) add(b *vector.Batch, group uint32) error {
	v, k, h := c.batch.Row(c.at)
	if c.saw != nil {
		c.saw(c.batch.IDs[c.at], k)
	}
	if int64(group) != c.open {
		c.open, c.busy = int64(group), false
		if _, err := b.Add(group); err != nil {
			return err
		}
	}
	if h != nil {
		if err := b.UseHistograms(); err != nil {
			return err
		}
	}
	i := b.Rows() - 1
	toV, toK, toH := b.Row(i)
	busy, from := false, c.batch.Shape[c.at]
	both := (b.Shape[i] | from) & (vector.HasBoth | vector.HasHistograms)
	for j, x := range k {
		if x == vector.Absent {
			continue
		}
		busy = true
		var add *histogram.FloatHistogram
		if x == vector.Histogram || from&vector.HasBoth != 0 {
			add = h[j]
		}
		if toK[j] != vector.Absent || c.m.rule == Never && c.busy {
			if c.m.rule != PerSeries || toK[j] == x || add != nil && toH[j] != nil {
				return errSameLabels()
			}
			both = vector.HasBoth | vector.HasHistograms
		}
		if add != nil {
			toH[j] = add
		}
		if x == vector.Float {
			toV[j] = v[j]
		}
		if toK[j] != vector.Float {
			toK[j] = x
		}
	}
	c.busy = c.busy || busy
	b.Measure(i)
	b.Shape[i] |= both
	return nil
}

// part leaves one value per step in rows that are not the answer.
func (c *mergeCursor) part(b *vector.Batch) {
	if c.m.reader == Other {
		b.Part()
	}
}

// Close implements operator.Cursor.
func (c *mergeCursor) Close() {
	c.in.Close()
	c.batch.Free()
	c.held.release()
}

// NewDropNames returns in without the names of the series that are marked for it: the end of a query with delayed
// name removal. Series that become the same are merged.
func NewDropNames(env *operator.Env, in operator.Node) operator.Node {
	m := NewMerge(env, &renamed{env: env, in: in, names: dropMarked}, PerSeries)
	m.reader = Answer
	return m
}

func dropMarked(env *operator.Env, t *vector.Table, h *held) (*vector.Table, error) {
	switch {
	case t.Drop == nil || !slices.Contains(t.Drop, true):
		return t.WithDrop(false), nil
	case !slices.Contains(t.Drop, false):
		return nameless(t).WithDrop(false), nil
	}
	names := []string{model.MetricNameLabel, model.MetricTypeLabel, model.MetricUnitLabel}
	if err := h.charge(int64(t.N) * 4 * int64(len(names))); err != nil {
		return nil, err
	}
	return t.WithDrop(false).WithoutWhere(t.Drop, names...), env.Check()
}
