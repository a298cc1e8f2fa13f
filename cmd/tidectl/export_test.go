// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// newStore makes a data path with two series, a sample an hour from 2026-01-01T00:00:00Z for a day.
func newStore(t *testing.T) (dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: dir, Shards: 1, SegmentBytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	ls := []labels.Labels{labels.FromStrings("__name__", "a"), labels.FromStrings("__name__", "b")}
	refs := make([]sample.Ref, len(ls))
	if err := db.Resolve(ls, refs); err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for h := range 24 {
		var b sample.Batch
		for _, ref := range refs {
			b.AppendFloat(ref, 0, start.Add(time.Duration(h)*time.Hour).UnixMilli(), float64(h), 0)
		}
		var r sample.Result
		if _, err := db.Commit(t.Context(), &b, &r); err != nil || r.Reason != nil {
			t.Fatal(r, err)
		}
	}
	return dir, func() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExportCommand(t *testing.T) {
	dir, closeStore := newStore(t)
	c := func(name string, code, blocks int, complaint string, args ...string) {
		t.Helper()
		to := filepath.Join(t.TempDir(), "blocks")
		var out, progress bytes.Buffer
		got := run(t.Context(), append([]string{"tsdb", "export", dir, to}, args...), &out, &progress)
		if got != code || !strings.Contains(progress.String(), complaint) {
			t.Errorf("%s: exit code %d, want %d; complaint %q", name, got, code, progress.String())
		}
		entries, err := os.ReadDir(to)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			meta, err := os.ReadFile(filepath.Join(to, e.Name(), "meta.json"))
			if err != nil || strings.Contains(string(meta), `"cluster": "x"`) != slices.Contains(args, "--external-label=cluster=x") {
				t.Errorf("%s: error %v, external labels in %s", name, err, meta)
			}
		}
		if len(entries) != blocks || strings.Count(out.String(), "\n") != blocks {
			t.Errorf("%s: %d blocks, want %d; said %q", name, len(entries), blocks, out.String())
		}
	}
	c("server is running", exitFailed, 0, "take a snapshot")
	closeStore()
	c("everything", exitDone, 12, "12 blocks, 48 samples, up to 2026-01-01T23:00:00Z")
	c("a range", exitDone, 2, "2 blocks, 6 samples", "--from=2026-01-01T10:30:00Z", "--to=2026-01-01T13:00:00Z")
	c("one series", exitDone, 1, "1 blocks, 2 samples", "--match=b", "--external-label=cluster=x", "--to=2026-01-01T01:59:00Z")
	c("nothing matches", exitFailed, 0, "no such samples", `--match={__name__="c"}`)
	c("out of range", exitFailed, 0, "has samples from 2026-01-01T00:00:00Z to 2026-01-01T23:00:00Z only", "--from=2027-01-01T00:00:00Z")
	c("bad selector", exitFailed, 0, "--match", "--match={")
	c("bad time", exitFailed, 0, "--from", "--from=yesterday")
	c("bad flag", exitUsage, 0, "--help lists the commands", "--none")
	dir = t.TempDir()
	c("no store", exitFailed, 0, "holds no data of Tidemark")
}

func TestHelpIsNoError(t *testing.T) {
	var out, progress bytes.Buffer
	if code := run(t.Context(), []string{"tsdb", "export", "--help"}, &out, &progress); code != exitDone || !strings.Contains(out.String()+progress.String(), "external-label") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}
