// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// counted is a context that counts how often it is looked at: once in some thousand items of work.
type counted struct {
	context.Context
	looks int
}

func (c *counted) Err() error {
	c.looks++
	return c.Context.Err()
}

// session returns the i-th of labels whose values come in no order.
func session(i int) labels.Labels {
	return labels.FromStrings("job", "x", "session", fmt.Sprintf("%08x", uint32(mix(uint64(i)))))
}

func TestALimitBoundsTheWorkOfListingValues(t *testing.T) {
	const n = 200_000
	h := newHead()
	var all []string
	for i := range n {
		h.add(t, uint32(i), session(i))
		all = append(all, session(i).Get("session"))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	check := func(limit, atLeast, atMost int) {
		t.Helper()
		ctx := &counted{Context: t.Context()}
		got, err := h.mem.LabelValues(budget.NewTask(ctx, nil), "session", nil, limit)
		if want := firstOf(all, limit); err != nil || !slices.Equal(got, want) {
			t.Errorf("limit %d: %d values, %v, want %d", limit, len(got), err, len(want))
		}
		if ctx.looks < atLeast || ctx.looks > atMost {
			t.Errorf("limit %d: %d looks at the context, want %d to %d", limit, ctx.looks, atLeast, atMost)
		}
	}
	check(10, 1, 2)
	if info := h.mem.nameLocked("session"); info.table != nil {
		t.Error("a few values have had all of them sorted")
	}
	check(1000, 1, 4)
	check(0, n/(1<<13), n) // all are looked at
	check(10, 1, 2)
	check(0, n/(1<<13), 2*n/(1<<13)+2) // nothing is sorted again
}

// Values come and go between questions for few and for all of them; every answer is that of the model, and in the end
// all memory is given back.
func TestValuesOfManySeriesComeAndGo(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	h, twin := newHead(), newHead() // nobody asks the twin
	live := map[uint32]string{}
	next := 0
	remove := func(share float64) {
		var gone []uint32
		for _, id := range slices.Sorted(maps.Keys(live)) {
			if random.Float64() < share {
				gone = append(gone, id)
				delete(live, id)
			}
		}
		h.remove(gone)
		twin.remove(gone)
	}
	for range 25 {
		for range random.IntN(3000) {
			ls := session(next % 9000) // some come back
			h.add(t, uint32(next), ls)
			twin.add(t, uint32(next), ls)
			live[uint32(next)] = ls.Get("session")
			next++
		}
		if random.IntN(3) == 0 {
			remove(random.Float64())
		}
		want := slices.Compact(slices.Sorted(maps.Values(live)))
		limit := []int{0, 1, 10, 3000, 5000}[random.IntN(5)]
		got, err := h.mem.LabelValues(budget.NewTask(t.Context(), nil), "session", nil, limit)
		if err != nil || !slices.Equal(got, firstOf(want, limit)) {
			t.Fatalf("limit %d of %d: %d values, %v", limit, len(want), len(got), err)
		}
		if random.IntN(2) == 0 {
			ids, err := h.mem.Select(budget.NewTask(t.Context(), nil), []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "session", ".*[0-3]")})
			n := 0
			for _, value := range live {
				if c := value[len(value)-1]; c >= '0' && c <= '3' {
					n++
				}
			}
			if err != nil || len(ids) != n {
				t.Fatalf("%d series match, %v, want %d", len(ids), err, n)
			}
		}
	}
	remove(2)
	if got, want := h.mem.Bytes(), twin.mem.Bytes(); got != want || h.mem.Len() != 0 {
		t.Errorf("%d series, %d bytes are in use, %d where nobody asked", h.mem.Len(), got, want)
	}
}
