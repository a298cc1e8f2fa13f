// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// setD is what node exporters of that many nodes tell at 15 s, about 250 series each. It ends ten minutes after now,
// so that a dashboard can be refreshed without waiting.
func setD(nodes, hours int) *dataset {
	d := &dataset{name: "D", interval: 15_000, scrapes: hours*240 + 40}
	d.start = time.Now().Add(-time.Duration(hours) * time.Hour).Truncate(time.Minute).UnixMilli()
	for n := range nodes {
		instance := fmt.Sprintf("node-%03d:9100", n)
		add := func(name string, kv ...string) {
			d.series = append(d.series, labels.FromStrings(append(kv, "__name__", name, "job", "node", "instance", instance)...))
		}
		for cpu := range 16 {
			for _, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
				add("node_cpu_seconds_total", "cpu", fmt.Sprint(cpu), "mode", mode)
			}
		}
		for _, m := range []string{"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SReclaimable", "SwapTotal", "SwapFree", "Active", "Inactive", "Dirty", "Slab"} {
			add("node_memory_" + m + "_bytes")
		}
		for _, m := range []string{"load1", "load5", "load15", "procs_running", "procs_blocked", "context_switches_total", "intr_total", "forks_total", "filefd_allocated", "filefd_maximum", "boot_time_seconds", "time_seconds"} {
			add("node_" + m)
		}
		for _, device := range []string{"eth0", "eth1", "lo"} {
			for _, m := range []string{"receive_bytes", "transmit_bytes", "receive_packets", "transmit_packets", "receive_errs", "transmit_errs", "receive_drop", "transmit_drop"} {
				add("node_network_"+m+"_total", "device", device)
			}
		}
		for _, device := range []string{"nvme0n1", "nvme1n1", "sda"} {
			for _, m := range []string{"reads_completed_total", "writes_completed_total", "read_bytes_total", "written_bytes_total", "io_time_seconds_total", "read_time_seconds_total", "write_time_seconds_total", "io_now"} {
				add("node_disk_"+m, "device", device)
			}
		}
		for _, mount := range []string{"/", "/boot", "/data", "/var"} {
			for _, m := range []string{"avail_bytes", "size_bytes", "files", "files_free", "readonly"} {
				add("node_filesystem_"+m, "mountpoint", mount, "fstype", "ext4", "device", "nvme0n1p1")
			}
		}
	}
	d.value = func(s, i int) (float64, bool) {
		if strings.HasSuffix(d.series[s].Get("__name__"), "_total") {
			return float64(i*(5+s%11)) + float64((i*s)%7), true
		}
		return 1e6 + float64((i*(s%13+1))%1000), true
	}
	return d
}

// panels are the queries of a dashboard that shows one node.
func panels(instance string) []string {
	texts := []string{
		`100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle", $}[5m])))`,
		`sum by (mode) (rate(node_cpu_seconds_total{$}[5m])) / scalar(count(count by (cpu) (node_cpu_seconds_total{$})))`,
		`avg by (cpu) (1 - rate(node_cpu_seconds_total{mode="idle", $}[5m]))`,
		`node_load1{$}`,
		`node_load5{$} / count by (instance) (node_cpu_seconds_total{mode="idle", $})`,
		`node_memory_MemTotal_bytes{$} - node_memory_MemFree_bytes{$} - (node_memory_Cached_bytes{$} + node_memory_Buffers_bytes{$} + node_memory_SReclaimable_bytes{$})`,
		`100 * (1 - node_memory_MemAvailable_bytes{$} / node_memory_MemTotal_bytes{$})`,
		`node_memory_SwapTotal_bytes{$} - node_memory_SwapFree_bytes{$}`,
		`node_memory_Active_bytes{$}`,
		`node_memory_Slab_bytes{$}`,
		`rate(node_network_receive_bytes_total{$}[5m]) * 8`,
		`-rate(node_network_transmit_bytes_total{$}[5m]) * 8`,
		`rate(node_network_receive_packets_total{$}[5m])`,
		`rate(node_network_receive_errs_total{$}[5m]) + rate(node_network_receive_drop_total{$}[5m])`,
		`rate(node_disk_reads_completed_total{$}[5m])`,
		`rate(node_disk_written_bytes_total{$}[5m])`,
		`rate(node_disk_io_time_seconds_total{$}[5m])`,
		`rate(node_disk_read_time_seconds_total{$}[5m]) / rate(node_disk_reads_completed_total{$}[5m])`,
		`100 - node_filesystem_avail_bytes{fstype!="rootfs", $} * 100 / node_filesystem_size_bytes{fstype!="rootfs", $}`,
		`node_filesystem_files_free{$}`,
		`rate(node_context_switches_total{$}[5m])`,
		`rate(node_intr_total{$}[5m])`,
		`max_over_time(node_procs_running{$}[5m])`,
		`node_filefd_allocated{$} / node_filefd_maximum{$}`,
	}
	for i, x := range texts {
		texts[i] = strings.ReplaceAll(x, "$", `instance="`+instance+`", job="node"`)
	}
	return texts
}

