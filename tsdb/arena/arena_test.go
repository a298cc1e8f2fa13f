// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

// model is an arena beside a map of what must be in it.
type model struct {
	a     *arena.Arena
	acct  *budget.Account
	want  map[arena.Ref][]byte
	sizes map[arena.Ref]int
}

func newModel(limit int64) *model {
	acct := budget.NewRoot("arena", limit)
	return &model{
		a: arena.New(arena.Options{Account: acct}), acct: acct,
		want: make(map[arena.Ref][]byte), sizes: make(map[arena.Ref]int),
	}
}

// fatal is what *testing.T and *rapid.T have in common here.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// alloc takes a block, fills it and notes what is in it.
func (m *model) alloc(t fatal, size int, seed byte) arena.Ref {
	t.Helper()
	ref, err := m.a.Alloc(size)
	if err != nil {
		if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
			t.Fatalf("alloc of %d: %v", size, err)
		}
		return 0
	}
	if _, ok := m.want[ref]; ok || ref == 0 {
		t.Fatalf("block %d given out twice", ref)
	}
	b := m.a.Bytes(ref)
	if len(b) < size || cap(b) != len(b) {
		t.Fatalf("block of %d bytes has length %d, capacity %d", size, len(b), cap(b))
	}
	pattern := make([]byte, 251)
	for i := range pattern {
		pattern[i] = seed + byte(i)
	}
	for n := 0; n < len(b); {
		n += copy(b[n:], pattern)
	}
	m.want[ref], m.sizes[ref] = slices.Clone(b), size
	return ref
}

func (m *model) free(t fatal, ref arena.Ref) {
	t.Helper()
	m.check(t, ref)
	m.a.Free(ref)
	delete(m.want, ref)
}

func (m *model) check(t fatal, ref arena.Ref) {
	t.Helper()
	if !bytes.Equal(m.a.Bytes(ref), m.want[ref]) {
		t.Fatalf("block %d of %d bytes changed", ref, m.sizes[ref])
	}
}

// checkAll holds every block and the books against the model.
func (m *model) checkAll(t fatal) {
	t.Helper()
	var inUse int64
	for ref, b := range m.want {
		m.check(t, ref)
		inUse += int64(len(b))
	}
	s := m.a.Stats()
	if s.Blocks != int64(len(m.want)) || s.InUse != inUse {
		t.Fatalf("%d blocks of %d bytes, want %d of %d", s.Blocks, s.InUse, len(m.want), inUse)
	}
	if s.Committed != m.acct.Used() || s.Committed < s.InUse || s.Mapped < s.Committed {
		t.Fatalf("%d bytes charged, stats %+v", m.acct.Used(), s)
	}
}

// gather moves all blocks that are scattered. The arena then takes what its blocks fill.
func (m *model) gather(t fatal) {
	t.Helper()
	before := m.a.Stats()
	promised := m.a.Sift()
	for _, ref := range slices.Sorted(maps.Keys(m.want)) {
		if !m.a.Scattered(ref) {
			if to := m.a.Move(ref); to != ref {
				t.Fatalf("block %d was moved to %d, but it is where it should be", ref, to)
			}
			continue
		}
		to := m.a.Move(ref)
		if to == ref || m.want[to] != nil {
			t.Fatalf("block %d was moved to %d", ref, to)
		}
		m.want[to], m.sizes[to] = m.want[ref], m.sizes[ref]
		delete(m.want, ref)
	}
	m.a.Trim()
	const span = 16 << 10
	var least int64
	blocks := map[int]int{}
	for _, b := range m.want {
		blocks[len(b)]++
	}
	for size, n := range blocks {
		per := max(1, span/size)
		least += int64(max(size, span)) * int64((n+per-1)/per)
	}
	if s := m.a.Stats(); s.Committed != least || s.InUse != before.InUse || s.Blocks != before.Blocks || before.Committed-s.Committed < promised {
		t.Fatalf("%+v after %+v; %d bytes could do, %d were promised", s, before, least, promised)
	}
}

