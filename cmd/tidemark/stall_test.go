// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
	"github.com/tidemarkdb/tidemark/ingest/remotewrite"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// stallLength is for how long a server stands still: so long as said, or five minutes in the long tests.
func stallLength(usual time.Duration) time.Duration {
	if os.Getenv("TIDEMARK_TEST") == "long" {
		return 5 * time.Minute
	}
	return usual
}

// startSender starts a Prometheus that scrapes itself every second and writes all of it to a server of ours, with the
// default settings of remote write. It returns its URL.
func startSender(t *testing.T, to *instance) string {
	t.Helper()
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: self\n  static_configs: [{targets: [%q]}]\nremote_write:\n- url: %s\n",
		addr, to.url("/api/v1/write"))
	path := filepath.Join(dir, "p.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	peers.Start(t, peers.Spec{
		Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready",
		Args: []string{"--config.file=" + path, "--storage.tsdb.path=data", "--web.listen-address=" + addr},
	})
	return "http://" + addr
}

// TestSendersLoseNothingThroughAStall lets the store stand still while a Prometheus writes to it, and compares in the end all
// that this Prometheus has with what came.
func TestSendersLoseNothingThroughAStall(t *testing.T) {
	t.Run("of the disk", func(t *testing.T) {
		t.Parallel()
		h := newHosted(t)
		h.run(t, 0)
		sender := startSender(t, h.instance)
		begin := arrives(t, h.instance)
		stall := make(chan struct{})
		h.disk.Inject(fsx.Fault{Op: fsx.OpSync, Stall: stall})
		stalled := time.Now()
		told := false
		for time.Since(stalled) < stallLength(remotewrite.DefaultCommitTimeout+4*time.Second) {
			told = told || h.clients.Load() == 503 && h.retry.Load()
			time.Sleep(100 * time.Millisecond)
		}
		if _, err := instant(h.url(""), "up", time.Now()); err != nil {
			t.Errorf("queries while the disk stands still: %v", err)
		}
		close(stall)
		if !told {
			t.Error("no sender was told to come again later")
		}
		sameAs(t, h.instance, sender, begin)
	})
	t.Run("of the process, which is killed then", func(t *testing.T) {
		t.Parallel()
		s := newInstance(t, "scrape_configs: []\n")
		s.start(t)
		sender := startSender(t, s)
		begin := arrives(t, s)
		s.Signal(t, syscall.SIGSTOP)
		time.Sleep(stallLength(10 * time.Second))
		s.Kill()
		s.start(t)
		sameAs(t, s, sender, begin)
	})
}

// arrives waits for the first samples, and returns when that was.
func arrives(t *testing.T, s *instance) time.Time {
	t.Helper()
	eventually(t, time.Minute, "samples arrive", func() error {
		got, err := instant(s.url(""), `up{job="self"}`, time.Now())
		if err == nil && len(got) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	return time.Now()
}

// sameAs waits until a server of ours has all that a Prometheus has of the time from begin to now.
func sameAs(t *testing.T, s *instance, sender string, begin time.Time) {
	t.Helper()
	end := time.Now()
	window := url.Values{
		"query": {fmt.Sprintf(`{job="self"}[%dms]`, end.Sub(begin).Milliseconds())}, "time": {seconds(end)},
	}
	want := all(t, sender, window)
	samples := 0
	for _, points := range want {
		samples += len(points)
	}
	if least := int(end.Sub(begin).Seconds()) * 100; samples < least {
		t.Fatalf("Prometheus has %d samples, the test wants at least %d", samples, least)
	}
	eventually(t, 2*time.Minute, "all of it has come", func() error {
		got := all(t, s.url(""), window)
		if diff := cmp.Diff(want, got); diff != "" {
			lines := strings.SplitN(diff, "\n", 30)
			return fmt.Errorf("%d series, want %d with %d samples:\n%s", len(got), len(want), samples, strings.Join(lines[:len(lines)-1], "\n"))
		}
		return nil
	})
	t.Logf("%d samples of %d series are the same", samples, len(want))
}

func all(t *testing.T, base string, params url.Values) answer {
	t.Helper()
	got, err := ask(base, "/api/v1/query", params)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
