// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
	"github.com/tidemarkdb/tidemark/ingest/limits"
)

// explosionSize is how many series come with a label of their own, and the memory of the server's cgroup.
func explosionSize() (series int, limit int64) {
	if os.Getenv("TIDEMARK_TEST") == "long" {
		return 10_000_000, 2 << 30
	}
	return 1_000_000, 300 << 20
}

// memoryCgroup makes a cgroup whose processes have so much memory and no more, and returns its directory. Without the right
// to make one there is none: the directory is empty, and the test looks at the process alone.
func memoryCgroup(t *testing.T, limit int64) string {
	t.Helper()
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		dir := filepath.Join(root, fmt.Sprintf("tidemark-test-%d", os.Getpid()))
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if os.WriteFile(filepath.Join(dir, file), strconv.AppendInt(nil, limit, 10), 0o644) == nil {
			return dir
		}
	}
	t.Log("no cgroup can be made: only the process's own memory is looked at")
	return ""
}

// exploding is a server in a cgroup that is written to by two: one writes the same series over and over, the other a new
// series with each sample.
type exploding struct {
	*instance

	client  *http.Client
	known   [][]byte // labels
	writes  int      // of the known series
	last    time.Time
	refused atomic.Int64 // answers that named the limit
}

const (
	knownSeries  = 5000
	explodeRules = `
groups:
  - name: g
    interval: 1s
    rules:
      - {record: "known:sum", expr: "sum(known)"}
      - {record: "known:count", expr: "count(known)"}
      - {alert: Firing, expr: "count(known) > 0"}
`
)

func startExploding(t *testing.T, limit int64) *exploding {
	t.Helper()
	x := &exploding{instance: newInstance(t, "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n"), client: newClient(t)}
	x.write(t, "rules.yml", explodeRules)
	server := peers.BuildServer(t)
	spec := x.under(server)
	if cgroup := memoryCgroup(t, limit); cgroup != "" {
		spec = x.under("/bin/sh", "-c", `echo $$ >"$1/cgroup.procs" && shift && exec "$@"`, "sh", cgroup, server)
	} else {
		x.write(t, "prometheus.yml", fmt.Sprintf("global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\ntidemark: {memory: {limit: %dB}}\n", limit*60/100))
	}
	x.Process = peers.Start(t, spec)
	for i := range knownSeries {
		x.known = append(x.known, encodeLabels([]string{"__name__", "known", "i", strconv.Itoa(i), "job", "well"}))
	}
	return x
}

// writeKnown writes one sample to each known series.
func (x *exploding) writeKnown(t *testing.T) {
	x.last = time.Now()
	var w requestWriter
	for i, ls := range x.known {
		w.add(ls, x.last.UnixMilli(), float64(i))
	}
	for _, body := range w.take() {
		if code, text := x.post(t.Context(), body); code/100 != 2 {
			t.Errorf("known series were answered %d: %s", code, text)
		}
	}
	x.writes++
}

// explode writes one sample of each of n series from one connection. What is refused is to be told by a 400 that names the
// limit; there is no other error.
func (x *exploding) explode(t *testing.T, seed uint64, n int) {
	r := rand.New(rand.NewPCG(seed, 0))
	var w requestWriter
	for i := range n {
		id := fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32(), r.Uint32()>>16, r.Uint32()>>16, r.Uint32()>>16, r.Uint64()>>16)
		w.add(encodeLabels([]string{"__name__", "http_requests_total", "instance", "host-1:8080", "job", "bad", "session", id}), time.Now().UnixMilli(), 1)
		if len(w.done) == 0 && i < n-1 {
			continue
		}
		for _, body := range w.take() {
			code, text := x.post(t.Context(), body)
			switch {
			case code == http.StatusBadRequest && strings.Contains(text, `series limit "total"`):
				x.refused.Add(1)
			case code/100 != 2:
				t.Errorf("exploding series were answered %d: %s", code, text)
			}
		}
	}
}

