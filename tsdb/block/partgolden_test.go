// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/dumptest"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// TestDocumentShowsTheBytesOfAPart compares the dump in the format document with what WritePart makes.
func TestDocumentShowsTheBytesOfAPart(t *testing.T) {
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
	dumptest.Check(t, "../../docs/format-spill.md", raw, *update)
}
