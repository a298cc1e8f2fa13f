// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package compact

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const slot = 100

// blk is a block of [from, to) with a size, written long ago.
func blk(id string, from, to int64, lsn sample.LSN, bytes int64) Block {
	return Block{ID: id, MinT: from, MaxT: to - 1, LSN: lsn, Span: 84 * slot, Bytes: bytes, Age: 10}
}

func TestPlanMergesWhatBelongsTogether(t *testing.T) {
	check := func(name string, blocks []Block, edge int64, want ...string) {
		t.Helper()
		var got []string
		for _, j := range Plan(blocks, Options{Ranges: Ranges(slot, 84*slot), Edge: edge, Rest: 1000}) {
			text := strings.Join(j.Inputs, "+")
			if j.Rewrite {
				text += " rewrite"
			}
			got = append(got, text)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	a, b, c := blk("a", 0, 100, 1, 50), blk("b", 100, 200, 2, 50), blk("c", 1100, 1200, 3, 50)
	check("a window that is not over waits", []Block{a, b, c}, 1199)
	check("a window that is over is merged", []Block{c, b, a}, 1200, "a+b+c")
	check("one block of a window stays, unless a longer window has more", []Block{a, blk("d", 1200, 1300, 4, 50)}, 2400)
	check("windows of the longest range", []Block{a, blk("d", 1200, 1300, 4, 50)}, 8400, "a+d")
	check("a second block of one slot is merged before the day is over", []Block{a, blk("e", 10, 20, 4, 20)}, 100, "a+e")
	check("a small block waits for others", []Block{a, blk("e", 10, 20, 4, 5)}, 100)
	old := blk("e", 10, 20, 4, 5)
	old.Age = 1000
	check("but not for ever", []Block{a, old}, 100, "a+e")
	check("four small ones are merged with each other", []Block{
		a, blk("e", 10, 20, 4, 1), blk("f", 11, 20, 5, 1), blk("g", 12, 20, 6, 1), blk("h", 13, 20, 7, 1),
	}, 100, "e+f+g+h")
	held := b
	held.Held = true
	check("a held block is left out", []Block{a, held, c}, 1200, "a+c")
	between := blk("x", 0, 200, 2, 50)
	between.Held = true
	check("not where it would begin to win over one that won over it", []Block{a, between, blk("e", 20, 80, 3, 50)}, 100)
	other := b
	other.Class = "debug"
	check("classes are kept apart", []Block{a, other, c}, 1200, "a+c")
	short := []Block{a, b, c}
	for i := range short {
		short[i].Span = slot
	}
	check("no block becomes longer than its class allows", short, 1200)
	check("overlapping blocks that no window holds are merged", []Block{blk("y", 0, 9000, 1, 50), blk("z", 8990, 9100, 2, 50)}, 20000, "y+z")
	stale := a
	stale.Stale = true
	check("a stale block waits for a merge that will come", []Block{stale}, 1200)
	check("and is written anew where none will", []Block{stale}, 8400, "a rewrite")
}

// A store that grows block by block, in order and late, with time going on: whatever comes, jobs keep what Plan promises,
// and when nothing comes any more they end, with at most one block of each class in each window that is over.
func TestPlanKeepsItsPromisesOverALongLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges := Ranges(slot, rapid.SampledFrom([]int64{slot, 12 * slot, 84 * slot}).Draw(t, "longest"))
		o := Options{Ranges: ranges, Rest: 5 * slot}
		spans := map[string]int64{"": ranges[len(ranges)-1], "short": slot, "mid": 12 * slot}
		var blocks []Block
		lsn, n, now := sample.LSN(0), 0, int64(0)
		add := func(from, to, bytes int64, class string) {
			lsn++
			n++
			blocks = append(blocks, Block{
				ID: fmt.Sprint(n), MinT: from, MaxT: to - 1, LSN: lsn, Class: class, Span: spans[class], Bytes: bytes,
			})
		}
		step := func() bool {
			jobs := Plan(blocks, o)
			checkJobs(t, blocks, jobs, o)
			if len(jobs) == 0 {
				return false
			}
			blocks = apply(blocks, jobs[0], &n)
			return true
		}
		for range rapid.IntRange(1, 60).Draw(t, "blocks") {
			class := rapid.SampledFrom([]string{"", "", "", "short", "mid"}).Draw(t, "class")
			if now > slot && rapid.IntRange(0, 3).Draw(t, "late") == 0 {
				from := floor(rapid.Int64Range(0, now-1).Draw(t, "from"), slot)
				add(from, from+rapid.Int64Range(1, slot).Draw(t, "length"), rapid.Int64Range(1, 20).Draw(t, "bytes"), class)
			} else {
				add(now, now+slot, 100, class)
				now += slot
			}
			o.Edge = now
			for i := range blocks {
				blocks[i].Age += slot
				blocks[i].Held = rapid.IntRange(0, 20).Draw(t, "held") == 0
			}
			for range rapid.IntRange(0, 3).Draw(t, "jobs") {
				step()
			}
		}
		o.Edge += 100 * ranges[len(ranges)-1]
		for i := range blocks {
			blocks[i].Age, blocks[i].Held = o.Rest, false
		}
		for i := 0; step(); i++ {
			if i > 1000 {
				t.Fatalf("it never ends: %v", blocks)
			}
			for k := range blocks {
				blocks[k].Age = o.Rest
			}
		}
		for i, a := range blocks {
			for _, b := range blocks[:i] {
				for _, r := range ranges {
					x, _ := window(&a, r)
					y, _ := window(&b, r)
					if x == y && a.Class == b.Class && r <= a.Span {
						t.Errorf("blocks %+v and %+v stay in one window of %d", a, b, r)
					}
				}
			}
		}
	})
}

