// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/limits"
)

// limited is the configuration of a hosted server with these limits.
func limited(list string) string {
	return "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\ntidemark: {series_limits: [" + list + "]}\n"
}

// reload puts a configuration in force.
func (h *hosted) reload(t *testing.T, config string) {
	t.Helper()
	h.configure(t, config)
	if code, text := post(t, h.url("/-/reload"), "", nil); code != http.StatusOK {
		t.Fatalf("reload: %d: %s", code, text)
	}
}

// metric returns the value of a line of /metrics.
func (h *hosted) metric(t *testing.T, series string) string {
	t.Helper()
	text, err := body(h.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in the metrics", series)
	return ""
}

func TestTheServerRefusesNewSeriesBeyondALimitUntilItIsRaised(t *testing.T) {
	t.Parallel()
	h := newHosted(t)
	h.configure(t, limited("{name: metrics, per: __name__, max: 100, action: reject_new}"))
	h.run(t, 0)
	h.want(t, normal())
	write := func(n, want int) {
		t.Helper()
		code, _ := pushStatus(h.url("/api/v1/write"), writeRequest(t, "crowd", n, time.Now().UnixMilli(), 1))
		if code != want {
			t.Errorf("%d series are answered %d, want %d", n, code, want)
		}
	}
	write(100, 204)
	write(150, 400)
	write(100, 204)
	reached := normal()
	reached.code, reached.effect = conditionSeriesLimit, `__name__="crowd" has the 100 series it may have, label series grows: new series are refused`
	h.want(t, reached)
	if got := h.metric(t, `tidemark_ingest_samples_total{result="series_limit"}`); got != "50" {
		t.Errorf("%s samples are counted as beyond a limit, want 50", got)
	}
	if got := h.metric(t, `tidemark_series_limit_hits_total{action="reject_new",limit="metrics"}`); got != "50" {
		t.Errorf("%s hits are counted, want 50", got)
	}
	var status []limits.Status
	if err := get(h.url("/api/v1/status/series_limits"), &status); err != nil {
		t.Fatal(err)
	}
	if len(status) != 1 || status[0].Per != "__name__" || status[0].Series != 100 || status[0].Values[0] != (limits.Value{Value: "crowd", Series: 100}) {
		t.Errorf("limits are %+v", status)
	}
	// What rules record is not kept out, even where it belongs to the value that is at its limit.
	h.write(t, "rules.yml", stateRules+"      - {record: crowd, expr: probe, labels: {recorded: \"yes\"}}\n")
	h.reload(t, limited("{name: metrics, per: __name__, max: 100, action: reject_new}"))
	eventually(t, 20*time.Second, "a rule records", func() error {
		got, err := instant(h.url(""), `crowd{recorded="yes"}`, time.Now())
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
	h.reload(t, limited("{name: metrics, per: __name__, max: 120, action: warn}"))
	h.want(t, normal())
	write(150, 204) // it only warns
	reached.effect = "new series are taken all the same"
	h.want(t, reached)
	h.reload(t, limited("{name: metrics, per: __name__, max: 1000, action: reject_new}"))
	h.want(t, normal())
	write(200, 204)
}

func TestATargetBeyondALimitStaysUp(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 50 {
			_, _ = fmt.Fprintf(w, "crowd{i=\"%d\"} 1\n", i)
		}
	}))
	t.Cleanup(target.Close)
	h := newHosted(t)
	h.configure(t, limited("{name: metrics, per: __name__, max: 20, action: reject_new}")+fmt.Sprintf(
		"scrape_configs: [{job_name: crowd, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]\n", strings.TrimPrefix(target.URL, "http://")))
	h.run(t, 0)
	one := func(expr, want string) func() error {
		return func() error {
			got, err := instant(h.url(""), expr, time.Now())
			if err != nil {
				return err
			}
			for _, points := range got {
				if points[0].V == want {
					return nil
				}
			}
			return fmt.Errorf("%s: %v", expr, got)
		}
	}
	eventually(t, 20*time.Second, "as many series as the limit allows", one("count(count_over_time(crowd[1m]) > 3)", "20"))
	if err := one("min_over_time(up[1m])", "1")(); err != nil {
		t.Error(err)
	}
}

func TestTheAutomaticLimitFollowsFromMemory(t *testing.T) {
	check := func(memory int64, want int) {
		t.Helper()
		if got := autoSeries(memory); got != want {
			t.Errorf("%d bytes: %d series, want %d", memory, got, want)
		}
	}
	check(0, int(^uint(0)>>1))
	check(1, 1)
	check(2<<30*60/100, 1_006_632)
	if l := config.DefaultSettings().SeriesLimits[0]; l.Name != "total" || !l.Max.Auto || l.Action != "reject_new" {
		t.Errorf("the first limit by default is %+v", l)
	}
}
