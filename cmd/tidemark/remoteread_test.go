// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// TestHistoryInAPrometheusStaysVisible leaves samples in a Prometheus and asks for them here, over remote_read: in queries,
// of rules too, and in the series API.
func TestHistoryInAPrometheusStaysVisible(t *testing.T) {
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 1m}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	far := peers.Start(t, peers.Spec{
		Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: t,
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--web.enable-remote-write-receiver"},
	})
	begin := time.Now().Add(-20 * time.Minute).Truncate(time.Second)
	for i := range 10 {
		at := begin.Add(time.Duration(i) * time.Minute).UnixMilli()
		if err := push("http://"+addr+"/api/v1/write", writeRequest(t, "m", 3, at, float64(i))); err != nil {
			t.Fatal(err)
		}
	}
	s := newInstance(t, fmt.Sprintf(`
global: {evaluation_interval: 1s}
rule_files: [rules.yml]
remote_read:
- {name: history, url: "http://%s/api/v1/read"}
`, addr))
	s.write(t, "rules.yml", "groups: [{name: g, rules: [{record: seen, expr: 'sum(count_over_time(m[1h]))'}]}]\n")
	s.start(t)
	for i := 10; i < 20; i++ {
		at := begin.Add(time.Duration(i) * time.Minute).UnixMilli()
		if err := push(s.url("/api/v1/write"), writeRequest(t, "m", 3, at, float64(i))); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(expr, want string) {
		t.Helper()
		eventually(t, 20*time.Second, expr, func() error {
			got, err := instant(s.url(""), expr, time.Now())
			if err != nil {
				return err
			}
			for _, p := range got {
				if len(got) == 1 && len(p) == 1 && p[0].V == want {
					return nil
				}
			}
			return fmt.Errorf("%v, want %s", got, want)
		})
	}
	expect("sum(count_over_time(m[1h]))", "60")
	expect("min(min_over_time(m[1h]))", "0")
	expect("last_over_time(seen[1m])", "60")
	var series []map[string]string
	if err := get(s.url("/api/v1/series?match[]=m&start="+fmt.Sprint(begin.Unix()-60)+"&end="+fmt.Sprint(begin.Unix()+60)), &series); err != nil || len(series) != 3 {
		t.Errorf("series of a time that only the other one has: %v (%v)", series, err)
	}
	far.Stop(t)
	expect("sum(count_over_time(m[1h]))", "30") // with a warning: what the store has is answered
}
