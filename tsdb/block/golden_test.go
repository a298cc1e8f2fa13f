// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"flag"
	"os"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/dumptest"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

var update = flag.Bool("update", false, "write the golden files anew: only for a new format version or a new codec")

// TestGoldenBlocksOpenForEver reads blocks as released versions wrote them.
func TestGoldenBlocksOpenForEver(t *testing.T) {
	const current = "testdata/blocks/v2"
	c := fullContent()
	if *update {
		if err := os.MkdirAll(current, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(block.Path(current, testID), rawBlock(t, c), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"testdata/blocks/v1", current} {
		t.Run(dir, func(t *testing.T) {
			b, err := block.Open(fsx.OS(), block.Path(dir, testID), nil, block.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			checkContent(t, b, c)
			if err := b.Verify(t.Context()); err != nil {
				t.Error(err)
			}
			want := testMeta()
			if m := b.Meta(); m.LSN != want.LSN || m.SlotStart != want.SlotStart || m.SlotEnd != want.SlotEnd || m.Writer != want.Writer {
				t.Errorf("meta %+v", m)
			}
		})
	}
}

// TestDocumentShowsTheBytes compares the dump in the format document with what Write makes.
func TestDocumentShowsTheBytes(t *testing.T) {
	raw := rawBlock(t, content{
		series: []testSeries{
			{labels: labels.FromStrings("__name__", "up", "job", "a"), rows: []row{float(1000, 0, 1), float(16000, 0, 1)}},
			{labels: labels.FromStrings("__name__", "up", "job", "b"), rows: []row{float(1000, 0, 0)}},
		},
		families: []family{{"up", []metadata.Metadata{{Type: "gauge", Help: "x"}}}},
	})
	dumptest.Check(t, "../../docs/format-block.md", raw, *update)
}
