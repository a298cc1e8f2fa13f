// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// variant is labels to add to the rows of a target, and the steps at which they hold.
type variant struct {
	add       []addition // sorted by name
	conflicts []string   // labels for which two info metrics have different values, sorted
	steps     []vector.Kind
	all       bool // it holds at all steps
}

// addition is one label to add.
type addition struct {
	name  string
	value uint32
}

// holds is how the steps of a variant are marked: with all bits, so that a mask leaves a kind as it is.
const holds = vector.Kind(0xFF)

// variants returns those of a target.
func (e *enrichment) variants(t target) ([]*variant, error) {
	if err := e.env.Check(); err != nil {
		return nil, err
	}
	steps := e.Grid().N
	var all []*variant
	byChoice, byLabels := map[string]*variant{}, map[string]*variant{}
	var last *variant
	var lastChoice []byte
	choice := make([]byte, 0, 4*len(e.names[t]))
	for step := range steps {
		choice = e.choose(choice[:0], t, step)
		if step == 0 || string(choice) != string(lastChoice) {
			var ok bool
			lastChoice = append(lastChoice[:0], choice...)
			if last, ok = byChoice[string(choice)]; !ok {
				last = e.variant(choice, byLabels)
				byChoice[string(choice)] = last
				if last != nil && last.steps == nil {
					if err := e.charge(int64(steps)); err != nil {
						return nil, err
					}
					last.steps = make([]vector.Kind, steps)
					all = append(all, last)
				}
			}
		}
		if last != nil {
			last.steps[step] = holds
		}
	}
	for _, v := range all {
		v.all = !slices.Contains(v.steps, 0)
	}
	return all, nil
}

// choose appends the sources that count for a target at a step, each plus 1, by name of the info metric.
func (e *enrichment) choose(to []byte, t target, step int) []byte {
	for _, name := range e.names[t] {
		to = binary.LittleEndian.AppendUint32(to, uint32(e.newest(e.byKey[sourceKey{t, name}], step)+1))
	}
	return to
}

// variant returns what some sources add, nil if series have to have info and there is none.
func (e *enrichment) variant(choice []byte, byLabels map[string]*variant) *variant {
	v := &variant{}
	found := false
	for ; len(choice) > 0; choice = choice[4:] {
		i := binary.LittleEndian.Uint32(choice)
		if i == 0 {
			continue
		}
		found = true
		e.addLabels(v, e.sources[i-1])
	}
	if !found && !e.sel.optional {
		return nil
	}
	slices.SortFunc(v.add, func(a, b addition) int { return cmp.Compare(a.name, b.name) })
	slices.Sort(v.conflicts)
	var key []byte
	for _, a := range v.add {
		key = binary.LittleEndian.AppendUint32(append(append(key, a.name...), 0), a.value)
	}
	for _, name := range v.conflicts {
		key = append(append(key, 1), name...)
	}
	if was, ok := byLabels[string(key)]; ok {
		return was
	}
	byLabels[string(key)] = v
	return v
}

func (e *enrichment) addLabels(v *variant, s source) {
	t := s.of.Table()
	for c, name := range t.Names {
		value := t.Cols[c][s.row]
		if value == 0 || !e.sel.adds(name) {
			continue
		}
		i := slices.IndexFunc(v.add, func(a addition) bool { return a.name == name })
		switch {
		case i < 0:
			v.add = append(v.add, addition{name, value})
		case v.add[i].value != value && !slices.Contains(v.conflicts, name):
			v.conflicts = append(v.conflicts, name)
		}
	}
}

// value returns what a variant adds for a label, 0 for nothing.
func (v *variant) value(name string) uint32 {
	if v == nil {
		return 0
	}
	if i, ok := slices.BinarySearchFunc(v.add, name, func(a addition, n string) int { return cmp.Compare(a.name, n) }); ok {
		return v.add[i].value
	}
	return 0
}
