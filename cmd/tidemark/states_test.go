// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// hosted is a server in the process of the test, so that the test has its disk, its clock and its memory in hand. A
// client writes a sample of the series probe four times a second.
type hosted struct {
	*instance

	server  *server
	disk    *fsx.Faulty
	later   atomic.Int64 // how far ahead the store's clock is, ns
	clients atomic.Int64 // the status of the client's last write
	retry   atomic.Bool  // whether it came with advice when to try again
	stop    func() error
}

const (
	stateRules = `
groups:
  - name: g
    interval: 1s
    rules:
      - {record: "probe:double", expr: probe * 2}
      - {alert: Held, expr: probe == 1}
`
	// stateLookback is how long samples stay visible: alerts resolve so soon after samples stop.
	stateLookback = 2 * time.Second
)

func newHosted(t *testing.T) *hosted {
	t.Helper()
	h := &hosted{instance: newInstance(t, "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n",
		"--query.lookback-delta="+stateLookback.String(), "--no-auto-gomemlimit")}
	h.write(t, "rules.yml", stateRules)
	return h
}

// run starts the server with so many bytes of memory, 0: as many as the machine gives, waits until it is ready, and stops
// it with the test.
func (h *hosted) run(t *testing.T, memory int64) {
	t.Helper()
	h.begin(t, memory, fsx.NewFaulty(fsx.OS()))
	eventually(t, 30*time.Second, "the server is ready", func() error { return status(h.url("/-/ready"), 200) })
}

