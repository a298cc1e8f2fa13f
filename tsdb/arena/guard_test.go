// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build invariants || race

package arena_test

import (
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
)

func TestUseAfterFreeIsFound(t *testing.T) {
	check := func(name string, wantMsg bool, f func(a *arena.Arena, ref arena.Ref, b []byte)) {
		t.Helper()
		a := arena.New(arena.Options{})
		var refs [3]arena.Ref
		for i := range refs {
			ref, err := a.Alloc(64)
			if err != nil {
				t.Fatal(err)
			}
			refs[i] = ref
		}
		b := a.Bytes(refs[1])
		a.Free(refs[1])
		if msg := violation(t, func() { f(a, refs[1], b) }); (msg != "") != wantMsg {
			t.Errorf("%s: violation %q", name, msg)
		}
	}
	check("read", true, func(a *arena.Arena, ref arena.Ref, _ []byte) { a.Bytes(ref) })
	check("free", true, func(a *arena.Arena, ref arena.Ref, _ []byte) { a.Free(ref) })
	check("write", true, func(a *arena.Arena, _ arena.Ref, b []byte) {
		b[20] = 7
		_, _ = a.Alloc(64)
	})
	check("nothing wrong", false, func(a *arena.Arena, _ arena.Ref, _ []byte) { _, _ = a.Alloc(64) })
}

func TestFreedAndNewBlocksHoldPoison(t *testing.T) {
	a := arena.New(arena.Options{})
	ref, err := a.Alloc(64)
	if err != nil {
		t.Fatal(err)
	}
	b := a.Bytes(ref)
	if b[0] == 0 || b[63] != b[0] {
		t.Errorf("a new block holds %x: code may rely on zeros", b)
	}
	clear(b)
	a.Free(ref)
	for i, x := range b[2:] {
		if x != 0xdb {
			t.Fatalf("byte %d of a freed block is %#x", i+2, x)
		}
	}
}
