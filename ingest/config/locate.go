// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"log/slog"
	"sort"

	promconfig "github.com/prometheus/prometheus/config"
	"gopkg.in/yaml.v3"
)

// locate finds the line of a mistake that Prometheus' loader reports without one, as it does for every value that
// is well-formed YAML and means nothing: a duration, a target, a job named twice. It cuts the file off behind ever
// later nodes: the first node with which the same error comes is the one that is wrong. It returns 0 if the
// error does not come again. The loader runs some ten times per level of nesting, on a mistake only.
func locate(text []byte, mistake error) int {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return 0
	}
	l := locator{doc: &doc, want: mistake.Error()}
	if !l.fails() {
		return 0
	}
	return l.line(doc.Content[0], doc.Content[0].Line)
}

type locator struct {
	doc  *yaml.Node
	want string
}

// fails reports whether what is left of the document has the mistake.
func (l *locator) fails() bool {
	text, err := yaml.Marshal(l.doc)
	if err != nil {
		return false
	}
	_, err = promconfig.Load(string(text), slog.New(slog.DiscardHandler))
	return err != nil && err.Error() == l.want
}

// line returns the line of the mistake in node, which has it. The key of node, or node itself, stands in line at.
func (l *locator) line(node *yaml.Node, at int) int {
	width := 1
	switch node.Kind {
	case yaml.MappingNode:
		width = 2
	case yaml.SequenceNode:
	default: // A scalar, or an alias, which is wrong where it is used.
		return at
	}
	all := node.Content
	keep := func(n int) bool {
		node.Content = all[:n*width]
		return l.fails()
	}
	n := sort.Search(len(all)/width, keep)
	if !keep(n) || n == 0 {
		return at // More than its parts is wrong with it: a key is missing.
	}
	last := all[n*width-width]
	return l.line(all[n*width-1], last.Line)
}