// begin is run on a disk, without the wait.
func (h *hosted) begin(t *testing.T, memory int64, disk *fsx.Faulty) {
	t.Helper()
	o, err := parseFlags(h.args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(o, promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	h.server, h.disk, s.fs = s, disk, disk
	s.now = func() time.Time { return time.Now().Add(time.Duration(h.later.Load())) }
	if memory > 0 {
		s.memory = budget.NewRoot("process", memory)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	written := make(chan struct{})
	h.stop = func() error {
		h.stop = func() error { return nil }
		cancel()
		<-written
		return <-done
	}
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	go func() {
		defer close(written)
		for ctx.Err() == nil {
			h.probe(t)
			time.Sleep(250 * time.Millisecond)
		}
	}()
}

// probe writes one sample.
func (h *hosted) probe(t *testing.T) {
	body := writeRequest(t, "probe", 1, time.Now().UnixMilli(), 1)
	code, after := pushStatus(h.url("/api/v1/write"), body)
	h.retry.Store(after != "")
	h.clients.Store(int64(code))
}

// pushStatus sends a remote-write body and returns the status of the answer and its Retry-After.
func pushStatus(url string, body []byte) (code int, retryAfter string) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		return 0, ""
	}
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

// status returns an error unless a page answers so.
func status(url string, want int) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != want {
		return fmt.Errorf("%s: %d %s, want %d", url, resp.StatusCode, text, want)
	}
	return nil
}

// row is a line of the table in docs/states.md.
type row struct {
	code           string // empty: normal
	healthy, ready int
	writes         int
	// warning is a text that answers carry over the time asked for; none where empty.
	warning  string
	from, to time.Time
	// effect is what the condition says, among more.
	effect string
}

func normal() row { return row{healthy: 200, ready: 200, writes: 204} }

// want waits until the server is in a state and, if it is not the normal one, checks that it keeps to all columns of it for
// two evaluations of the rules and longer than samples stay visible.
func (h *hosted) want(t *testing.T, r row) {
	t.Helper()
	eventually(t, 20*time.Second, "state "+r.code, func() error { return h.keepsTo(r) })
	if r.code == "" {
		return
	}
	first, err := h.evaluated()
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(stateLookback + 2*time.Second)
	for time.Now().Before(end) {
		if err := h.keepsTo(r); err != nil {
			t.Fatalf("state %q: %v", r.code, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	last, err := h.evaluated()
	if err != nil || last.Sub(first) < 2*time.Second {
		t.Errorf("state %q: rules were evaluated at %s and last at %s, %v", r.code, first, last, err)
	}
}

// keepsTo says what of a state is not so now.
func (h *hosted) keepsTo(r row) error {
	errs := []error{status(h.url("/-/healthy"), r.healthy), status(h.url("/-/ready"), r.ready), h.condition(r), h.answers(r)}
	if code := int(h.clients.Load()); code != r.writes || h.retry.Load() != (code == 503) {
		errs = append(errs, fmt.Errorf("a write is answered %d, with advice when to try again: %t; want %d", code, h.retry.Load(), r.writes))
	}
	var alerts struct {
		Alerts []struct{ State string }
	}
	if err := get(h.url("/api/v1/alerts"), &alerts); err != nil {
		errs = append(errs, err)
	} else if len(alerts.Alerts) != 1 || alerts.Alerts[0].State != "firing" {
		errs = append(errs, fmt.Errorf("alerts %v, want one that fires", alerts))
	}
	return errors.Join(errs...)
}

// condition checks the metric and the list of conditions.
func (h *hosted) condition(r row) error {
	var list []struct {
		Code, Effect, NextStep string
		Since                  time.Time
	}
	if err := get(h.url("/api/v1/status/conditions"), &list); err != nil {
		return err
	}
	metrics, err := body(h.url("/metrics"))
	if err != nil {
		return err
	}
	if r.code == "" && len(list) > 0 {
		return fmt.Errorf("conditions %v, want none", list)
	}
	if r.code != "" && (len(list) != 1 || list[0].Code != r.code || !strings.Contains(list[0].Effect, r.effect) || list[0].NextStep == "" ||
		list[0].Since.IsZero() || time.Since(list[0].Since) > time.Minute) {
		return fmt.Errorf("conditions %+v, want %s with %q", list, r.code, r.effect)
	}
	for _, code := range []string{tsdb.ConditionRestoring, tsdb.ConditionReadOnly, tsdb.ConditionFailedSync, tsdb.ConditionQuarantined, tsdb.ConditionMemory} {
		if line := fmt.Sprintf("tidemark_condition{code=%q} 1\n", code); strings.Contains(metrics, line) != (code == r.code) {
			return fmt.Errorf("the metrics say %t of %s", code != r.code, line)
		}
	}
	return nil
}

// answers checks a query, and its warnings.
func (h *hosted) answers(r row) error {
	q := url.Values{"query": {"count_over_time(old[1h])"}, "start": {seconds(r.from)}, "end": {seconds(r.to)}, "step": {"60"}}
	if r.from.IsZero() {
		q.Set("start", seconds(time.Now().Add(-time.Minute)))
		q.Set("end", seconds(time.Now()))
	}
	resp, err := http.Get(h.url("/api/v1/query_range?" + q.Encode()))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Warnings []string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a query is answered %s", resp.Status)
	}
	if all := strings.Join(answer.Warnings, "\n"); (all == "") != (r.warning == "") || !strings.Contains(all, r.warning) {
		return fmt.Errorf("warnings %q, want %q", all, r.warning)
	}
	return nil
}

// evaluated returns when the rules were last evaluated.
func (h *hosted) evaluated() (time.Time, error) {
	var rules struct {
		Groups []struct{ LastEvaluation time.Time }
	}
	if err := get(h.url("/api/v1/rules"), &rules); err != nil {
		return time.Time{}, err
	}
	if len(rules.Groups) != 1 {
		return time.Time{}, fmt.Errorf("%d groups of rules", len(rules.Groups))
	}
	return rules.Groups[0].LastEvaluation, nil
}

func TestTheServerIsReadOnlyWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	h.run(t, 0)
	h.want(t, normal())
	readOnly := row{code: tsdb.ConditionReadOnly, healthy: 200, ready: 200, writes: 503}

	h.disk.SetUsage(1<<20, 1<<40)
	readOnly.effect = "1 MiB of disk are free"
	h.want(t, readOnly)
	h.disk.SetUsage(1<<39, 1<<40)
	h.want(t, normal())

	h.disk.Inject(fsx.Fault{Op: fsx.OpWrite | fsx.OpPreallocate | fsx.OpCreate, Path: "*.seg", Err: syscall.ENOSPC})
	readOnly.effect = "no space left on device"
	h.want(t, readOnly)
	h.disk.Heal()
	h.want(t, normal())
}

func TestTheServerTakesNoWritesAfterAFailedSyncUntilItIsStartedAgain(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	h.run(t, 0)
	h.want(t, normal())
	h.disk.Inject(fsx.Fault{Op: fsx.OpSync, Path: "*.seg", Times: 1, Err: syscall.EIO})
	h.want(t, row{code: tsdb.ConditionFailedSync, healthy: 503, ready: 503, writes: 503})
	if err := h.stop(); err == nil {
		t.Error("a server that could not sync ended as if nothing was wrong")
	}
	h.run(t, 0)
	h.want(t, normal())
}

func TestTheServerServesAroundUnreadableData(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	first := time.Now().Add(-24 * time.Hour).Truncate(2 * time.Hour).Add(time.Hour)
	file := h.oldBlock(t, first)
	h.run(t, 0)
	damaged := normal()
	damaged.code, damaged.from, damaged.to = tsdb.ConditionQuarantined, first, first.Add(9*time.Minute)
	about := fmt.Sprintf("from %s to %s", first.UTC().Format(time.RFC3339), first.Add(9*time.Minute).UTC().Format(time.RFC3339))
	damaged.warning, damaged.effect = about, about

	flipByte(t, file, 40) // of the samples
	h.want(t, damaged)
	flipByte(t, file, 40)
	h.want(t, normal())

	if err := h.stop(); err != nil {
		t.Error(err)
	}
	flipByte(t, file, blockText(t, file, "__name__")) // of the index: it cannot be opened
	h.run(t, 0)
	h.want(t, damaged)
	names, err := filepath.Glob(filepath.Join(h.file("data"), "tidemark", "quarantine", "*.blk"))
	if err != nil || len(names) != 1 {
		t.Fatalf("in quarantine are %q, %v", names, err)
	}
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	h.want(t, normal())
}

// oldBlock makes a block of the series old, of ten minutes, in the data path, and returns its file.
func (h *hosted) oldBlock(t *testing.T, first time.Time) string {
	t.Helper()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: h.file("data")})
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]sample.Ref, 1)
	err = db.Resolve([]labels.Labels{labels.FromStrings(labels.MetricName, "old")}, refs)
	var b sample.Batch
	for i := range int64(10) {
		b.AppendFloat(refs[0], 0, first.UnixMilli()+i*60_000, float64(i*i), 0)
	}
	var r sample.Result
	_, cerr := db.Commit(t.Context(), &b, &r)
	if err := errors.Join(err, cerr, db.Flush(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(h.file("data"), "tidemark", "blocks", "*.blk"))
	if err != nil || len(names) != 1 {
		t.Fatalf("blocks %q, %v", names, err)
	}
	return names[0]
}