func (m *model) close(t fatal) {
	t.Helper()
	for range 2 { // closing twice is harmless
		if err := m.a.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	if m.acct.Used() != 0 {
		t.Fatalf("%d bytes charged after Close", m.acct.Used())
	}
}

func TestArenaAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(0)
		defer m.close(t)
		sizes := rapid.OneOf(rapid.IntRange(0, 600), rapid.IntRange(0, 20_000), rapid.IntRange(500_000, 600_000))
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				size := sizes.Draw(t, "size")
				for range rapid.IntRange(1, 1+4_000/(size+1)).Draw(t, "count") {
					m.alloc(t, size, byte(size))
				}
			},
			"free": func(t *rapid.T) {
				refs := slices.Sorted(maps.Keys(m.want))
				if len(refs) == 0 {
					return
				}
				from := rapid.IntRange(0, len(refs)-1).Draw(t, "from")
				for _, ref := range refs[from:rapid.IntRange(from, len(refs)).Draw(t, "to")] {
					m.free(t, ref)
				}
			},
			"trim":   func(*rapid.T) { m.a.Trim() },
			"rest":   func(*rapid.T) { m.a.Rest() },
			"gather": func(t *rapid.T) { m.gather(t) },
			"":       func(t *rapid.T) { m.checkAll(t) },
		})
	})
}

func FuzzArena(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		in := make([]byte, 600)
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m := newModel(8 << 20)
		var refs []arena.Ref
		for ; len(in) >= 3; in = in[3:] {
			if op := in[0]; op < 160 || len(refs) == 0 {
				size := int(in[1])<<(op%10) | int(in[2])
				if ref := m.alloc(t, min(size, arena.MaxSize), in[2]); ref != 0 {
					refs = append(refs, ref)
				}
				continue
			}
			i := (int(in[1])<<8 | int(in[2])) % len(refs)
			m.free(t, refs[i])
			refs[i] = refs[len(refs)-1]
			refs = refs[:len(refs)-1]
		}
		m.checkAll(t)
		m.close(t)
	})
}

func TestEverySizeGetsABlockThatHoldsIt(t *testing.T) {
	m := newModel(0)
	defer m.close(t)
	for size := 0; size <= 4200; size++ {
		m.free(t, m.alloc(t, size, 1))
	}
	for size := 4096; size <= arena.MaxSize; size *= 2 {
		for _, s := range []int{size - 1, size, min(size+1, arena.MaxSize)} {
			ref := m.alloc(t, s, 1)
			if got := len(m.a.Bytes(ref)); got >= 2*s {
				t.Errorf("%d bytes take %d", s, got)
			}
			m.free(t, ref)
		}
	}
	m.checkAll(t)
	for _, size := range []int{-1, arena.MaxSize + 1} {
		if ref, err := m.a.Alloc(size); err == nil || ref != 0 {
			t.Errorf("Alloc(%d) = %d, %v", size, ref, err)
		}
	}
}

func TestRefusedAllocLeavesNothingBehind(t *testing.T) {
	m := newModel(1 << 20)
	defer m.close(t)
	refused := 0
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		before := m.acct.Used()
		if m.alloc(t, r.IntN(1<<r.IntN(19)), 3) == 0 {
			refused++
			if m.acct.Used() != before {
				t.Fatalf("%d bytes charged after a refusal, %d before", m.acct.Used(), before)
			}
		}
	}
	if refused == 0 || m.acct.Used() > 1<<20 {
		t.Fatalf("%d refusals, %d bytes used", refused, m.acct.Used())
	}
	m.checkAll(t)
	// What was refused can be had once there is room.
	for ref := range maps.Clone(m.want) {
		m.free(t, ref)
	}
	m.a.Trim()
	if m.alloc(t, 500_000, 1) == 0 {
		t.Error("half of the budget is refused though nothing is in use")
	}
}

