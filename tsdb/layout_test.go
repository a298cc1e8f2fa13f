// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"encoding/hex"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func TestTheFormatPageShowsTheMetaOfAStore(t *testing.T) {
	page, err := os.ReadFile("../docs/format-store.md")
	if err != nil {
		t.Fatal(err)
	}
	disk := fsx.NewCrashable()
	openTest(t, small(disk))
	p, err := fsx.ReadFile(disk, path.Join(testDir, "tidemark", "store.json"))
	if err != nil {
		t.Fatal(err)
	}
	if dump := hex.Dump(p); !strings.Contains(string(page), dump) {
		t.Errorf("the page does not show store.json, which is:\n%s", dump)
	}
}

func TestAStoreWhoseMetaCannotBeReadIsNotChanged(t *testing.T) {
	for _, text := range []string{"", "{", `{"format":"2"}`, `{"format":1,"shards":3,"slot_ms":60000}`, `{"format":0,"shards":4,"slot_ms":60000}`} {
		disk := littered(t)
		writeFile(t, disk, path.Join(testDir, "tidemark", "store.json"), []byte(text))
		before := tree(t, disk, testDir)
		if _, err := Open(t.Context(), small(disk)); err == nil || !strings.Contains(err.Error(), "store.json") {
			t.Errorf("%q: error %v", text, err)
		}
		if !maps.Equal(before, tree(t, disk, testDir)) {
			t.Errorf("%q: the directory has changed", text)
		}
	}
}

func TestTheFormatPageShowsTheListOfConvertedBlocks(t *testing.T) {
	page, err := os.ReadFile("../docs/format-prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	disk := fsx.NewCrashable()
	db := newDB(small(disk).withDefaults())
	if err := fsx.MakeDir(disk, db.layout.foreign()); err != nil {
		t.Fatal(err)
	}
	want := []string{"01M7YVM4VEHA3PYV756JRV4RKR", "01M7YVM4WN6HBQ01N70V7GDFV3"}
	if err := db.conclude(storedForeign{foreignBlock: &foreignBlock{info: ForeignInfo{ID: want[1], Replaces: want[:1]}}}); err != nil {
		t.Fatal(err)
	}
	text, err := fsx.ReadFile(disk, db.layout.convertedFile())
	if err != nil || !strings.Contains(string(page), "\n"+string(text)) {
		t.Errorf("the page does not show %s, error %v", text, err)
	}
	if got, err := db.loadConverted(); err != nil || !slices.Equal(got, want) {
		t.Errorf("read as %v, error %v", got, err)
	}
}
