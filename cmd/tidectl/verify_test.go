// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb"
)

// deleteSome makes a block of what it deletes, and lets it be brought back.
func deleteSome(t *testing.T, dir string) {
	t.Helper()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Delete(t.Context(), 0, 1<<60, labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyRepairAndListSayWhatIsAndEndWithItsCode(t *testing.T) {
	dir, stop := newStore(t)
	c := func(name string, code int, want string, args ...string) {
		t.Helper()
		var out, progress bytes.Buffer
		got := run(t.Context(), append([]string{"tsdb"}, append(args, dir)...), &out, &progress)
		if text := out.String() + progress.String(); got != code || !strings.Contains(text, want) {
			t.Errorf("%s: exit code %d, want %d with %q; said %s", name, got, code, want, text)
		}
	}
	c("verify beside the server", exitDone, " 0 findings", "verify")
	c("list beside the server", exitDone, "SAMPLES", "list")
	c("repair beside the server", exitFailed, "stop the server", "repair")
	stop()
	deleteSome(t, dir)
	c("verify", exitDone, `"findings": []`, "verify", "--json")
	c("list", exitDone, "some samples are deleted", "list")
	c("list as JSON", exitDone, `"kind": "block"`, "list", "--json")
	c("nothing to repair", exitDone, "nothing is damaged", "repair")

	blocks, err := filepath.Glob(filepath.Join(dir, "tidemark", "blocks", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	data[40] ^= 1
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	c("damage", exitDamaged, `{__name__="b"}`, "verify")
	c("rehearsed repair", exitDone, "dry run", "repair", "--dry-run")
	c("damage after the rehearsal", exitDamaged, "samples of 2 series are missing from 2026-01-01", "verify")
	c("repair", exitDone, "quarantine", "repair", "--json")
	c("after the repair", exitDone, "in quarantine, samples from 2026-01-01", "verify")
	c("list after the repair", exitDone, "quarantine", "list")

	dir = t.TempDir()
	c("no store", exitFailed, "holds no data of Tidemark", "verify")
	c("no store to list", exitFailed, "holds no data of Tidemark", "list")
}
