// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestTheServerTakesSamplesWhileItsHeadIsRestored stops a restore at the point where the rows of the log are read.
func TestTheServerTakesSamplesWhileItsHeadIsRestored(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	first := time.Now().Add(-24 * time.Hour).Truncate(2 * time.Hour).Add(time.Hour)
	h.oldBlock(t, first)
	h.run(t, 0)
	h.want(t, normal())
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	opens := h.crash(t)

	stall := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(stall) })
	h.begin(t, 0, fsx.NewFaulty(fsx.OS(), fsx.Fault{Op: fsx.OpOpen, Path: "*.seg", After: opens - 1, Times: 1, Stall: stall}))
	t.Cleanup(goOn)
	restoring := row{
		code: tsdb.ConditionRestoring, healthy: 200, ready: 503, writes: 204, from: first, to: first.Add(9 * time.Minute),
		effect: "records of the log are read",
	}
	eventually(t, 30*time.Second, "the state of a restore", func() error { return h.keepsTo(restoring) })
	for end := time.Now().Add(stateLookback + 2*time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		err := h.keepsTo(restoring)
		for _, path := range []string{
			"/api/v1/query?timeout=20ms&query=absent(probe)", "/api/v1/query?timeout=20ms&query=count(tail)",
			"/api/v1/series?match[]=tail", "/api/v1/labels", "/api/v1/label/__name__/values", "/api/v1/metadata",
			"/federate?match[]=tail", "/api/v1/query_exemplars?query=tail&start=0&end=1",
		} {
			err = errors.Join(err, h.putsOff(path))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if at, err := h.evaluated(); err != nil || !at.IsZero() {
		t.Errorf("rules were evaluated during the restore, at %s, %v", at, err)
	}
	var progress struct{ Min, Max, Current int }
	if err := get(h.url("/api/v1/status/walreplay"), &progress); err != nil || progress.Max == 0 || progress.Current >= progress.Max {
		t.Errorf("the restore is at %+v, %v", progress, err)
	}

	goOn()
	eventually(t, 30*time.Second, "the server is ready", func() error { return status(h.url("/-/ready"), 200) })
	h.want(t, normal())
	got, err := instant(h.url(""), "count_over_time(tail[1h])", time.Now())
	if err != nil || len(got) != 1 {
		t.Errorf("what the log held: %v, %v", got, err)
	}
}

// crash leaves the data path as it is when the process is killed behind a few writes, and returns how often a start
// opens a segment of the log.
func (h *hosted) crash(t *testing.T) (opens int) {
	t.Helper()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: h.file("data")})
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]sample.Ref, 1)
	for i := range int64(20) {
		var b sample.Batch
		var r sample.Result
		err := db.Resolve([]labels.Labels{labels.FromStrings(labels.MetricName, "tail")}, refs)
		b.AppendFloat(refs[0], 0, time.Now().UnixMilli()-i, 1, 0)
		lsn, cerr := db.Commit(t.Context(), &b, &r)
		if err := errors.Join(err, cerr, db.Durable(t.Context(), lsn)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"killed", "again"} {
		if err := os.CopyFS(h.file(dir), os.DirFS(h.file("data"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Close(), os.RemoveAll(h.file("data")), os.Rename(h.file("killed"), h.file("data"))); err != nil {
		t.Fatal(err)
	}
	disk := fsx.NewFaulty(fsx.OS())
	var seen atomic.Int64
	disk.Observe(func(op fsx.Op, name string) {
		if op == fsx.OpOpen && strings.HasSuffix(name, ".seg") {
			seen.Add(1)
		}
	})
	db, err = tsdb.Open(t.Context(), tsdb.Options{Dir: h.file("again"), FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	opens = int(seen.Load())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return opens
}

// putsOff checks that a request is told why it has no answer yet.
func (h *hosted) putsOff(path string) error {
	resp, err := http.Get(h.url(path))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "restoring") || !strings.Contains(string(text), "%") {
		return fmt.Errorf("%s during a restore: %s %q", path, resp.Status, text)
	}
	return nil
}
