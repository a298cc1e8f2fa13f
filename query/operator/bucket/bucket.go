// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package bucket holds the functions that estimate from the buckets of histograms: histogram_quantile,
// histogram_quantiles and histogram_fraction, over classic histograms, whose buckets are series with a label le, over
// native ones, and over both at once.
//
// Nouns: a family is the rows of the input that differ in nothing but le, so that together they are one classic
// histogram; a shape is the order of the bounds of a family, found out once and kept for the next family with the same
// bounds; an estimate is what is computed from the buckets of one step.
//
// The input is read family by family, so that the buckets in memory are those of one family. What is held is the
// result, one row per family and quantile. A step costs one look at each bucket.
//
// Names are dropped or marked. Without delayed name removal rows may end up with equal labels, and they do where
// histogram_quantiles writes over a label: the consumer merges them.
package bucket

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Kind is one of the functions.
type Kind uint8

// The functions of this package.
const (
	Quantile  Kind = iota // histogram_quantile(q, v)
	Quantiles             // histogram_quantiles(v, label, q, ...)
	Fraction              // histogram_fraction(lower, upper, v)
)

// Config says what to compute.
type Config struct {
	Kind Kind
	// Params are the quantiles, or the lower and the upper bound.
	Params []operator.Scalar
	// Label is the label that tells the quantiles apart.
	Label string
	// Input is the histograms.
	Input operator.Node
}

// Node is one of the functions. The slots of its annotations are those of a call: 0 is the call, i its i-th argument.
type Node struct {
	env    *operator.Env
	cfg    Config
	notes  operator.Notes
	memory retain.Memory
	rows   *rows
	// tallies count forced corrections, by metric name. Written while the input is read.
	tallies map[string]*tally
	closed  bool
}

// New returns the function of an input.
func New(env *operator.Env, cfg Config) *Node {
	return &Node{env: env, cfg: cfg, memory: retain.Memory{Account: env.Account}}
}

// inputSlot is the slot of the histograms.
func (c *Config) inputSlot() int {
	switch c.Kind {
	case Quantiles:
		return 1
	case Fraction:
		return 3
	default:
		return 2
	}
}

// paramSlot is the slot of a parameter.
func (c *Config) paramSlot(i int) int {
	if c.Kind == Quantiles {
		return 3 + i
	}
	return 1 + i
}

// Open evaluates the function.
func (n *Node) Open(ctx context.Context) error {
	if err := n.openInputs(ctx); err != nil {
		return err
	}
	if n.cfg.Kind != Fraction {
		n.checkQuantiles()
	}
	r, err := newReader(n)
	if err != nil {
		return err
	}
	if err := n.env.Drain(ctx, n.cfg.Input, r.order, r.add); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	n.rows = r.rows
	return n.rows.finish(n)
}

// openInputs opens them in the order of the arguments.
func (n *Node) openInputs(ctx context.Context) error {
	if n.cfg.Kind == Quantiles {
		if err := n.cfg.Input.Open(ctx); err != nil {
			return err
		}
	}
	for _, p := range n.cfg.Params {
		if err := p.Open(ctx); err != nil {
			return err
		}
	}
	if n.cfg.Kind == Quantiles {
		return nil
	}
	return n.cfg.Input.Open(ctx)
}

// Table names the histograms, with the label of the quantile where there are several.
func (n *Node) Table() *vector.Table { return n.rows.table }

// Grid is that of the input.
func (n *Node) Grid() vector.Grid { return n.cfg.Input.Grid() }

// Notes returns what was noted.
func (n *Node) Notes() *operator.Notes { return &n.notes }

// Cursor yields rows of the result.
func (n *Node) Cursor(ids []uint32) operator.Cursor {
	return retain.NewCursor(n.env, n.rows, n.Grid().N, ids)
}

// Close gives back the result and closes the inputs.
func (n *Node) Close() {
	if n.closed {
		return
	}
	n.closed = true
	n.rows = nil
	n.memory.Release()
	for _, p := range n.cfg.Params {
		p.Close()
	}
	n.cfg.Input.Close()
}

// errSameLabels is of two quantiles that are the same.
func errSameLabels() error { return errors.New("vector cannot contain metrics with the same labelset") }

// metadataLabels are those that a function removes with the name.
func metadataLabels() []string { return []string{labels.MetricName, "__type__", "__unit__"} }
