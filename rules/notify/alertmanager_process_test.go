// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const alertmanagerBinary = "/usr/bin/prometheus-alertmanager"

// startAlertmanager runs Debian's Alertmanager, which posts to hook, and returns its address.
func startAlertmanager(t *testing.T, hook string) string {
	t.Helper()
	if _, err := os.Stat(alertmanagerBinary); err != nil {
		t.Fatalf("%s is missing: install the Debian package prometheus-alertmanager (make test does)", alertmanagerBinary)
	}
	dir := t.TempDir()
	conf := fmt.Sprintf(`
route: {receiver: hook, group_wait: 1s, group_interval: 1s, group_by: [alertname]}
receivers: [{name: hook, webhook_configs: [{url: %q}]}]
`, hook)
	if err := os.WriteFile(filepath.Join(dir, "am.yml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	log := &lockedBuffer{}
	cmd := exec.Command(alertmanagerBinary, "--config.file="+filepath.Join(dir, "am.yml"), "--storage.path="+dir,
		"--web.listen-address="+address, "--cluster.listen-address=")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	eventually(t, "Alertmanager is ready", func() bool {
		resp, err := http.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	http.DefaultClient.CloseIdleConnections()
	return "http://" + address
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRealAlertmanagerTakesAlertsAndTheirEnd(t *testing.T) {
	hook := newReceiver(t)
	am := startAlertmanager(t, hook.URL)
	r := start(t, Options{})
	r.apply(amConfig(1))
	r.discover(am)
	a := firing("A", "zone", `x"\ü`)
	a.StartsAt = time.Now().Add(-time.Minute).UTC()
	r.notify(a)
	shown := func() string {
		resp, err := http.Get(am + "/api/v2/alerts")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var alerts []struct {
			Labels       map[string]string `json:"labels"`
			Annotations  map[string]string `json:"annotations"`
			StartsAt     time.Time         `json:"startsAt"`
			EndsAt       time.Time         `json:"endsAt"`
			GeneratorURL string            `json:"generatorURL"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, x := range alerts {
			if d := x.EndsAt.Sub(a.EndsAt).Abs() + x.StartsAt.Sub(a.StartsAt).Abs(); d > 2*time.Millisecond {
				t.Errorf("times are off by %v", d)
			}
			out = append(out, fmt.Sprint(x.Labels, x.Annotations, x.GeneratorURL))
		}
		return strings.Join(out, "\n")
	}
	want := fmt.Sprint(map[string]string{"alertname": "A", "zone": `x"\ü`}, map[string]string{"summary": "about A"}, a.GeneratorURL)
	eventually(t, "Alertmanager shows the alert", func() bool { return shown() == want })
	eventually(t, "its webhook gets firing", func() bool { return hook.count() >= 1 })
	a.EndsAt = time.Now().UTC()
	r.notify(a)
	eventually(t, "its webhook gets resolved", func() bool {
		m := hook.messages(t)
		return m[len(m)-1].Status == "resolved"
	})
	http.DefaultClient.CloseIdleConnections()
}
