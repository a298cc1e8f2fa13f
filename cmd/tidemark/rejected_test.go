// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRejectedSamplesAreShownWithTheirSenders asks the API for what was not stored.
func TestRejectedSamplesAreShownWithTheirSenders(t *testing.T) {
	const config = "storage: {tsdb: {out_of_order_time_window: 0s}}\n"
	s := newInstance(t, config)
	s.start(t)
	type rejection struct {
		Reason   string
		Samples  int
		Examples []struct {
			Labels                   map[string]string
			Time, Received           time.Time
			Detail, Protocol, Sender string
		}
	}
	var got []rejection
	if err := get(s.url("/api/v1/status/rejected"), &got); err != nil || len(got) != 0 {
		t.Fatalf("at the start: %v, %v", got, err)
	}
	now := time.Now().UnixMilli()
	if err := push(s.url("/api/v1/write"), writeRequest(t, "m", 3, now, 1)); err != nil {
		t.Fatal(err)
	}
	far := time.Now().Add(time.Hour).UnixMilli()
	for _, at := range []int64{now - 60_000, now - 50_000, far} {
		if err := push(s.url("/api/v1/write"), writeRequest(t, "m", 3, at, 1)); !errors.Is(err, errRefused) {
			t.Fatalf("a sample %d ms after the first: %v", at-now, err)
		}
	}
	if err := get(s.url("/api/v1/status/rejected"), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Samples != 6 || got[1].Reason != "too_new" || got[1].Samples != 3 {
		t.Fatalf("%+v", got)
	}
	for i, at := range []int64{now - 50_000, now - 60_000} {
		e := got[0].Examples[i]
		if e.Time.UnixMilli() != at || e.Labels["__name__"] != "m" || !strings.HasPrefix(e.Sender, "127.0.0.1:") ||
			e.Protocol != "prometheus.WriteRequest" || time.Since(e.Received) > time.Minute {
			t.Errorf("example %d is %+v", i, e)
		}
	}
	text, err := body(s.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`prometheus_tsdb_out_of_order_samples_total{type="float"} 6`,
		`prometheus_tsdb_out_of_bound_samples_total{type="float"} 3`,
		`prometheus_tsdb_too_old_samples_total{type="histogram"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// A target whose clock goes backwards.
	clock := time.Now().UnixMilli()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		clock -= 1000
		_, _ = fmt.Fprintf(w, "backwards 1 %d\n", clock)
	}))
	t.Cleanup(target.Close)
	s.configure(t, config+fmt.Sprintf("scrape_configs: [{job_name: j, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]\n", strings.TrimPrefix(target.URL, "http://")))
	if code, text := post(t, s.url("/-/reload"), "", nil); code != http.StatusOK {
		t.Fatalf("reload: %d: %s", code, text)
	}
	eventually(t, 30*time.Second, "a scraped sample is rejected", func() error {
		if err := get(s.url("/api/v1/status/rejected"), &got); err != nil {
			return err
		}
		for _, e := range got[0].Examples {
			if e.Protocol == "scrape" && e.Sender == target.URL+"/metrics" && e.Labels["__name__"] == "backwards" && got[0].Reason == "out_of_order" {
				return nil
			}
		}
		return fmt.Errorf("%+v", got)
	})
}
