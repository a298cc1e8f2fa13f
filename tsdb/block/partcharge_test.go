// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"math/rand/v2"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// The parts of a shard have one table of places while no series comes: it is charged once, and until the last of them goes.
func TestPartsThatShareATableAreChargedForItOnce(t *testing.T) {
	fsys := fsx.NewCrashable()
	newTestPart(rand.New(rand.NewPCG(1, 1)), 500).write(t, fsys)
	account := budget.NewRoot("parts", 0)
	open := func() *Part {
		p, err := OpenPart(fsys, partName, nil, Options{Account: account})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := open()
	alone := account.Used()
	second := open()
	second.Share(first)
	second.Share(first)
	table := 4 * int64(len(first.places.of))
	want := func(what string, n int64) {
		t.Helper()
		if got := account.Used(); got != n {
			t.Errorf("%s: %d bytes, want %d", what, got, n)
		}
	}
	want("two parts", 2*alone-table)
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want("the one that shares", alone)
	if id, ok := second.Place(0); !ok || id != second.places.of[0]-1 {
		t.Errorf("series 0 is at %d, %t", id, ok)
	}
	m, err := second.Members()
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(48 * len(m.Number)); account.Used() < alone+n {
		t.Errorf("members of %d series are charged %d bytes", len(m.Number), account.Used()-alone)
	}
	m.Free()
	want("without members", alone)
	if err := second.Delete(); err != nil {
		t.Fatal(err)
	}
	want("no part", 0)
}
