// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package compact decides which blocks of a store are merged into one, and which are written anew. It reads no block
// and writes none: Plan is a function of what is known about the blocks.
//
// The nouns:
//
//	range   a length of time to which blocks are merged: the slot of the store, twelve slots, eighty-four
//	window  one stretch of a range, which begins at a multiple of it
//	class   what the samples of a block have in common beside their time: the policy by which they expire. Blocks of
//	        two classes are never merged
//	job     blocks that become one block for each class of their series
//
// # What is merged when
//
// The blocks of a window are merged when the window is over. A window is over when no slot in it gets samples in order
// any more. Late samples come in small blocks beside a large one, which must not be written again for each of them: a
// block waits until what it is merged with has a quarter of its size, or has waited for Options.Rest. Small blocks that
// wait are merged with each other when there are four.
//
// # Which sample counts
//
// Where two blocks have a sample of one series at one time, that of the lower LSN counts. A merged block has the highest
// LSN of its parts. So a job must not leave out a block that overlaps with one of its parts and whose LSN lies between
// that part's and the job's; such a job is not planned.
//
// # Cost
//
// Every sample is written once for each range, four times with the slots cut from the head. Planning costs some
// comparisons for every pair of blocks that overlap.
package compact

import (
	"cmp"
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Block is what planning knows of a block. Times are Unix milliseconds.
type Block struct {
	ID         string
	MinT, MaxT int64 // of its samples, both inclusive
	LSN        sample.LSN
	Class      string
	Span       int64 // the longest range that blocks of the class are merged to
	Bytes      int64
	Age        int64 // ms since the block was written
	// Held blocks are part of no job: they cannot be read, or the log still needs them as they are.
	Held bool
	// Stale blocks are written anew even without another block to merge with, because of what they hold that they should
	// not.
	Stale bool
}

// Options are what Plan goes by.
type Options struct {
	// Ranges are the ranges, ascending, each a multiple of the one before; the first is the slot.
	Ranges []int64
	// Edge is the time before which windows are over.
	Edge int64
	// Rest is how long a small block waits for others, in ms.
	Rest int64
}

// Job names blocks that are to become one block of each class.
type Job struct {
	Inputs []string
	// MinT and MaxT are the times of the first and the last sample of them.
	MinT, MaxT int64
	Bytes      int64
	// Rewrite: there is one input.
	Rewrite bool
}

const (
	// waitFactor is how many times as large as all the others together a block may be that is merged with them at once.
	waitFactor = 4
	// waitBlocks is how many small blocks that wait for a large one are merged with each other.
	waitBlocks = 4
)

// Ranges returns the ranges of a store with this slot up to longest, which is at least the slot.
func Ranges(slot, longest int64) []int64 {
	out := []int64{slot}
	for _, n := range []int64{12, 84} {
		if slot <= math.MaxInt64/n && slot*n <= longest {
			out = append(out, slot*n)
		}
	}
	return out
}

// Plan returns what is to be done now, the most urgent first. No block is in two jobs.
func Plan(blocks []Block, o Options) []Job {
	p := planner{opts: o, blocks: slices.Clone(blocks), taken: make([]bool, len(blocks))}
	slices.SortFunc(p.blocks, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.MinT, b.MinT), cmp.Compare(a.LSN, b.LSN), cmp.Compare(a.ID, b.ID))
	})
	classes := p.classes()
	for _, r := range o.Ranges {
		for _, c := range classes {
			p.windows(c, r)
		}
	}
	for _, c := range classes {
		p.overlaps(c)
	}
	p.rewrites()
	return p.jobs
}

type planner struct {
	opts   Options
	blocks []Block // by class, then time
	taken  []bool
	jobs   []Job
}

// class is the blocks [from, to).
type class struct{ from, to int }

func (p *planner) classes() []class {
	var out []class
	for i := range p.blocks {
		if i == 0 || p.blocks[i].Class != p.blocks[i-1].Class {
			out = append(out, class{i, i})
		}
		out[len(out)-1].to = i + 1
	}
	return out
}

// free reports whether a block may become part of a job.
func (p *planner) free(i int) bool { return !p.taken[i] && !p.blocks[i].Held }

// window returns the start of the window of a range that holds a block, not ok where none does.
func window(b *Block, r int64) (start int64, ok bool) {
	start = floor(b.MinT, r)
	return start, start == floor(b.MaxT, r)
}

// floor returns the largest multiple of unit that is not above t, but for the first that there are.
func floor(t, unit int64) int64 {
	if t < math.MinInt64+unit {
		return math.MinInt64
	}
	return t - ((t%unit)+unit)%unit
}

// over reports whether the window of a range that begins at start is over.
func (p *planner) over(start, r int64) bool {
	return start <= math.MaxInt64-r && start+r <= p.opts.Edge
}

