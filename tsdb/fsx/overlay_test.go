// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func TestOverlayShowsItsChangesAndLeavesTheFilesBelowAsTheyAre(t *testing.T) {
	below := fsx.NewCrashable()
	ok(t, fsx.MakeDir(below, "/d"))
	long := strings.Repeat("0123456789", 2000)
	for name, text := range map[string]string{"/d/kept": "kept", "/d/gone": "gone", "/d/old": long} {
		write(t, below, name, text)
	}
	o := fsx.NewOverlay(below)
	ok(t, o.Remove("/d/gone"))
	ok(t, o.Rename("/d/old", "/d/new"))
	f, err := o.OpenReadWrite("/d/new")
	ok(t, err)
	_, err = f.WriteAt([]byte("XY"), 4095)
	ok(t, err)
	ok(t, f.Truncate(9000))
	ok(t, f.Preallocate(9002))
	ok(t, f.Close())
	ok(t, o.MkdirAll("/d/sub/sub"))
	write(t, o, "/d/sub/sub/made", "made")

	names, err := o.List("/d")
	ok(t, err)
	if want := []string{"kept", "new", "sub"}; !slices.Equal(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}
	if got, want := content(t, o, "/d/new"), long[:4095]+"XY"+long[4097:9000]+"\x00\x00"; got != want {
		t.Errorf("a changed file has %d bytes that differ from what was written", len(got))
	}
	for name, want := range map[string]string{"/d/kept": "kept", "/d/gone": "<none>", "/d/old": "<none>", "/d/sub/sub/made": "made"} {
		if got := content(t, o, name); got != want {
			t.Errorf("%s is %q through the overlay, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"/d/kept": "kept", "/d/gone": "gone", "/d/old": long, "/d/new": "<none>"} {
		if content(t, below, name) != want {
			t.Errorf("%s has changed below", name)
		}
	}
	if names, err := below.List("/d"); err != nil || len(names) != 3 {
		t.Errorf("names below %v, error %v", names, err)
	}
}
