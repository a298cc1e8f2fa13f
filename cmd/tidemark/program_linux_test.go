// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const someMaps = `00400000-02a00000 r-xp 00000000 fe:00 123                       /usr/bin/tidemark
Size:              39936 kB
Rss:               20000 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
02a00000-05000000 r--p 02600000 fe:00 123                       /usr/bin/tidemark
Rss:               20000 kB
Anonymous:             8 kB
05000000-05100000 rw-p 04c00000 fe:00 123                       /usr/bin/tidemark
Anonymous:             0 kB
05200000-05300000 r--p 00000000 fe:00 124                       /usr/lib/libc.so.6
Anonymous:             0 kB
05400000-05500000 r--p 00000000 fe:00 123                       /usr/bin/tidemark (deleted)
Anonymous:             0 kB
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
Anonymous:             4 kB
`

func TestOnlyCleanPagesOfTheProgramAreGivenBack(t *testing.T) {
	got, err := programMappings(strings.NewReader(someMaps), "/usr/bin/tidemark")
	want := []mapping{{0x400000, 0x2a00000, true}, {0x2a00000, 0x5000000, false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// TestTheProgramRunsOnWithoutItsPages gives the pages of the test back and does things that need them.
func TestTheProgramRunsOnWithoutItsPages(t *testing.T) {
	before := programResident(t)
	for range 3 {
		if err := releaseProgram(); err != nil {
			t.Fatal(err)
		}
		if after := programResident(t); after > before*3/4 {
			t.Errorf("%d kB of files were resident, and %d are afterwards", before, after)
		}
		runtime.GC()
		if text := fmt.Sprint(map[string]float64{"x": 1.5}, []error{os.ErrNotExist}); text != "map[x:1.5] [file does not exist]" {
			t.Errorf("%q", text)
		}
	}
}

// programResident returns how many kB of files are mapped and in memory.
func programResident(t *testing.T) (kB int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(rest, &kB); !ok || err != nil {
		t.Fatalf("no RssFile, %v", err)
	}
	return kB
}