func apply(blocks []Block, j Job, n *int) []Block {
	*n++
	out := Block{ID: fmt.Sprint(*n), MinT: j.MinT, MaxT: j.MaxT, Bytes: j.Bytes}
	return append(slices.DeleteFunc(slices.Clone(blocks), func(b Block) bool {
		if !slices.Contains(j.Inputs, b.ID) {
			return false
		}
		out.LSN, out.Class, out.Span = max(out.LSN, b.LSN), b.Class, b.Span
		return true
	}), out)
}

func checkJobs(t *rapid.T, blocks []Block, jobs []Job, o Options) {
	t.Helper()
	byID := map[string]Block{}
	for _, b := range blocks {
		byID[b.ID] = b
	}
	seen := map[string]bool{}
	for _, j := range jobs {
		var in []Block
		top := sample.LSN(0)
		for _, id := range j.Inputs {
			b, ok := byID[id]
			if !ok || seen[id] || b.Held {
				t.Errorf("job %v has block %s, which is unknown, taken or held", j, id)
			}
			seen[id] = true
			in = append(in, b)
			top = max(top, b.LSN)
		}
		if len(in) < 2 {
			t.Errorf("job %v merges nothing", j)
		}
		for _, b := range in {
			if b.Class != in[0].Class {
				t.Errorf("job %v merges two classes", j)
			}
			if j.MaxT-j.MinT >= b.Span {
				t.Errorf("job %v is longer than %d", j, b.Span)
			}
			if b.MaxT >= o.Edge {
				t.Errorf("job %v takes block %v before its window is over at %d", j, b, o.Edge)
			}
			for _, x := range blocks {
				inside := slices.Contains(j.Inputs, x.ID)
				if !inside && x.Class == b.Class && x.MinT <= b.MaxT && b.MinT <= x.MaxT && (b.LSN < x.LSN) != (top < x.LSN) {
					t.Errorf("job %v makes block %v win over %v", j, x, b)
				}
			}
		}
	}
}
