// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package graphite_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "github.com/prometheus/client_golang/prometheus/graphite"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push/graphite"
)

func TestBridgeOfPrometheusClientsPushes(t *testing.T) {
	store := &ingesttest.Recorder{}
	addr, stop := listen(t, store, graphite.Options{})
	r := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "temperature", Help: "Degrees."}, []string{"room"})
	g.WithLabelValues("attic").Set(31.5)
	r.MustRegister(g)
	b, err := bridge.NewBridge(&bridge.Config{URL: addr, Gatherer: r, Prefix: "house", UseTags: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Push(); err != nil {
		t.Fatal(err)
	}
	await(t, store, 1)
	stop()
	if rows := store.Rows(); len(rows) != 1 || rows[0].Series != `{__name__="house.temperature", room="attic"}` || rows[0].V != 31.5 {
		t.Errorf("stored %+v", rows)
	}
}

// TestCollectdWrites runs Debian's collectd with its plugin for Graphite.
func TestCollectdWrites(t *testing.T) {
	program, err := exec.LookPath("collectd")
	if err != nil {
		t.Fatal("collectd is not installed: run make deps, or apt-get install --no-install-recommends collectd-core")
	}
	store := &ingesttest.Recorder{}
	addr, stop := listen(t, store, graphite.Options{})
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "collectd.conf")
	text := fmt.Sprintf(`
Hostname "attic"
BaseDir "%s"
PIDFile "%s/pid"
Interval 1
LoadPlugin load
LoadPlugin write_graphite
<Plugin write_graphite>
  <Node "ours">
    Host "%s"
    Port "%s"
    Protocol "tcp"
    Prefix "collectd."
  </Node>
</Plugin>
`, dir, dir, host, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-f", "-C", config)
	var said syncBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for len(store.Rows()) < 6 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	stop()
	rows := store.Rows()
	if len(rows) < 6 {
		t.Fatalf("%d rows in half a minute; collectd said\n%s", len(rows), said.String())
	}
	for _, r := range rows {
		age := time.Since(time.UnixMilli(r.T))
		if !strings.HasPrefix(r.Series, `{__name__="collectd.attic.load.load.`) || r.V < 0 || age < -time.Second || age > 2*time.Minute {
			t.Errorf("stored %+v", r)
		}
	}
}
