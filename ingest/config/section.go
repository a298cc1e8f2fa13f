// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// sectionKey is our one key in the main file.
const sectionKey = "tidemark"

// document is a main file taken apart.
type document struct {
	file    string
	root    *yaml.Node // the root mapping; nil: the file is empty, or YAML only to Prometheus' library
	section *yaml.Node // the value of our key; nil: the file has none
	rest    []byte     // the text for Prometheus' loader, with every line where it was
	more    bool       // whether other documents follow
	syntax  error      // why root is nil, if the text could not be parsed
}

// split finds our section in the text of a main file and makes comments of its lines.
func split(file string, text []byte) (*document, error) {
	doc := &document{file: file, rest: text}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var node yaml.Node
	if err := dec.Decode(&node); err != nil {
		if !errors.Is(err, io.EOF) {
			doc.syntax = err // the loader's own error, if it has one, is what users know; see loaderError
		}
		return doc, nil
	}
	doc.more = hasMore(dec)
	root := resolve(node.Content[0])
	if root.Kind != yaml.MappingNode {
		return doc, nil
	}
	doc.root = root
	at, err := findSection(file, root)
	if err != nil || at < 0 {
		return doc, err
	}
	doc.section = root.Content[at+1]
	if err := checkAnchors(file, root, at); err != nil {
		return nil, err
	}
	if root.Style&yaml.FlowStyle != 0 {
		doc.rest = blankFlow(text, root, at)
	} else {
		doc.rest = blankBlock(text, root, at)
	}
	if !separated(doc.rest, root, at) {
		return nil, &Error{
			File: file, Line: root.Content[at].Line,
			Msg: "the tidemark section cannot be told from what surrounds it: start it on a line of its own, at the end of the file, or move it into --tidemark.config.file",
		}
	}
	return doc, nil
}

// hasMore reports whether a document follows that holds anything. One that cannot be parsed holds something.
func hasMore(dec *yaml.Decoder) bool {
	for {
		var next yaml.Node
		err := dec.Decode(&next)
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		if !isNull(next.Content[0]) {
			return true
		}
	}
}

// findSection returns the position of our key among the root's, -1 if it is not there.
func findSection(file string, root *yaml.Node) (int, error) {
	at := -1
	for i := 0; i < len(root.Content); i += 2 {
		key := root.Content[i]
		if key.Kind != yaml.ScalarNode || key.Value != sectionKey {
			continue
		}
		if at >= 0 {
			return 0, &Error{File: file, Line: key.Line, Msg: fmt.Sprintf("tidemark is set twice, first in line %d: join the two", root.Content[at].Line)}
		}
		at = i
	}
	return at, nil
}

// checkAnchors refuses anchors that are defined in our section and used outside: they would be gone with it.
func checkAnchors(file string, root *yaml.Node, at int) error {
	inside := map[*yaml.Node]bool{}
	walk(root.Content[at+1], func(n *yaml.Node) { inside[n] = true })
	inside[root.Content[at]] = true
	var bad *yaml.Node
	for i, n := range root.Content {
		if i == at || i == at+1 {
			continue
		}
		walk(n, func(n *yaml.Node) {
			if bad == nil && n.Kind == yaml.AliasNode && inside[n.Alias] {
				bad = n
			}
		})
	}
	if bad == nil {
		return nil
	}
	return &Error{
		File: file, Line: bad.Line,
		Msg: fmt.Sprintf("the anchor %s is defined inside the tidemark section and used outside: define it outside", bad.Value),
	}
}

// walk visits n and what is below it, aliases unresolved.
func walk(n *yaml.Node, f func(*yaml.Node)) {
	f(n)
	for _, c := range n.Content {
		walk(c, f)
	}
}

// blankBlock turns the lines of the pair at position at into comments. Comments rather than empty lines, because
// an empty line belongs to a literal block before it.
func blankBlock(text []byte, root *yaml.Node, at int) []byte {
	first, last := root.Content[at].Line, 1<<30
	if at+2 < len(root.Content) {
		last = root.Content[at+2].Line - 1
	}
	var out []byte
	number := 0
	for line := range lines(text) {
		number++
		body := bytes.TrimRight(line, "\r\n")
		if number > first && isDocumentMarker(body) {
			last = min(last, number-1)
		}
		if number < first || number > last {
			out = append(out, line...)
			continue
		}
		out = append(out, '#')
		out = append(out, line[len(body):]...)
	}
	return out
}

