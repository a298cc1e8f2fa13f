// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Tally is the labels of some series of an index, counted one series after the other, to take statistics of: of those
// that a selector matches, or of an index of another program. Its memory, which the task pays for, is that of the
// distinct labels. It belongs to one goroutine.
type Tally struct {
	task   *budget.Task
	series int
	counts map[symbolPair]int
	at     []tallyRun // what the series before had at each position
	names  map[string][]tallied
}

var _ Countable = (*Tally)(nil)

// symbolPair is a label in the symbols of its index.
type symbolPair struct{ name, value uint32 }

// tallyRun is a label that the last n series had at one position. Neighbours share many.
type tallyRun struct {
	symbolPair

	n int
}

// tallied is a value and how many series have it.
type tallied struct {
	text   string
	series int
}

// tallyBytes is what a label takes: its entry of the map, which grows by being copied, its symbols twice while they are
// named, and its entry of the list.
const tallyBytes = 3*16 + 2*24 + 24

// NewTally returns a tally of nothing.
func NewTally(t *budget.Task) *Tally {
	return &Tally{task: t, counts: map[symbolPair]int{}, names: map[string][]tallied{}}
}

// Add counts a series by the symbols of its labels: name, value, name, value, …. It returns false where the task ends.
func (y *Tally) Add(pairs []uint32) bool {
	y.series++
	for len(y.at) < len(pairs)/2 {
		y.at = append(y.at, tallyRun{})
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		run, p := &y.at[i/2], symbolPair{pairs[i], pairs[i+1]}
		if run.symbolPair == p && run.n > 0 {
			run.n++
			continue
		}
		if !y.end(run) {
			return false
		}
		run.symbolPair, run.n = p, 1
	}
	return true
}

// end counts a run that is over.
func (y *Tally) end(run *tallyRun) bool {
	if run.n == 0 {
		return true
	}
	had := len(y.counts)
	y.counts[run.symbolPair] += run.n
	run.n = 0
	return len(y.counts) == had || y.task.Reserve(tallyBytes)
}

// Name ends the counting: texts appends the texts of symbols, all of which must be those of the series that were added.
func (y *Tally) Name(texts func(syms []uint32, dst []string) []string) error {
	for i := range y.at {
		y.end(&y.at[i])
	}
	pairs := slices.SortedFunc(maps.Keys(y.counts), func(a, b symbolPair) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.value, b.value))
	})
	var syms []uint32
	var run []string
	for len(pairs) > 0 && y.task.Err() == nil {
		n := 0
		for n < len(pairs) && pairs[n].name == pairs[0].name {
			n++
		}
		name := strings.Clone(texts([]uint32{pairs[0].name}, nil)[0])
		list := make([]tallied, 0, n)
		for from, to := 0, y.task.Run(0, n); from < to; from, to = to, y.task.Run(to, n) {
			syms, bytes := syms[:0], 0
			for _, p := range pairs[from:to] {
				syms = append(syms, p.value)
			}
			run = texts(syms, run[:0])
			for i, text := range run {
				list = append(list, tallied{text, y.counts[pairs[from+i]]})
				bytes += len(text)
			}
			y.task.Reserve(int64(bytes))
		}
		slices.SortFunc(list, func(a, b tallied) int { return strings.Compare(a.text, b.text) })
		y.names[name] = list
		pairs = pairs[n:]
	}
	y.counts, y.at = nil, nil
	return y.task.Err()
}

func (y *Tally) extent() (series int, bytes int64) { return y.series, 0 }

func (y *Tally) namesInOrder() []string { return slices.Sorted(maps.Keys(y.names)) }

func (y *Tally) countValues(_ *budget.Task, name string) valueCursor {
	list, ok := y.names[name]
	if !ok {
		return nil
	}
	return &tallyCursor{list: list, at: -1}
}

// tallyCursor goes through the values of one label.
type tallyCursor struct {
	list []tallied
	at   int
}

func (c *tallyCursor) next() bool {
	c.at++
	return c.at < len(c.list)
}

func (c *tallyCursor) value() (text string, series int) {
	return c.list[c.at].text, c.list[c.at].series
}
