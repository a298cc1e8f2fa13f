// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// migrationQueries are asked of Prometheus and of Tidemark over one range.
var migrationQueries = []string{
	`{__name__=~"mig_.*"}`,
	`rate(mig_requests_total[5m])`,
	`histogram_quantile(0.9, sum(rate(mig_latency[10m])))`,
	`mig_sizes`,
	`absent(mig_requests_total{series="3"})`,
	`count by (__name__) (last_over_time({__name__=~"mig_.*"}[2m]))`,
	`quantile_over_time(0.5, mig_gauge[15m])`,
}

// migrationLoad is the samples of one moment: counters, gauges of which some end now and then, and native histograms of
// both kinds, some of them resetting.
func migrationLoad(t *testing.T, at time.Time) []byte {
	t.Helper()
	ts := at.UnixMilli()
	n := ts / 30_000
	req := prompb.WriteRequest{}
	name := func(metric string, i int) []prompb.Label {
		return []prompb.Label{{Name: "__name__", Value: metric}, {Name: "series", Value: strconv.Itoa(i)}}
	}
	float := func(metric string, i int, v float64) {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: name(metric, i), Samples: []prompb.Sample{{Timestamp: ts, Value: v}},
		})
	}
	for i := range 5 {
		switch gap := (n + int64(31*i)) % 200; {
		case gap == 0:
			float("mig_requests_total", i, math.Float64frombits(value.StaleNaN))
		case gap < 180:
			float("mig_requests_total", i, float64(n%1500)*float64(i+1))
		}
		float("mig_gauge", i, math.Sin(float64(n)/20)*100/float64(i+3))
		h := &histogram.Histogram{
			Schema: 1, ZeroThreshold: 1e-3, ZeroCount: 1, Count: uint64(6 + n%300), Sum: float64(n % 300),
			PositiveSpans: []histogram.Span{{Offset: int32(i), Length: 2}}, PositiveBuckets: []int64{n % 300, 5 - n%300},
		}
		ints, floats := prompb.FromIntHistogram(ts, h), prompb.FromFloatHistogram(ts, h.ToFloat(nil))
		req.Timeseries = append(req.Timeseries,
			prompb.TimeSeries{Labels: name("mig_latency", i), Histograms: []prompb.Histogram{ints}},
			prompb.TimeSeries{Labels: name("mig_sizes", i), Histograms: []prompb.Histogram{floats}},
		)
	}
	body, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

// loadRange sends the samples of [from, to) in time order.
func loadRange(t *testing.T, base string, from, to time.Time) {
	t.Helper()
	for at := from; at.Before(to); at = at.Add(30 * time.Second) {
		if err := push(base+"/api/v1/write", migrationLoad(t, at)); err != nil {
			t.Fatal(err)
		}
	}
}

// series is one series of an answer, histograms included, as the API writes it.
type rangedSeries struct {
	Metric             map[string]string
	Values, Histograms []any
}

// migrationAnswers asks all queries over a range.
func migrationAnswers(t *testing.T, base string, from, to time.Time) map[string][]rangedSeries {
	t.Helper()
	out := map[string][]rangedSeries{}
	for _, q := range migrationQueries {
		var data struct{ Result []rangedSeries }
		params := url.Values{"query": {q}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {"60"}}
		if err := get(base+"/api/v1/query_range?"+params.Encode(), &data); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(data.Result, func(a, b rangedSeries) int { return strings.Compare(labelText(a.Metric), labelText(b.Metric)) })
		if len(data.Result) == 0 {
			t.Errorf("%s has no answer: it tests nothing", q)
		}
		out[q] = data.Result
	}
	return out
}