func (x *exploding) post(ctx context.Context, body []byte) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.url("/api/v1/write"), bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := x.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// A label with a value of its own in every sample takes neither the process down nor what was there before.
func TestAnExplosionOfSeriesHarmsNobodyElse(t *testing.T) {
	series, limit := explosionSize()
	x := startExploding(t, limit)
	x.writeKnown(t)
	began := time.Now()
	var wg sync.WaitGroup
	const senders = 4
	for i := range senders {
		wg.Go(func() { x.explode(t, uint64(i), series/senders) })
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	for ended := false; !ended; {
		select {
		case <-over:
			ended = true
		case <-time.After(time.Second):
		}
		x.writeKnown(t)
	}
	t.Logf("%d series came within %s, %d known ones were written %d times; peak of the process %.0f MiB of %d",
		series, time.Since(began).Round(time.Second), knownSeries, x.writes, memory(t, x.Pid(), "VmHWM:"), limit>>20)
	if peak := memory(t, x.Pid(), "VmHWM:"); peak > float64(limit>>20) {
		t.Errorf("the process took %.0f MiB", peak)
	}
	if x.refused.Load() == 0 {
		t.Error("nothing was refused: the test explodes too little")
	}
	x.checkKnown(t)
	x.checkRules(t, began)
	x.checkOffender(t, series)
}

// checkKnown looks whether every sample of the known series is there.
func (x *exploding) checkKnown(t *testing.T) {
	t.Helper()
	got, err := instant(x.url(""), "sum(count_over_time(known[1d])) == count(known) * "+strconv.Itoa(x.writes), x.last)
	if err != nil || len(got) != 1 {
		t.Fatalf("samples of known series are missing: %v, %v", got, err)
	}
	for _, points := range got {
		if want := strconv.Itoa(x.writes * knownSeries); points[0].V != want {
			t.Errorf("%s samples of known series, want %s", points[0].V, want)
		}
	}
}

// checkRules looks whether rules were evaluated every second, and recorded.
func (x *exploding) checkRules(t *testing.T, since time.Time) {
	t.Helper()
	text, err := body(x.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		for _, name := range []string{"prometheus_rule_group_iterations_missed_total{", "prometheus_rule_evaluation_failures_total{"} {
			if strings.HasPrefix(line, name) && !strings.HasSuffix(line, " 0\n") {
				t.Errorf("rules went wrong: %s", line)
			}
		}
	}
	for _, name := range []string{"known:sum", "known:count", "ALERTS"} {
		window := strconv.Itoa(int(x.last.Sub(since)/time.Second)+1) + "s"
		got, err := instant(x.url(""), fmt.Sprintf("count_over_time(%s[%s])", name, window), x.last)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		for _, points := range got {
			n, err := strconv.Atoi(points[0].V)
			if err != nil || n < int(x.last.Sub(since)/time.Second)-2 {
				t.Errorf("%s was recorded %s times within %s", name, points[0].V, x.last.Sub(since))
			}
		}
	}
}

// checkOffender looks whether API and conditions tell which limit is reached, by what, and which label grows.
func (x *exploding) checkOffender(t *testing.T, series int) {
	t.Helper()
	var status []limits.Status
	if err := get(x.url("/api/v1/status/series_limits"), &status); err != nil {
		t.Fatal(err)
	}
	if len(status) == 0 || status[0].Name != "total" || status[0].Series < status[0].Max || status[0].Series >= series || len(status[0].Offenders) != 1 {
		t.Fatalf("limits: %+v", status)
	}
	t.Logf("limit %d, %d series", status[0].Max, status[0].Series)
	if o := status[0].Offenders[0]; o.GrowingLabel != "session" || o.Hits == 0 || !strings.Contains(o.Example, "http_requests_total") {
		t.Errorf("offender: %+v", o)
	}
	var conditions []struct{ Code, Effect string }
	if err := get(x.url("/api/v1/status/conditions"), &conditions); err != nil {
		t.Fatal(err)
	}
	if len(conditions) != 1 || conditions[0].Code != conditionSeriesLimit || !strings.Contains(conditions[0].Effect, "label session grows") {
		t.Errorf("conditions: %+v", conditions)
	}
	if out := x.Output(); !strings.Contains(out, "a series limit is reached") || !strings.Contains(out, "growing_label=session") {
		t.Error("the log does not name the offender")
	}
}
