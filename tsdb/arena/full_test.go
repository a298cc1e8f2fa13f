// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !race && !invariants

package arena_test

import (
	"errors"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
)

// Blocks that are not touched take address space only, so all of it can be given out.
func TestArenaIsFullAt32GiB(t *testing.T) {
	a := arena.New(arena.Options{})
	defer func() { _ = a.Close() }()
	var last arena.Ref
	for {
		ref, err := a.Alloc(arena.MaxSize)
		if errors.Is(err, arena.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = ref
	}
	if s := a.Stats(); s.InUse < 30<<30 || s.Mapped > 32<<30 {
		t.Errorf("full with %d bytes in use of %d mapped", s.InUse, s.Mapped)
	}
	if b := a.Bytes(last); len(b) != arena.MaxSize {
		t.Errorf("last block has %d bytes", len(b))
	} else {
		b[0], b[len(b)-1] = 1, 1
	}
	a.Free(last)
	if again, err := a.Alloc(arena.MaxSize); again != last || err != nil {
		t.Errorf("after a free of %d: %d, %v", last, again, err)
	}
}
