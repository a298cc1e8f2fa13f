// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/ingest/scrape/scrapetest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// The adapter to Prometheus' interfaces takes samples as Prometheus' own storage does.
func TestScrapingFindsInTheStoreWhatItReliesOn(t *testing.T) {
	scrapetest.Run(t, func(t *testing.T, window time.Duration) scrapetest.Store {
		t.Helper()
		db, err := tsdb.Open(t.Context(), tsdb.Options{
			Dir: "/data", FS: fsx.NewCrashable(), Late: tsdb.LateWindows{Scrape: window}, SegmentBytes: 64 << 10,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db.Storage()
	})
}

// scraped is a target that notes when it is scraped.
type scraped struct {
	*httptest.Server

	mu    sync.Mutex
	times []time.Time
}

func newScraped(t *testing.T) *scraped {
	t.Helper()
	s := &scraped{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.times = append(s.times, time.Now())
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, "first 1\n")
	}))
	t.Cleanup(s.Close)
	return s
}

// after returns the first scrape after a time.
func (s *scraped) after(t time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.times {
		if at.After(t) {
			return at, true
		}
	}
	return time.Time{}, false
}

// TestTargetsAreScrapedWithinAnIntervalOfTheStart: also of a start after a kill, and what is scraped is there then. Discovery
// and relabelling wait for nothing: Prometheus takes five seconds more.
func TestTargetsAreScrapedWithinAnIntervalOfTheStart(t *testing.T) {
	t.Parallel()
	const interval, slack = 3 * time.Second, 1500 * time.Millisecond // of a busy machine
	target := newScraped(t)
	s := newInstance(t, fmt.Sprintf("scrape_configs:\n- job_name: j\n  scrape_interval: %s\n  static_configs: [{targets: ['%s']}]\n", interval, target.Listener.Addr()))
	for _, what := range []string{"first start", "start after a kill"} {
		s.start(t)
		began := time.Now() // the process was there before
		eventually(t, time.Minute, "a scrape", func() error {
			if _, ok := target.after(began.Add(-time.Second)); !ok {
				return fmt.Errorf("%s: no scrape", what)
			}
			return nil
		})
		at, _ := target.after(began.Add(-time.Second))
		if took := at.Sub(began); took > interval+slack {
			t.Errorf("%s: the first scrape came %s after the server was ready, the interval is %s", what, took, interval)
		}
		eventually(t, 10*time.Second, "the sample", func() error {
			got, err := instant(s.url(""), "first", time.Now())
			if err == nil && len(got) == 0 {
				err = fmt.Errorf("%s: nothing is stored", what)
			}
			return err
		})
		s.Kill()
	}
}
