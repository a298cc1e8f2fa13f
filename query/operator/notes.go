// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"sync"

	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"
)

// Notes collects the annotations that one operator raises. What it keeps is how to make them, because an operator
// that serves two places of a query annotates both, each with its own position.
//
// A slot is one of the positions that the operator was built with: by convention 0 is the expression itself and i the
// i-th argument. Safe for concurrent use.
type Notes struct {
	mu   sync.Mutex
	seen map[noteKey]struct{}
	list []note
}

type noteKey struct {
	slot       int
	kind, name string
}

type note struct {
	slot int
	text func(posrange.PositionRange) error
}

// Add notes an annotation. Only the first of a slot, kind and name is kept: kind names the message, name what varies
// in it (the metric).
func (n *Notes) Add(slot int, kind, name string, text func(posrange.PositionRange) error) {
	key := noteKey{slot, kind, name}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[key]; ok {
		return
	}
	if n.seen == nil {
		n.seen = map[noteKey]struct{}{}
	}
	n.seen[key] = struct{}{}
	n.list = append(n.list, note{slot, text})
}

// Append notes an annotation of which every one counts, because equal ones are merged into one with a tally.
func (n *Notes) Append(slot int, text func(posrange.PositionRange) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, note{slot, text})
}

// AddTo adds the annotations to to, with the positions given for the slots.
func (n *Notes) AddTo(to *annotations.Annotations, at []posrange.PositionRange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.list {
		to.Add(x.text(at[x.slot]))
	}
}

// Annotated is an operator that raises annotations of its own.
type Annotated interface{ Notes() *Notes }
