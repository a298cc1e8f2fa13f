// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Series that grow differently, some of which leave, scatter streams and labels. Gather brings what the head takes near
// to what its blocks do, and changes no answer, that of an older pin neither.
func TestGatherGivesMemoryBackAndChangesNoAnswer(t *testing.T) {
	const series = 6000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	account := budget.NewRoot("head", 0)
	x := newBench(t, Options{Shards: 2, SlotMillis: 1 << 40, Account: account})
	var refs []sample.Ref
	want := map[sample.Ref]*strings.Builder{}
	for i := range series {
		ref := x.series(labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprint(i)))
		refs, want[ref] = append(refs, ref), &strings.Builder{}
	}
	tm := int64(0)
	add := func(rows int, of func(i int) bool) {
		for range rows {
			tm += 15_000
			var b sample.Batch
			for i, ref := range refs {
				if of(i) {
					v := float64(rng.IntN(1 << 20))
					b.AppendFloat(ref, 0, tm, v, 0)
					fmt.Fprintf(want[ref], " %d=%g", tm, v)
				}
			}
			x.commit(&b, allTimes)
		}
	}
	add(5, func(int) bool { return true })
	x.h.Seal(0, 1)
	add(5, func(i int) bool { return i%6 > 0 })
	x.h.Seal(1, 1)
	add(12, func(i int) bool { return i%6 > 0 && i%10 > 0 })
	old := x.pin()
	before := map[sample.Ref]string{}
	for ref, rows := range want {
		before[ref] = rows.String()
	}
	add(10, func(i int) bool { return i%6 > 0 && i%10 > 0 && i%4 > 0 })
	var leave []sample.Ref
	for i, ref := range refs {
		if i%5 > 0 {
			leave = append(leave, ref)
			delete(want, ref)
		}
	}
	x.lsn++
	x.h.Free(leave, x.lsn)
	check := func(p *Pin, want map[sample.Ref]string) {
		t.Helper()
		for ref, rows := range want {
			x.want(p, ref, strings.TrimPrefix(rows, " "))
		}
	}
	gather := func(what string) {
		t.Helper()
		for range 4 { // moves what lies scattered, sees that nobody wants what became free, and gives it back
			x.h.Gather()
		}
		for i, s := range x.h.shards {
			if st := s.bytes.Stats(); st.Committed-st.InUse > st.InUse/gatherShare+s.versions.bytes()+4*keepIdle {
				t.Errorf("%s: shard %d takes %d bytes for %d", what, i, st.Committed, st.InUse)
			}
		}
		if used, stats := account.Used(), x.h.Stats(); used < stats.Bytes {
			t.Errorf("%s: %d bytes are charged, %d taken", what, used, stats.Bytes)
		}
	}
	gather("with a pin")
	check(old, before)
	old.Close()
	x.h.Reclaim()
	gather("after it")
	after := map[sample.Ref]string{}
	for ref, rows := range want {
		after[ref] = rows.String()
	}
	p := x.pin()
	defer p.Close()
	check(p, after)
	st := x.h.dir.bytes.Stats()
	if st.Committed-st.InUse > st.InUse/gatherShare+1<<20 {
		t.Errorf("labels take %d bytes for %d", st.Committed, st.InUse)
	}
	for i, ref := range refs {
		if _, ok := want[ref]; ok {
			ls := labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprint(i))
			if got, ok := x.h.Lookup(ls); !ok || got != ref {
				t.Fatalf("series %d is not found by its labels", i)
			}
		}
	}
}
