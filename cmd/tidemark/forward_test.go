// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
	"github.com/tidemarkdb/tidemark/ingest/forward"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestRemoteWriteReachesPrometheusOverOutagesAndKills sends what comes on to a Prometheus, which is away for a while; in
// that time the server is killed and started again. In the end Prometheus has every sample, once.
func TestRemoteWriteReachesPrometheusOverOutagesAndKills(t *testing.T) {
	for _, message := range []string{"prometheus.WriteRequest", "io.prometheus.write.v2.Request"} {
		t.Run(message, func(t *testing.T) {
			dir, addr := t.TempDir(), peers.FreeAddr(t)
			config := filepath.Join(dir, "prometheus.yml")
			if err := os.WriteFile(config, []byte("global: {scrape_interval: 1m}\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			receiver := peers.Spec{
				Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: t,
				Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--web.enable-remote-write-receiver"},
			}
			far := peers.Start(t, receiver)
			s := newInstance(t, fmt.Sprintf(`
global: {external_labels: {from: tidemark}}
remote_write:
- url: http://%s/api/v1/write
  protobuf_message: %s
  queue_config: {batch_send_deadline: 100ms, max_backoff: 200ms}
`, addr, message), "--storage.remote.flush-deadline=1ms")
			s.start(t)
			const series = 50
			now, n := time.Now().Add(-time.Minute), 0
			commit := func() {
				t.Helper()
				at := now.Add(time.Duration(n) * time.Second).UnixMilli()
				if err := push(s.url("/api/v1/write"), writeRequest(t, "m", series, at, float64(n))); err != nil {
					t.Fatal(err)
				}
				n++
			}
			arrived := func() {
				t.Helper()
				eventually(t, 20*time.Second, fmt.Sprintf("%d samples of %d series", n, series), func() error {
					got, err := instant("http://"+addr, `count_values("samples", count_over_time(m{from="tidemark"}[1h]))`, time.Now())
					if err != nil {
						return err
					}
					if p := got[fmt.Sprintf("samples=%q ", fmt.Sprint(n))]; len(p) != 1 || p[0].V != fmt.Sprint(series) {
						return fmt.Errorf("%v", got)
					}
					return nil
				})
			}
			commit()
			arrived()
			far.Stop(t)
			for range 5 {
				commit()
			}
			s.Kill()
			s.start(t)
			for range 5 {
				commit()
			}
			peers.Start(t, receiver)
			commit()
			arrived()
			s.Stop(t)
			s.start(t)
			commit()
			arrived()
		})
	}
}

func TestNamesOfForwardedSeriesTakeNoRoomFromRows(t *testing.T) {
	s := &server{opts: &options{}, memory: budget.NewRoot("process", 1<<30), log: slog.New(slog.DiscardHandler)}
	o := s.forwardOptions(nil)
	if err := o.Beyond.Reserve(200 << 20); err != nil {
		t.Fatal(err)
	}
	if used, whole := o.Account.Used(), s.memory.Used(); used != 0 || whole != 200<<20 {
		t.Errorf("names take %d bytes of those of rows, and %d of the process'", used, whole)
	}
}

// counter is a receiver of remote write that counts the requests that it takes.
type counter struct {
	*httptest.Server
	away  atomic.Bool
	taken atomic.Int64
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	x := &counter{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if x.away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		x.taken.Add(1)
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *counter) config() string {
	return "remote_write: [{url: '" + x.URL + "', metadata_config: {send: false}, queue_config: {batch_send_deadline: 10ms, max_backoff: 50ms}}]\n"
}

// pushed sends a sample to a server.
func pushed(t *testing.T, s *instance) {
	t.Helper()
	if err := push(s.url("/api/v1/write"), writeRequest(t, "m", 1, time.Now().UnixMilli(), 1)); err != nil {
		t.Fatal(err)
	}
}

// reloadAs reloads a configuration.
func reloadAs(t *testing.T, s *instance, config string, want int) {
	t.Helper()
	s.configure(t, config)
	if code, text := post(t, s.url("/-/reload"), "", nil); code != want {
		t.Fatalf("reload: %d %s, want %d", code, text, want)
	}
}

func (x *counter) await(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "the receiver has what was pushed", func() error {
		if x.taken.Load() == 0 {
			return fmt.Errorf("it has taken no request")
		}
		return nil
	})
}

func TestARefusedReloadKeepsWhatWaitsForAReceiver(t *testing.T) {
	to := newCounter(t)
	to.away.Store(true)
	s := newInstance(t, to.config(), "--storage.remote.flush-deadline=1ms")
	s.start(t)
	pushed(t, s)
	reloadAs(t, s, "remote_read: [{url: 'http://x'}, {url: 'http://x'}]\n", http.StatusInternalServerError)
	reloadAs(t, s, to.config(), http.StatusOK)
	to.away.Store(false)
	to.await(t)
}

func TestShadowActsAfterARestartAlone(t *testing.T) {
	to := newCounter(t)
	s := newInstance(t, "")
	s.start(t)
	const shadow = "tidemark: {shadow: true}\n"
	reloadAs(t, s, shadow, http.StatusOK)
	reloadAs(t, s, shadow+to.config(), http.StatusOK)
	pushed(t, s)
	to.await(t)
}

// oneSeries is a store of one series.
type oneSeries struct{}

func (oneSeries) LabelsOf(sample.Ref) (labels.Labels, bool) {
	return labels.FromStrings("__name__", "m"), true
}

func (oneSeries) Description(string) (sample.Metadata, bool) {
	return sample.Metadata{}, false
}
func (oneSeries) LastLSN() sample.LSN { return 0 }

func TestSamplesThatAreNotForwardedAreACondition(t *testing.T) {
	disk := fsx.NewFaulty(fsx.OS())
	f, err := forward.New(forward.Options{FS: disk, Dir: t.TempDir(), Store: oneSeries{}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := promconfig.Load(newCounter(t).config(), slog.New(slog.DiscardHandler))
	if err == nil {
		err = f.ApplyConfig(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &server{forwarder: f}
	if got := s.forwardConditions(); len(got) != 0 {
		t.Errorf("conditions %+v", got)
	}
	disk.Inject(fsx.Fault{Op: fsx.OpWrite, Err: syscall.EIO})
	eventually(t, 20*time.Second, "a condition", func() error {
		var b sample.Batch
		b.AppendFloat(sample.MakeRef(1, 1), 0, 1, 1, 0)
		f.Accepted(1, &b, &sample.Result{})
		got := s.forwardConditions()
		if len(got) != 1 || got[0].Code != "remote_write_queue" || got[0].Since.IsZero() || !strings.Contains(got[0].Effect, "not forwarded") {
			return fmt.Errorf("conditions %+v", got)
		}
		return nil
	})
	disk.Heal()
	if err := f.Close(); err == nil {
		t.Error("a queue that has failed was closed well")
	}
}
