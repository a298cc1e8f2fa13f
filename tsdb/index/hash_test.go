// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// testSeed is the seed of the tests: one is as good as any other.
var testSeed = NewSeed()

func hashesOf(t failer, r *Reader, s Seed) []Hash128 {
	t.Helper()
	task := budget.NewTask(context.Background(), nil)
	hashes := r.Hashes(task, s, readerView{r}.all(task), nil)
	if err := task.Err(); err != nil || len(hashes) != r.N() {
		t.Fatalf("%d hashes of %d series, %v", len(hashes), r.N(), err)
	}
	return hashes
}

func TestHashesDifferByLabelsAndSeed(t *testing.T) {
	from := labels.FromStrings
	sets := []labels.Labels{
		labels.EmptyLabels(), from("a", "x"), from("a", "y"), from("b", "x"), from("ax", "x"), from("a", "xx"), from("a", "x", "b", "y"),
		from("a", "y", "b", "x"), from("a", "x", "b", "x"),
	}
	seen := map[Hash128]labels.Labels{}
	one, other := NewSeed(), NewSeed()
	for _, ls := range sets {
		h := one.Labels(ls)
		if before, ok := seen[h]; ok {
			t.Errorf("%s and %s have the hash %x", before, ls, h)
		}
		seen[h] = ls
		if again := one.Labels(ls); again != h {
			t.Errorf("%s has the hashes %x and %x", ls, h, again)
		}
		if ls.Len() > 0 && (other.Labels(ls).Hi == h.Hi || other.Labels(ls).Lo == h.Lo) {
			t.Errorf("%s has half of a hash for two seeds", ls)
		}
	}
}

func TestHashesOfSomeSeriesAreThoseOfEach(t *testing.T) {
	series := sortedFleet(2000)
	r, _ := build(t, series)
	for step := 1; step < 40; step += 3 {
		var ids []uint32
		var want []Hash128
		for id := step - 1; id < len(series); id += step {
			ids, want = append(ids, uint32(id)), append(want, testSeed.Labels(series[id]))
		}
		if got := r.Hashes(budget.NewTask(t.Context(), nil), testSeed, ids, nil); !slices.Equal(got, want) {
			t.Fatalf("every %d. series has other hashes", step)
		}
	}
}

// Without memory for a table the hashes are the same, and a seed that the table is not for gets its own.
func TestHashesNeedNoTable(t *testing.T) {
	series := sortedFleet(500)
	r, _ := build(t, series)
	account := budget.NewRoot("hashes", 1)
	r.ChargeTo(account)
	checkSeries(t, r, series)
	if r.hashes.Load() != nil || account.Used() != 0 {
		t.Errorf("a table is kept in %d bytes of 1", account.Used())
	}
	r, _ = build(t, series)
	account = budget.NewRoot("hashes", 1<<20)
	r.ChargeTo(account)
	checkSeries(t, r, series)
	if r.hashes.Load() == nil || account.Used() < pairHashBytes*int64(len(r.lists)) {
		t.Errorf("no table is kept, or not charged: %d bytes", account.Used())
	}
	other := NewSeed()
	for i, h := range hashesOf(t, r, other) {
		if h != other.Labels(series[i]) {
			t.Fatalf("series %d has the hash of another seed", i)
		}
	}
	if r.Release(); account.Used() != 0 || r.hashes.Load() != nil {
		t.Errorf("%d bytes are charged after the release", account.Used())
	}
}

func TestHashesEndWithTheContext(t *testing.T) {
	r, _ := build(t, sortedFleet(20_000))
	account := budget.NewRoot("hashes", 0)
	r.ChargeTo(account)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	task := budget.NewTask(ctx, nil)
	if got := r.Hashes(task, testSeed, []uint32{1, 2, 3}, nil); len(got) > 0 || !errors.Is(task.Err(), context.Canceled) || account.Used() != 0 {
		t.Errorf("%d hashes, %v, %d bytes kept", len(got), task.Err(), account.Used())
	}
}

// version1 makes an index one of version 1, which it is where no list is a reference.
func version1(raw []byte, series int) []byte {
	raw = append(slices.Clone(raw), make([]byte, 16*series)...)
	binary.LittleEndian.PutUint32(raw, 1)
	return raw
}

// What version 1 has behind the rest, a hash for each series, is passed over.
func TestReaderReadsVersion1(t *testing.T) {
	var series []labels.Labels
	for i := range 100 {
		series = append(series, labels.FromStrings("a", fmt.Sprintf("%03d", i)))
	}
	_, raw := build(t, series) // nothing in it is of version 2 alone
	raw = version1(raw, len(series))
	r, err := OpenReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	checkSeries(t, r, series)
	checkCorners(t, r, modelOf(series))
	if _, err := OpenReader(raw[:len(raw)-1]); err == nil {
		t.Error("a hash that is cut short is not seen")
	}
}