func TestFreedMemoryServesOtherClasses(t *testing.T) {
	m := newModel(0)
	defer m.close(t)
	var refs []arena.Ref
	for range 4000 {
		refs = append(refs, m.alloc(t, 512, 1))
	}
	mapped := m.a.Stats().Mapped
	for _, ref := range refs {
		m.free(t, ref)
	}
	for range 10_000 {
		m.alloc(t, 128, 2)
	}
	if got := m.a.Stats().Mapped; got != mapped {
		t.Errorf("%d bytes mapped, %d before", got, mapped)
	}
	m.checkAll(t)
}

func TestIdleMemoryGoesBack(t *testing.T) {
	m := newModel(0)
	defer m.close(t)
	var refs []arena.Ref
	for range 200_000 {
		ref, err := m.a.Alloc(128)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	full := m.acct.Used()
	for _, ref := range refs {
		m.a.Free(ref)
	}
	if idle := m.acct.Used(); idle > full/8 {
		t.Errorf("%d of %d bytes charged though nothing is in use", idle, full)
	}
	if m.a.Trim(); m.acct.Used() > 64<<10 {
		t.Errorf("%d bytes charged after Trim", m.acct.Used())
	}
	m.checkAll(t)
}

func TestABurstOfIdleMemoryIsKeptUntilItIsNotWanted(t *testing.T) {
	acct := budget.NewRoot("test", 0)
	a := arena.New(arena.Options{Account: acct, KeepIdle: 64 << 10, Burst: 1 << 20})
	var refs []arena.Ref
	fill := func() {
		for range 4096 {
			ref, err := a.Alloc(128)
			if err != nil {
				t.Fatal(err)
			}
			refs = append(refs, ref)
		}
	}
	empty := func() {
		for _, ref := range refs {
			a.Free(ref)
		}
		refs = refs[:0]
	}
	fill()
	full := acct.Used()
	for range 3 { // wanted again and again: Rest takes nothing
		empty()
		fill()
		a.Rest()
		if acct.Used() != full {
			t.Fatalf("%d bytes charged, want the %d of before", acct.Used(), full)
		}
	}
	empty()
	a.Rest()
	if acct.Used() != full {
		t.Errorf("%d bytes charged right after they were in use, want %d", acct.Used(), full)
	}
	const lastSpan = 16 << 10 // stays with its class
	if a.Rest(); acct.Used() > 64<<10+lastSpan {
		t.Errorf("%d bytes charged after they were not wanted", acct.Used())
	}
	for range 8 {
		fill()
	}
	if empty(); acct.Used() > 1<<20+128<<10+lastSpan { // 1/32 of the 4 MiB stay, too
		t.Errorf("%d bytes charged, a burst is 1 MiB", acct.Used())
	}
	if err := a.Close(); err != nil || acct.Used() != 0 {
		t.Errorf("%d bytes charged after the end, %v", acct.Used(), err)
	}
}

func TestSmallArenaIsCheap(t *testing.T) {
	m := newModel(0)
	defer m.close(t)
	if s := m.a.Stats(); s.Mapped != 0 {
		t.Errorf("a new arena maps %d bytes", s.Mapped)
	}
	m.alloc(t, 100, 1)
	if s := m.a.Stats(); s.Mapped > 1<<20 || s.Committed > 16<<10 {
		t.Errorf("one block: %+v", s)
	}
}

// violation returns what invariant.Failf said when f ran, "" if it did not.
func violation(t *testing.T, f func()) (msg string) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(*invariant.Violation)
			if !ok {
				t.Fatalf("panic %v, want a violation", r)
			}
			msg = v.Msg
		}
	}()
	f()
	return ""
}

func TestFreeOfWhatIsNotABlockIsFound(t *testing.T) {
	a := arena.New(arena.Options{})
	defer func() { _ = a.Close() }()
	ref, err := a.Alloc(100)
	if err != nil {
		t.Fatal(err)
	}
	check := func(ref arena.Ref) {
		t.Helper()
		if violation(t, func() { a.Free(ref) }) == "" {
			t.Errorf("free of %d went through", ref)
		}
	}
	check(0)
	check(ref + 1)    // within the block
	check(ref + 1024) // a span that was never taken
	a.Free(ref)
	check(ref)
}