// lines yields text line by line, line ends included, as YAML counts them: a lone carriage return ends one too.
func lines(text []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			n := bytes.IndexAny(text, "\r\n") + 1
			switch {
			case n == 0:
				n = len(text)
			case text[n-1] == '\r' && n < len(text) && text[n] == '\n':
				n++
			}
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

func isDocumentMarker(line []byte) bool {
	for _, marker := range []string{"---", "..."} {
		rest, ok := bytes.CutPrefix(line, []byte(marker))
		if ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t') {
			return true
		}
	}
	return false
}

// blankFlow overwrites the pair at position at of a root in flow style with spaces, line ends kept: up to the next
// key, or, for the last pair, up to the brace that closes the root.
func blankFlow(text []byte, root *yaml.Node, at int) []byte {
	out := bytes.Clone(text)
	start := offset(text, root.Content[at])
	end := bytes.LastIndexByte(text, '}')
	if at+2 < len(root.Content) {
		end = offset(text, root.Content[at+2])
	}
	for i := start; i < end; i++ {
		if out[i] != '\n' && out[i] != '\r' {
			out[i] = ' '
		}
	}
	return out
}

// offset returns where in text the node starts; nodes count columns in characters.
func offset(text []byte, n *yaml.Node) int {
	pos, number := 0, 0
	for line := range lines(text) {
		if number++; number < n.Line {
			pos += len(line)
			continue
		}
		for range n.Column - 1 {
			if pos >= len(text) {
				break
			}
			_, size := utf8.DecodeRune(text[pos:])
			pos += size
		}
		break
	}
	return pos
}

// separated reports whether rest parses to exactly what the root holds beside the pair at position at.
func separated(rest []byte, root *yaml.Node, at int) bool {
	var node yaml.Node
	err := yaml.Unmarshal(rest, &node)
	want := slices.Delete(slices.Clone(root.Content), at, at+2)
	if err != nil {
		return false
	}
	if len(node.Content) == 0 || isNull(node.Content[0]) {
		return len(want) == 0
	}
	return equalNodes(node.Content[0], &yaml.Node{Kind: root.Kind, Tag: root.Tag, Anchor: root.Anchor, Content: want}, 0)
}

// equalNodes compares meaning and lines, not style and comments.
func equalNodes(a, b *yaml.Node, depth int) bool {
	if a.Kind != b.Kind || a.Tag != b.Tag || a.Value != b.Value || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	if depth > 0 && a.Line != b.Line {
		return false
	}
	for i := range a.Content {
		if !equalNodes(a.Content[i], b.Content[i], depth+1) {
			return false
		}
	}
	return true
}

// loaderError gives an error of Prometheus' loader its file and line.
func (d *document) loaderError(err error) error {
	if d.syntax != nil {
		err = d.syntax
	}
	e := fromYAML(d.file, err)
	if e.Line == 0 {
		e.Line = locate(d.rest, err)
	}
	return e
}

// parseSettingsFile reads a file that holds our settings without the outer key.
func parseSettingsFile(file string) (*yaml.Node, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the tidemark configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var node yaml.Node
	if err := dec.Decode(&node); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, fromYAML(file, err)
	}
	if hasMore(dec) {
		return nil, &Error{File: file, Msg: "the file has more than one YAML document: keep one"}
	}
	root := resolve(node.Content[0])
	if root.Kind == yaml.MappingNode && len(root.Content) == 2 && root.Content[0].Value == sectionKey {
		return nil, &Error{File: file, Line: root.Line, Msg: "in a file of their own the settings stand without the outer key tidemark: remove it and move its keys to the left"}
	}
	return root, nil
}

// lineOf returns the line of a key of the root, 0 if it has none.
func lineOf(root *yaml.Node, key string) int {
	if root == nil {
		return 0
	}
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == key {
			return root.Content[i].Line
		}
	}
	return 0
}
