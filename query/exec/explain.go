// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/plan"
)

// Explanation is how a query is answered, for people and as JSON.
type Explanation struct {
	// Query is the expression as it is planned, with what does not depend on the data filled in.
	Query string `json:"query"`
	// Passes are the rewritings, in their order.
	Passes []plan.Step `json:"passes"`
	// Cache tells what the result cache had to do with the answer, after a run that was analyzed.
	Cache *CacheUse `json:"resultCache,omitempty"`
	// Plan is the operator whose value is the answer. It has no Work where it was not run.
	Plan *Operator `json:"plan"`
	// Parts are what was run for stretches of the range of which the result cache had the rest.
	Parts []*Operator `json:"parts,omitempty"`
	// Totals are those of all operators, after a run that was analyzed.
	Totals *Work `json:"totals,omitempty"`
}

// AddPart adds what was run for a part of the range.
func (e *Explanation) AddPart(p *Explanation) {
	e.Parts = append(e.Parts, p.Plan)
	if e.Totals != nil && p.Totals != nil {
		e.Totals.add(p.Totals)
		e.Totals.Total = e.Totals.Own
	}
}

// Operator is a part of a plan and what it takes its input from.
type Operator struct {
	Name string `json:"operator"`
	// Text is the part of the query, Times when it is evaluated.
	Text  string `json:"text"`
	Times string `json:"times"`
	// Shared numbers what several places take; all but one of them have nothing below.
	Shared int         `json:"shared,omitempty"`
	Work   *Work       `json:"work,omitempty"`
	Inputs []*Operator `json:"inputs,omitempty"`
}

// Walk calls f for o and all operators below.
func (o *Operator) Walk(f func(*Operator)) {
	f(o)
	for _, in := range o.Inputs {
		in.Walk(f)
	}
}

// total is the time that o and all below worked.
func (o *Operator) total() (sum int64) {
	if o.Work != nil {
		return o.Work.Total
	}
	for _, in := range o.Inputs {
		sum += in.total()
	}
	return sum
}

// Work is what an operator did.
type Work struct {
	// Rows and Cells were handed on, in so many Batches; of a range vector, series and samples.
	Rows    int64 `json:"rows"`
	Cells   int64 `json:"cells"`
	Batches int64 `json:"batches"`
	// Selections of series were asked for, of which SelectionsCached were known to the storage; together they have so many
	// Series.
	Selections       int64 `json:"selections"`
	SelectionsCached int64 `json:"selectionsCached"`
	Series           int64 `json:"seriesSelected"`
	// Samples were decoded, and take so many Bytes decoded; Latest were known without.
	Samples int64 `json:"samplesDecoded"`
	Bytes   int64 `json:"bytesDecoded"`
	Latest  int64 `json:"samplesCached"`
	// Own is the time the operator itself worked, Total with its inputs, of all goroutines; nanoseconds.
	Own   int64 `json:"cpuOwn"`
	Total int64 `json:"cpuTotal"`
	// Peak is the most bytes it held at once.
	Peak int64 `json:"peakBytes"`
	// Workers is how often it was lent a goroutine.
	Workers int64 `json:"workersLent"`
}

// add adds the work of an input.
func (w *Work) add(o *Work) {
	w.Rows += o.Rows
	w.Cells += o.Cells
	w.Batches += o.Batches
	w.Selections += o.Selections
	w.SelectionsCached += o.SelectionsCached
	w.Series += o.Series
	w.Samples += o.Samples
	w.Bytes += o.Bytes
	w.Latest += o.Latest
	w.Own += o.Own
	w.Workers += o.Workers
}

// Explain describes the plan; after a run with Options.Analyze with what each operator did.
func (q *Query) Explain() *Explanation {
	e := &Explanation{Query: q.plan.Statement().Expr.String(), Passes: q.plan.Log}
	x := explainer{numbers: map[*plan.Shared]int{}, ran: q.ran}
	if q.opts.Analyze {
		x.totals = &Work{}
	}
	e.Plan = &Operator{Name: "answer", Text: e.Query, Times: q.plan.Root.Where().When.String(), Inputs: []*Operator{x.operator(q.plan.Root, q.built)}}
	e.Plan.Work = x.measured(q.top, e.Plan.Inputs)
	if e.Totals = x.totals; x.totals != nil {
		x.totals.Total, x.totals.Peak = x.totals.Own, q.env.Account.Peak()
	}
	return e
}

type explainer struct {
	numbers map[*plan.Shared]int
	totals  *Work // nil: not analyzed
	ran     bool
}

func (x *explainer) operator(n plan.Node, by *builder) *Operator {
	if r, ok := n.(*plan.Ref); ok {
		return x.ref(r, by)
	}
	o := &Operator{Name: nameOf(n), Text: n.String(), Times: n.Where().When.String()}
	for _, in := range n.Inputs() {
		o.Inputs = append(o.Inputs, x.operator(in, by))
	}
	o.Work = x.measured(by.of(n).meter, o.Inputs)
	return o
}

