// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// decoder fills Settings from YAML nodes. yaml.v3 decodes nodes only leniently, and without the line of a bad
// leaf; the decoder walks structs itself, so that an unknown key or a bad value has its path and its line.
type decoder struct {
	file  string
	lines map[string]int // of every key that was set, by path, such as series_limits[0].max
	inert []string       // keys that were set and do not act, each once
}

// maxDepth bounds the nesting of nodes, whose aliases could otherwise make it endless.
const maxDepth = 32

func (d *decoder) decodeRoot(n *yaml.Node, s *Settings) error {
	if n == nil {
		return nil
	}
	return d.decodeStruct(n, reflect.ValueOf(s).Elem(), "", 0)
}

func (d *decoder) errorf(line int, format string, args ...any) error {
	return &Error{File: d.file, Line: line, Msg: fmt.Sprintf(format, args...)}
}

func (d *decoder) decodeStruct(n *yaml.Node, dst reflect.Value, path string, depth int) error {
	n = resolve(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return d.errorf(n.Line, "%s is not a mapping of keys to values", display(path))
	}
	if depth > maxDepth {
		return d.errorf(n.Line, "%s is nested too deep", display(path))
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			if err := d.decodeMerge(n.Content[i+1], dst, path, depth+1); err != nil {
				return err
			}
		}
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if isMerge(key) {
			continue
		}
		if line, ok := seen[key.Value]; ok {
			return d.errorf(key.Line, "key %s is set twice, first in line %d", display(join(path, key.Value)), line)
		}
		seen[key.Value] = key.Line
		field, ok := fieldOf(dst.Type(), key.Value)
		if !ok {
			return d.errorf(key.Line, "unknown key %s: the keys here are %s", display(join(path, key.Value)), strings.Join(keysOf(dst.Type()), ", "))
		}
		p := join(path, key.Value)
		d.lines[p] = key.Line
		if err := d.decodeField(value, dst.FieldByIndex(field.Index), fieldAt{field, p, depth + 1}); err != nil {
			return err
		}
	}
	return nil
}

// decodeMerge applies the mapping, or the list of mappings, behind a merge key.
func (d *decoder) decodeMerge(n *yaml.Node, dst reflect.Value, path string, depth int) error {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		return d.decodeStruct(n, dst, path, depth)
	}
	for _, m := range slices.Backward(n.Content) { // the first mapping wins
		if err := d.decodeStruct(m, dst, path, depth); err != nil {
			return err
		}
	}
	return nil
}

// fieldAt is a field of a settings struct and where in the document it is.
type fieldAt struct {
	reflect.StructField
	path  string
	depth int
}

func (d *decoder) decodeField(n *yaml.Node, dst reflect.Value, f fieldAt) error {
	n = resolve(n)
	if isNull(n) {
		return nil
	}
	isText := reflect.PointerTo(dst.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch {
	case dst.Kind() == reflect.Struct && !isText:
		return d.decodeStruct(n, dst, f.path, f.depth)
	case dst.Kind() == reflect.Slice && dst.Type().Elem().Kind() == reflect.Struct:
		if err := d.decodeList(n, dst, f); err != nil {
			return err
		}
	case isText:
		if n.Kind != yaml.ScalarNode {
			return d.errorf(n.Line, "%s is not a single value", f.path)
		}
		if err := dst.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			return d.errorf(n.Line, "%s: %v", f.path, err)
		}
	default:
		if err := n.Decode(dst.Addr().Interface()); err != nil {
			e := fromYAML(d.file, err)
			e.Line, e.Msg = n.Line, f.path+": "+e.Msg
			return e
		}
	}
	if err := d.checkWords(n, dst, f); err != nil {
		return err
	}
	d.noteInert(dst, f)
	return nil
}

func (d *decoder) decodeList(n *yaml.Node, dst reflect.Value, f fieldAt) error {
	if n.Kind != yaml.SequenceNode {
		return d.errorf(n.Line, "%s is not a list", f.path)
	}
	list := reflect.MakeSlice(dst.Type(), len(n.Content), len(n.Content))
	for i, elem := range n.Content {
		if x, ok := reflect.TypeAssert[interface{ setDefaults() }](list.Index(i).Addr()); ok {
			x.setDefaults()
		}
		p := fmt.Sprintf("%s[%d]", f.path, i)
		d.lines[p] = elem.Line
		if isNull(resolve(elem)) {
			return d.errorf(elem.Line, "%s is empty", p)
		}
		if err := d.decodeStruct(elem, list.Index(i), p, f.depth); err != nil {
			return err
		}
	}
	dst.Set(list)
	return nil
}

// checkWords checks the value, or each value of a list, against the words of the field's oneof tag.
func (d *decoder) checkWords(n *yaml.Node, dst reflect.Value, f fieldAt) error {
	words := strings.Fields(f.Tag.Get("oneof"))
	if len(words) == 0 {
		return nil
	}
	values := []string{}
	if dst.Kind() == reflect.String {
		values = append(values, dst.String())
	} else {
		values = append(values, dst.Interface().([]string)...)
	}
	for _, v := range values {
		if !slices.Contains(words, v) {
			return d.errorf(n.Line, "%s: %q is not one of %s", f.path, v, strings.Join(words, ", "))
		}
	}
	return nil
}

func (d *decoder) noteInert(dst reflect.Value, f fieldAt) {
	acts := f.Tag.Get("acts")
	only, conditional := strings.CutPrefix(acts, "only ")
	if acts != "no" && (!conditional || dst.String() == only) {
		return
	}
	if !slices.Contains(d.inert, f.path) {
		d.inert = append(d.inert, f.path)
	}
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(t) {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool  { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
func isMerge(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!merge" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func display(path string) string {
	if path == "" {
		return "the tidemark section"
	}
	return path
}