// windows plans the windows of one range.
func (p *planner) windows(c class, r int64) {
	byWindow := map[int64][]int{}
	var starts []int64
	for i := c.from; i < c.to; i++ {
		b := &p.blocks[i]
		start, ok := window(b, r)
		if !ok || !p.free(i) || r > b.Span || !p.over(start, r) {
			continue
		}
		if len(byWindow[start]) == 0 {
			starts = append(starts, start)
		}
		byWindow[start] = append(byWindow[start], i)
	}
	slices.Sort(starts)
	for _, start := range starts {
		p.merge(c, byWindow[start])
	}
}

// merge plans the merge of blocks that belong together, or of the small ones among them, or nothing yet.
func (p *planner) merge(c class, members []int) {
	if len(members) < 2 {
		return
	}
	large := slices.MaxFunc(members, func(a, b int) int { return cmp.Compare(p.blocks[a].Bytes, p.blocks[b].Bytes) })
	rest := slices.DeleteFunc(slices.Clone(members), func(i int) bool { return i == large })
	bytes, age := int64(0), int64(0)
	for _, i := range rest {
		bytes += p.blocks[i].Bytes
		age = max(age, p.blocks[i].Age)
	}
	if p.blocks[large].Bytes/waitFactor <= bytes || age >= p.opts.Rest {
		p.add(c, members)
		return
	}
	if len(rest) >= waitBlocks {
		p.add(c, rest)
	}
}

// overlaps plans the blocks that overlap and that no window holds together.
func (p *planner) overlaps(c class) {
	var cluster []int
	end := int64(math.MinInt64)
	flush := func() {
		if len(cluster) > 1 && !p.fits(cluster) {
			p.merge(c, cluster)
		}
		cluster = nil
	}
	for i := c.from; i < c.to; i++ {
		b := &p.blocks[i]
		if !p.free(i) || b.MaxT >= p.opts.Edge {
			continue
		}
		if b.MinT > end {
			flush()
		}
		cluster = append(cluster, i)
		end = max(end, b.MaxT)
	}
	flush()
}

// fits reports whether a window holds all of the blocks, so that it is what they wait for.
func (p *planner) fits(members []int) bool {
	for _, r := range p.opts.Ranges {
		first, ok := window(&p.blocks[members[0]], r)
		for _, i := range members {
			start, inside := window(&p.blocks[i], r)
			ok = ok && inside && start == first && r <= p.blocks[i].Span
		}
		if ok {
			return true
		}
	}
	return false
}

// rewrites plans the stale blocks that no merge will take soon.
func (p *planner) rewrites() {
	for i := range p.blocks {
		b := &p.blocks[i]
		if !b.Stale || !p.free(i) || p.awaited(b) {
			continue
		}
		p.taken[i] = true
		p.jobs = append(p.jobs, Job{Inputs: []string{b.ID}, MinT: b.MinT, MaxT: b.MaxT, Bytes: b.Bytes, Rewrite: true})
	}
}

// awaited reports whether a block will be merged when a window is over that is not yet.
func (p *planner) awaited(b *Block) bool {
	for _, r := range p.opts.Ranges {
		if start, ok := window(b, r); ok && r <= b.Span && !p.over(start, r) {
			return true
		}
	}
	return false
}

// add plans a merge, unless it would change which of two samples counts.
func (p *planner) add(c class, members []int) {
	j := Job{MinT: math.MaxInt64, MaxT: math.MinInt64}
	lsn := sample.LSN(0)
	for _, i := range members {
		b := &p.blocks[i]
		j.Inputs = append(j.Inputs, b.ID)
		j.MinT, j.MaxT, j.Bytes = min(j.MinT, b.MinT), max(j.MaxT, b.MaxT), j.Bytes+b.Bytes
		lsn = max(lsn, b.LSN)
	}
	for x := c.from; x < c.to; x++ {
		b := &p.blocks[x]
		if b.MinT > j.MaxT {
			break // the others begin later still
		}
		if b.MaxT >= j.MinT && !slices.Contains(members, x) && p.between(b, members, lsn) {
			return
		}
	}
	for _, i := range members {
		p.taken[i] = true
	}
	p.jobs = append(p.jobs, j)
}

// between reports whether a block that is left out overlaps with a part over which the merged block, of this LSN, would
// not win, while the part does.
func (p *planner) between(x *Block, members []int, lsn sample.LSN) bool {
	for _, i := range members {
		b := &p.blocks[i]
		if x.MinT <= b.MaxT && b.MinT <= x.MaxT && b.LSN < x.LSN && x.LSN <= lsn {
			return true
		}
	}
	return false
}