// fileTree is the sizes and times of all files of a directory, but for those of ours.
func fileTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == "tidemark" {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() || e.Name() == "lock" {
			return err
		}
		info, err := e.Info()
		if err == nil {
			out[strings.TrimPrefix(name, dir)] = fmt.Sprintf("%d %s", info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prometheusOn starts the pinned Prometheus on a data path, with a receiver and without targets.
func prometheusOn(t *testing.T, dir string) (*peers.Process, string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 1m}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := peers.FreeAddr(t)
	p := peers.Start(t, peers.Spec{
		Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: filepath.Dir(config), Ready: "http://" + addr + "/-/ready",
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + dir, "--web.listen-address=" + addr, "--web.enable-remote-write-receiver"},
	})
	return p, "http://" + addr
}

// TestThereAndBackOnOneDataPath follows docs/migration.md: Prometheus, then Tidemark on its data path, then, after an
// export into it, Prometheus again, which answers for the whole time as if it had never been gone: as Tidemark, and as a
// Prometheus that had it all. So does one on what was exported of a snapshot of the running Tidemark.
func TestThereAndBackOnOneDataPath(t *testing.T) {
	start := time.Now().Add(-13 * time.Hour).Truncate(time.Minute)
	half, end := start.Add(6*time.Hour), start.Add(12*time.Hour)
	last := half.Add(-time.Minute) // before what comes later
	s := newInstance(t, "global: {scrape_interval: 1m}\n")
	data := s.file("data")

	prometheus, base := prometheusOn(t, data)
	loadRange(t, base, start, half)
	eventually(t, 2*time.Minute, "Prometheus writes blocks", func() error {
		if blocks, _ := filepath.Glob(filepath.Join(data, "01*", "meta.json")); len(blocks) < 1 {
			return fmt.Errorf("%d blocks", len(blocks))
		}
		return nil
	})
	want := migrationAnswers(t, base, start, last)
	if code, _ := prometheus.Stop(t); code != 0 {
		t.Fatalf("Prometheus stopped with %d", code)
	}
	before := fileTree(t, data)

	s.start(t)
	if diff := cmp.Diff(want, migrationAnswers(t, s.url(""), start, last)); diff != "" {
		t.Errorf("right after the start (-Prometheus +Tidemark):\n%s", diff)
	}
	loadRange(t, s.url(""), half, end)
	eventually(t, time.Minute, "conversion", func() error {
		text, err := body(s.url("/metrics"))
		if err == nil && !strings.Contains(text, "\ntidemark_store_prometheus_blocks 0\n") {
			err = fmt.Errorf("blocks are left")
		}
		return err
	})
	if diff := cmp.Diff(want, migrationAnswers(t, s.url(""), start, last)); diff != "" {
		t.Errorf("converted (-Prometheus +Tidemark):\n%s", diff)
	}
	want = migrationAnswers(t, s.url(""), start, end)
	_, stayed := prometheusOn(t, t.TempDir())
	loadRange(t, stayed, start, end)
	if diff := cmp.Diff(migrationAnswers(t, stayed, start, end), want); diff != "" {
		t.Errorf("the whole time (-Prometheus that stayed +Tidemark):\n%s", diff)
	}
	copied := exportSnapshot(t, s, data)
	if code, _ := s.Stop(t); code != 0 {
		t.Fatalf("Tidemark stopped with %d", code)
	}
	if diff := cmp.Diff(before, fileTree(t, data)); diff != "" {
		t.Errorf("Prometheus' files changed (-before +after):\n%s", diff)
	}

	exported := export(t, data)
	checkWithPromtool(t, data, exported)
	_, base = prometheusOn(t, data)
	if diff := cmp.Diff(want, migrationAnswers(t, base, start, end)); diff != "" {
		t.Errorf("back on the same path (-Tidemark +Prometheus):\n%s", diff)
	}
	_, base = prometheusOn(t, copied)
	if diff := cmp.Diff(want, migrationAnswers(t, base, start, end)); diff != "" {
		t.Errorf("on the export of a snapshot (-Tidemark +Prometheus):\n%s", diff)
	}
}

// exportSnapshot takes a snapshot of a running server by its API, and exports that, all of it, into a directory of its
// own, which it returns.
func exportSnapshot(t *testing.T, s *instance, data string) string {
	t.Helper()
	resp, err := http.Post(s.url("/api/v1/admin/tsdb/snapshot"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Data struct{ Name string } }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Data.Name == "" {
		t.Fatalf("snapshot: %s, %+v, %v", resp.Status, answer, err)
	}
	to := t.TempDir()
	out := command(t, peers.BuildTool(t), "tsdb", "export", filepath.Join(data, "snapshots", answer.Data.Name), to)
	var ids []string
	for line := range strings.Lines(out) {
		ids = append(ids, strings.Fields(line)[0])
	}
	checkWithPromtool(t, to, ids)
	return to
}

// export runs the first export that docs/migration.md shows and returns the names of the blocks.
func export(t *testing.T, data string) []string {
	t.Helper()
	var args []string
	for _, s := range snippets(t) {
		for line := range strings.Lines(s.text) {
			if words := strings.Fields(line); args == nil && s.file == "migration.md" && len(words) > 0 && words[0] == "bin/tidectl" {
				args = strings.Fields(strings.ReplaceAll(line, "/var/lib/prometheus", data))[1:]
			}
		}
	}
	if args == nil {
		t.Fatal("docs/migration.md shows no export")
	}
	out := command(t, peers.BuildTool(t), args...)
	var ids []string
	for line := range strings.Lines(out) {
		ids = append(ids, strings.Fields(line)[0])
	}
	if len(ids) < 6 {
		t.Fatalf("12 hours became %d blocks:\n%s", len(ids), out)
	}
	return ids
}

// checkWithPromtool has promtool open the blocks.
func checkWithPromtool(t *testing.T, dir string, ids []string) {
	t.Helper()
	promtool := peers.Build(t).Promtool
	list := command(t, promtool, "tsdb", "list", dir)
	for _, id := range ids {
		if !strings.Contains(list, id) {
			t.Errorf("promtool tsdb list does not show %s:\n%s", id, list)
		}
		if out := command(t, promtool, "tsdb", "analyze", "--extended", dir, id); !strings.Contains(out, "mig_requests_total") {
			t.Errorf("promtool tsdb analyze %s:\n%s", id, out)
		}
	}
}

// command runs a program to its end and returns what it writes to standard output.
func command(t *testing.T, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(path), strings.Join(args, " "), err, out, complaint.String())
	}
	return string(out)
}