// BenchmarkRefresh is entry 33 of the table: a dashboard of 24 panels over BENCH_HOURS (24) at a minute is refreshed ten
// times, half a minute on each time, by our engine with its cache and by Prometheus'. "first" is what filled the cache,
// "late" the refresh after a sample of an hour ago came. Times are aligned to the step as dashboards do that. The time
// of the storage stands still meanwhile, so that what may not be kept yet grows by half a minute with each refresh.
func BenchmarkRefresh(b *testing.B) {
	d := setD(envInt("BENCH_NODES", 5), envInt("BENCH_HOURS", 24))
	st, db := benchPrometheus(b, d), benchTidemark(b, d)
	peer := querytest.NewReference(query.Options{MaxSamples: 1 << 40, Features: benchFeatures()})
	now, span, step := time.Now(), time.Duration(envInt("BENCH_HOURS", 24))*time.Hour, time.Minute
	show := func(e promql.QueryEngine, q storage.Queryable, at time.Time) cost {
		end := at.Truncate(step)
		return spent(func() {
			for _, text := range panels("node-001:9100") {
				pq := must(b)(e.NewRangeQuery(context.Background(), q, nil, text, end.Add(-span+10*time.Minute), end, step))
				stream(b, pq)
				pq.Close()
			}
		})
	}
	refresh := func(b *testing.B, name string, late bool, times int) {
		b.Run(name, func(b *testing.B) {
			var t, o []cost
			for b.Loop() {
				engine := query.NewEngine(db, query.Options{MaxSamples: 1 << 40, Features: benchFeatures(), ResultCache: 256 << 20})
				for i := range times {
					if i > 0 || times == 1 {
						t = append(t, show(peer, st, now.Add(time.Duration(i)*30*time.Second)))
					}
					if late && i > 0 {
						writeLate(b, db.Storage(), d, now.Add(-time.Hour+time.Duration(len(o)+1)*time.Millisecond))
					}
					c := show(engine, nil, now.Add(time.Duration(i)*30*time.Second))
					if i > 0 || times == 1 {
						o = append(o, c)
					}
				}
				if err := engine.Close(); err != nil {
					b.Fatal(err)
				}
			}
			report(b, t, o)
			b.ReportMetric(0, "ns/op")
		})
	}
	refresh(b, "first", false, 1)
	refresh(b, "again", false, 11)
	refresh(b, "late", true, 4)
}

// discard is a sink that has no use for what it gets: Prometheus' engine does not encode its answers either.
type discard struct{}

func (discard) Begin(parser.ValueType) error { return nil }
func (discard) Row(*exec.Row) error          { return nil }
func (discard) Scalar(int64, float64) error  { return nil }
func (discard) Text(int64, string) error     { return nil }

// stream runs a query as a server does where the engine can.
func stream(b *testing.B, pq promql.Query) {
	b.Helper()
	if q, ok := pq.(*query.Query); ok {
		if _, err := q.Stream(context.Background(), discard{}); err != nil {
			b.Fatalf("%s: %v", q, err)
		}
		return
	}
	if res := pq.Exec(context.Background()); res.Err != nil {
		b.Fatalf("%s: %v", pq, res.Err)
	}
}

// writeLate adds a sample to a series of the node shown.
func writeLate(b *testing.B, st storage.Storage, d *dataset, at time.Time) {
	b.Helper()
	app := st.AppenderV2(context.Background())
	for _, ls := range d.series {
		if ls.Get("instance") == "node-001:9100" && ls.Get("cpu") == "3" {
			if _, err := app.Append(0, ls, 0, at.UnixMilli(), 1, nil, nil, storage.AOptions{}); err != nil {
				b.Fatal(err)
			}
			break
		}
	}
	if err := app.Commit(); err != nil {
		b.Fatal(err)
	}
}
