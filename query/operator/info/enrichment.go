// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// enrichment is the work of Open: it finds the info series and what they add to which rows.
type enrichment struct {
	*node
	sel    selection
	wanted targetSet
	known  bool // base rows without a cell are known and do not count

	sources []source
	byKey   map[sourceKey][]int // sources in order
	names   map[target][]uint32 // names of info metrics of a target, in order of appearance
	clashes []clash             // by step; nil: none
}

// source is one info series.
type source struct {
	of     *operand.Operand
	row    uint32
	target target
	name   uint32
}

// sourceKey is what sources have in common of which only the newest counts.
type sourceKey struct {
	target target
	name   uint32
}

// clash is two sources of one key with equally new samples. The zero value is none.
type clash struct {
	there    bool
	old, new int // sources
	at       int64
}

func newEnrichment(n *node) *enrichment {
	e := &enrichment{node: n, sel: newSelection(n.call.Matchers), known: n.Grid().N == 1}
	t := n.base.Table()
	e.isInfo, e.targets = e.sel.isInfo(t), targetsOf(t)
	return e
}

// rowBytes is what a row of the base takes here: its target, and at worst an entry of wanted for it.
const rowBytes = 2 + 4*int64(len(identifying)) + 24

// fetch selects and reads the info series.
func (e *enrichment) fetch(ctx context.Context) error {
	if err := e.charge(int64(e.base.Table().N) * rowBytes); err != nil {
		return err
	}
	e.want()
	for _, ms := range e.wanted.selections(e.env.Dict) {
		ms = slices.Concat(ms, e.sel.data, e.sel.names)
		o := operand.New(e.env, e.call.Select(ms))
		e.infos = append(e.infos, o)
		if err := o.Open(ctx); err != nil {
			return err
		}
		if err := o.Hold(ctx, e.wantedRows(o)); err != nil {
			return err
		}
	}
	for {
		if err := e.index(); err != nil {
			if e.known {
				return err
			}
		} else if e.known || e.clashes == nil {
			return nil
		}
		// Something is wrong, unless with the info of targets of which the base has no cell after all.
		if err := e.base.HoldAll(ctx); err != nil {
			return err
		}
		e.known = true
		e.want()
	}
}

// wantedRows returns the rows of an operand that are about a target.
func (e *enrichment) wantedRows(o *operand.Operand) []uint32 {
	var ids []uint32
	for row, t := range targetsOf(o.Table()) {
		if e.wanted.has(t) {
			ids = append(ids, uint32(row))
		}
	}
	return ids
}

// want notes the targets to be looked for: those of rows with a cell, as far as that is known.
func (e *enrichment) want() {
	e.wanted = targetSet{}
	for row, t := range e.targets {
		if !e.isInfo[row] && (!e.known || e.present(uint32(row))) {
			e.wanted.add(t)
		}
	}
}

// present tells whether a row that is held has a cell.
func (e *enrichment) present(row uint32) bool {
	return slices.ContainsFunc(e.base.Held(row).Kinds(), func(k vector.Kind) bool { return k != vector.Absent })
}

// index sorts the info series by what they can stand in for, and finds out where two of them clash.
func (e *enrichment) index() error {
	e.sources, e.clashes = nil, nil
	e.byKey, e.names = map[sourceKey][]int{}, map[target][]uint32{}
	for _, o := range e.infos {
		t := o.Table()
		names := t.Column(labels.MetricName)
		for row, at := range targetsOf(t) {
			if !e.wanted.has(at) {
				continue
			}
			s := source{o, uint32(row), at, symbol(names, uint32(row))}
			if held := o.Held(s.row); held.HasHistograms() && slices.Contains(held.Kinds(), vector.Histogram) {
				return fmt.Errorf("this should be an info metric, with float samples: %s", s.labels())
			}
			key := sourceKey{at, s.name}
			if len(e.byKey[key]) == 0 {
				e.names[at] = append(e.names[at], s.name)
			}
			e.byKey[key] = append(e.byKey[key], len(e.sources))
			e.sources = append(e.sources, s)
		}
	}
	for _, of := range e.byKey {
		for step := range e.Grid().N {
			if len(of) > 1 {
				e.newest(of, step)
			}
		}
	}
	return nil
}

func (s source) labels() labels.Labels {
	var sb labels.ScratchBuilder
	return s.of.Table().Labels(s.row, &sb)
}

// newest returns which of some sources counts at a step; -1: none. It notes a clash.
func (e *enrichment) newest(of []int, step int) int {
	best := -1
	var at int64
	for _, i := range of {
		held := e.sources[i].of.Held(e.sources[i].row)
		cell := held.At*held.Steps + step
		if held.K[cell] == vector.Absent {
			continue
		}
		t := int64(held.V[cell])
		switch {
		case best < 0 || t > at:
			best, at = i, t
		case t == at:
			e.clash(step, clash{true, best, i, t})
			return best
		}
	}
	return best
}

// clash notes the first clash of a step in the order of info series.
func (e *enrichment) clash(step int, c clash) {
	if e.clashes == nil {
		e.clashes = make([]clash, e.Grid().N)
	}
	if was := e.clashes[step]; !was.there || c.new < was.new {
		e.clashes[step] = c
	}
}

func (e *enrichment) clashError(c clash) error {
	return fmt.Errorf("found duplicate series for info metric: existing %s @ %d, new %s @ %d",
		e.sources[c.old].labels(), c.at, e.sources[c.new].labels(), c.at)
}