// ref describes a shared part where it is met first, and names it where it is met again.
func (x *explainer) ref(r *plan.Ref, by *builder) *Operator {
	if by.single {
		return x.operator(r.As, by)
	}
	number, met := x.numbers[r.To]
	if !met {
		number = len(x.numbers) + 1
		x.numbers[r.To] = number
	}
	o := &Operator{Name: "shared", Text: r.As.String(), Times: r.Where().When.String(), Shared: number}
	switch h := by.handles[r]; {
	case h != nil && h.private != nil:
		o.Inputs = []*Operator{x.operator(h.ref.As, h.private)}
	case !met:
		o.Inputs = []*Operator{x.operator(r.To.Node, by)}
	}
	o.Work = x.measured(by.of(r).meter, o.Inputs)
	return o
}

// measured is what a meter says, beside its inputs.
func (x *explainer) measured(m *meter, inputs []*Operator) *Work {
	if x.totals == nil || m == nil || !x.ran {
		return nil
	}
	w := &Work{
		Rows: m.rows.Load(), Cells: m.cells.Load(), Batches: m.batches.Load(),
		Selections: m.selections.Load(), SelectionsCached: m.selectionsCached.Load(), Series: m.series.Load(),
		Samples: m.samples.Load(), Bytes: m.bytes.Load(), Latest: m.latest.Load(),
		Own: m.own.Load(), Peak: m.account.Peak(), Workers: m.lent.Load(),
	}
	w.Total = w.Own
	for _, in := range inputs {
		w.Total += in.total()
	}
	x.totals.add(w)
	return w
}

func nameOf(n plan.Node) string {
	switch n := n.(type) {
	case *plan.Number:
		return "number"
	case *plan.Text:
		return "text"
	case *plan.Select:
		return "select"
	case *plan.Window:
		return "select window"
	case *plan.Stamp:
		return "select timestamps"
	case *plan.Subquery:
		return "subquery"
	case *plan.Call:
		return n.Func
	case *plan.Aggregate:
		if n.Multi != nil {
			return n.Op.String() + ", fed with others"
		}
		return n.Op.String()
	case *plan.Binary:
		return binaryName(n)
	case *plan.Negate:
		return "negate"
	case *plan.Broadcast:
		return "evaluate once"
	default:
		return fmt.Sprintf("%T", n)
	}
}

func binaryName(n *plan.Binary) string {
	switch {
	case n.Matching != nil:
		return "join " + n.Op.String()
	case n.Type() == parser.ValueTypeScalar:
		return "scalar " + n.Op.String()
	default:
		return n.Op.String() + " with a scalar"
	}
}

// String draws the plan as a tree.
func (e *Explanation) String() string {
	var b strings.Builder
	b.WriteString(e.Query + "\n")
	for _, p := range e.Passes {
		switch {
		case p.Skipped != "":
			fmt.Fprintf(&b, "pass %s: not applied, %s\n", p.Pass, p.Skipped)
		case p.After != "":
			fmt.Fprintf(&b, "pass %s:\n  %s\n  %s\n", p.Pass, p.Before, p.After)
		}
	}
	if e.Cache != nil {
		b.WriteString("result cache: " + e.Cache.String() + "\n")
	}
	if len(e.Parts) == 0 || e.Plan.Work != nil {
		e.Plan.draw(&b, 0)
	}
	for _, p := range e.Parts {
		b.WriteString("part of the range:\n")
		p.draw(&b, 0)
	}
	if e.Totals != nil {
		b.WriteString("total " + e.Totals.String() + "\n")
	}
	return b.String()
}

func (o *Operator) draw(b *strings.Builder, depth int) {
	b.WriteString(strings.Repeat("  ", depth))
	if o.Shared > 0 {
		fmt.Fprintf(b, "[%d] ", o.Shared)
	}
	fmt.Fprintf(b, "%s: %s (%s)", o.Name, o.Text, o.Times)
	if o.Work != nil {
		b.WriteString(" " + o.Work.String())
	}
	b.WriteString("\n")
	for _, in := range o.Inputs {
		in.draw(b, depth+1)
	}
}

// String names what is not 0.
func (w *Work) String() string {
	parts := []string{
		fmt.Sprintf("%d rows, %d cells", w.Rows, w.Cells), fmt.Sprintf("own %s of %s", time.Duration(w.Own), time.Duration(w.Total)),
	}
	if w.Selections > 0 {
		parts = append(parts, fmt.Sprintf("%d series in %d selections (%d cached)", w.Series, w.Selections, w.SelectionsCached))
	}
	if w.Samples > 0 {
		parts = append(parts, fmt.Sprintf("%d samples decoded (%d bytes)", w.Samples, w.Bytes))
	}
	if w.Latest > 0 {
		parts = append(parts, fmt.Sprintf("%d samples cached", w.Latest))
	}
	if w.Peak > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes at most", w.Peak))
	}
	if w.Workers > 0 {
		parts = append(parts, fmt.Sprintf("%d workers lent", w.Workers))
	}
	return strings.Join(parts, ", ")
}
