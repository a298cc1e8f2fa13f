// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
)

func TestTheFormatPageShowsTheFilesOfDeletes(t *testing.T) {
	page, err := os.ReadFile("../docs/format-tombstones.md")
	if err != nil {
		t.Fatal(err)
	}
	dead := tombstones{
		{series: map[uint32][]interval{2: {{1000, 1000}}}},
		{id: 42, series: map[uint32][]interval{0: {{0, 1500}}, 2: {{0, 1500}}}},
	}
	list, err := deletesFile{Done: 42, Deletes: []deletion{{
		ID: 42, At: 1_700_000_000_000, MinT: 0, MaxT: 1500, Series: 2,
		Match: matchTexts([]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "a")}),
	}}}.appendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{"tombstones": dead.appendTo(nil), "list of deletes": list} {
		if dump := hex.Dump(p); !strings.Contains(string(page), dump) {
			t.Errorf("the page does not show the example of a %s, which is:\n%s", name, dump)
		}
	}
}

func TestTombstonesOfVersion1AreRead(t *testing.T) {
	body := []byte{1, 2, 1, 0xd0, 0x0f, 0xb8, 0x17} // series 2, [1000, 1500]
	p := binary.BigEndian.AppendUint32([]byte(tombstoneMagic1), crc32.Checksum(body, castagnoli))
	dead, err := parseTombstones(append(p, body...))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]interval{{1000, 1500}}, dead.hidden(2), cmp.AllowUnexported(interval{})); d != "" || len(dead.hidden(1)) > 0 {
		t.Errorf("hidden of series 2 (-want +got):\n%s", d)
	}
}
