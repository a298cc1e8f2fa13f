// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// TestDocumentShowsTheBytesOfAPart compares the dump in the format document with what WritePart makes.
func TestDocumentShowsTheBytesOfAPart(t *testing.T) {
	const doc = "../../docs/format-spill.md"
	fsys := fsx.NewCrashable()
	if err := fsys.MkdirAll("/spill"); err != nil {
		t.Fatal(err)
	}
	var rows column.Block
	rows.Reset()
	rows.AppendFloat(1000, 0, 1)
	rows.AppendFloat(2000, 0, 2)
	_, err := block.WritePart(fsys, "/spill/x.part", block.PartMeta{Shard: 1, Slot: 10_000, LSN: 7, Writer: "0.2.0"}, block.PartSource{
		Series: func(yield func(block.PartRows, error) bool) {
			yield(block.PartRows{Number: 1, Gen: 1, Rows: &rows}, nil)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := fsx.ReadFile(fsys, "/spill/x.part")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- dump -->\n```\n", "```\n<!-- end of dump -->"
	head, rest, ok := strings.Cut(string(text), begin)
	dump, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no dump", doc)
	}
	want := hex.Dump(raw)
	if *update {
		if err := os.WriteFile(doc, []byte(head+begin+want+end+tail), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if dump != want {
		t.Errorf("%s shows\n%s\nbut WritePart makes\n%s", doc, dump, want)
	}
}
