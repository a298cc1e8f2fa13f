// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Pass is a rewriting of plans that changes no answer.
type Pass struct {
	// Name is what switches and explanations call it.
	Name string
	// Does says in a sentence what it is good for.
	Does string
	// apply rewrites the plan and returns why it did not, if there is a reason beyond that nothing fitted.
	apply func(*Plan) (skipped string)
}

// Passes returns all passes in the order in which they are applied.
func Passes() []Pass {
	return []Pass{
		foldConstants(), canonicalMatchers(), propagateMatchers(), shareSubexpressions(), feedSubsets(), joinAggregations(),
		narrowJoins(),
	}
}

// Switches turn passes off by name. The zero value leaves all on.
type Switches struct{ off []string }

// Without returns s with passes turned off; "all" is all of them. An unknown name is an error.
func (s Switches) Without(names ...string) (Switches, error) {
	off := slices.Clone(s.off)
	for _, name := range names {
		known := name == "all"
		for _, p := range Passes() {
			known = known || p.Name == name
			if p.Name == name || name == "all" {
				off = append(off, p.Name)
			}
		}
		if !known {
			return s, fmt.Errorf("unknown pass %q, known are: %s", name, strings.Join(passNames(Passes()), ", "))
		}
	}
	slices.Sort(off)
	return Switches{slices.Compact(off)}, nil
}

// On tells whether a pass is applied.
func (s Switches) On(name string) bool { return !slices.Contains(s.off, name) }

func passNames(passes []Pass) []string {
	names := make([]string, len(passes))
	for i, p := range passes {
		names[i] = p.Name
	}
	return names
}

// Step is what a pass did to a plan.
type Step struct {
	Pass string `json:"pass"`
	// Skipped is why it was not applied, if it was not.
	Skipped string `json:"skipped,omitempty"`
	// Before and After are the plan, both empty where it stayed as it was or nobody asked.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// rewrite applies the passes that are on.
func (p *Plan) rewrite() {
	for _, pass := range Passes() {
		step := Step{Pass: pass.Name}
		if !p.opts.Switches.On(pass.Name) {
			step.Skipped = "switched off"
			p.Log = append(p.Log, step)
			continue
		}
		before := p.text()
		step.Skipped = pass.apply(p)
		if after := p.text(); after != before {
			step.Before, step.After = before, after
		}
		p.Log = append(p.Log, step)
	}
}

// text is the plan in words where somebody will read them, which is rare.
func (p *Plan) text() string {
	if !p.opts.Explain {
		return ""
	}
	return p.Root.String()
}