// blockText returns where a text is in a file.
func blockText(t *testing.T, file, text string) int64 {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(raw), text)
	if at < 0 {
		t.Fatalf("%q is not in %s", text, file)
	}
	return int64(at)
}

func flipByte(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, rerr := f.ReadAt(b[:], at)
	b[0] ^= 0x10
	_, werr := f.WriteAt(b[:], at)
	if err := errors.Join(rerr, werr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestTheServerRefusesNewSeriesWhileMemoryIsUsedUp(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	h.configure(t, "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\ntidemark: {series_limits: []}\n")
	h.run(t, 24<<20)
	h.want(t, normal())
	pressed := normal()
	pressed.code, pressed.effect = tsdb.ConditionMemory, "new series are refused and counted"
	code := 204
	for i := 0; i < 1000 && code == 204; i++ {
		code, _ = pushStatus(h.url("/api/v1/write"), writeRequest(t, fmt.Sprintf("new_%d", i), 1000, time.Now().UnixMilli(), 1))
	}
	if code != 400 {
		t.Errorf("new series are answered %d, want 400", code)
	}
	// The state ends by itself when nobody asks for more; here somebody goes on.
	var asking sync.WaitGroup
	enough := make(chan struct{})
	asking.Go(func() {
		for i := 1000; ; i++ {
			select {
			case <-enough:
				return
			case <-time.After(100 * time.Millisecond):
			}
			_, _ = pushStatus(h.url("/api/v1/write"), writeRequest(t, fmt.Sprintf("new_%d", i), 1000, time.Now().UnixMilli(), 1))
		}
	})
	h.want(t, pressed)
	close(enough)
	asking.Wait()
	metrics, err := body(h.url("/metrics"))
	if err != nil || strings.Contains(metrics, `tidemark_ingest_samples_total{result="over_limit"} 0`) {
		t.Errorf("what was refused is not counted: %v", err)
	}
	large := url.Values{"query": {`sum by (series, __name__) ({__name__=~"new_.*"})`}}
	if err := status(h.url("/api/v1/query?"+large.Encode()), 422); err != nil {
		t.Error(err)
	}
	h.later.Store(int64(2 * time.Minute))
	h.want(t, normal())
}
