// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// dataset is what a group of benchmarks reads. Values are those of series s at scrape i.
type dataset struct {
	name     string
	start    int64 // of the first scrape
	interval int64 // milliseconds
	scrapes  int
	series   []labels.Labels
	value    func(s, i int) (v float64, ok bool)
	hist     func(s, i int) *histogram.Histogram // nil for floats
}

// end is the time of the last scrape.
func (d *dataset) end() int64 { return d.start + int64(d.scrapes-1)*d.interval }

// load appends the set to a storage, scrape by scrape as a server would, a hundred scrapes to a commit.
func (d *dataset) load(b *testing.B, st storage.Storage) {
	b.Helper()
	refs := make([]storage.SeriesRef, len(d.series))
	app := st.AppenderV2(context.Background())
	for i := range d.scrapes {
		for s, ls := range d.series {
			var h *histogram.Histogram
			v, ok := 0.0, true
			if d.hist != nil {
				h = d.hist(s, i)
			} else {
				v, ok = d.value(s, i)
			}
			if !ok {
				continue
			}
			ref, err := app.Append(refs[s], ls, 0, d.start+int64(i)*d.interval, v, h, nil, storage.AOptions{})
			if err != nil {
				b.Fatal(err)
			}
			refs[s] = ref
		}
		if i%100 == 99 || i == d.scrapes-1 {
			if err := app.Commit(); err != nil {
				b.Fatal(err)
			}
			app = st.AppenderV2(context.Background())
		}
	}
}

// setP is the data of Prometheus' own range query benchmarks: gauges, classic histograms of ten buckets, and a metric
// of which each series lives for a fiftieth of the time.
func setP() *dataset {
	d := &dataset{name: "P", interval: 10_000, scrapes: 18_640}
	add := func(kv ...string) { d.series = append(d.series, labels.FromStrings(kv...)) }
	for i := range 100 {
		l := strconv.Itoa(i)
		add("__name__", "a_hundred", "l", l)
		add("__name__", "b_hundred", "l", l)
		for j := range 10 {
			add("__name__", "h_hundred", "l", l, "le", strconv.Itoa(j))
		}
		add("__name__", "h_hundred", "l", l, "le", "+Inf")
	}
	dense := len(d.series)
	for i := range 50 {
		add("__name__", "sparse", "l", strconv.Itoa(i))
	}
	d.value = func(s, i int) (float64, bool) {
		if s < dense {
			return float64(i) + float64(s)/float64(dense), true
		}
		return float64(i), i/(d.scrapes/50) == s-dense
	}
	return d
}

// setT has a thousand pods of three containers, a response counter for each and eleven buckets each.
func setT() *dataset {
	d := &dataset{name: "T", interval: 30_000, scrapes: 720}
	for p := range 1000 {
		pod := "pod-" + strconv.Itoa(p)
		for c := range 3 {
			d.series = append(d.series, labels.FromStrings("__name__", "http_requests_total", "pod", pod, "container", "c"+strconv.Itoa(c)))
		}
		d.series = append(d.series, labels.FromStrings("__name__", "http_responses_total", "pod", pod))
		for j := range 11 {
			le := strconv.FormatFloat(math.Pow(2, float64(j-5)), 'g', -1, 64)
			if j == 10 {
				le = "+Inf"
			}
			d.series = append(d.series, labels.FromStrings("__name__", "http_response_seconds_bucket", "pod", pod, "le", le))
		}
	}
	d.value = func(s, i int) (float64, bool) { return float64(i*(1+s%7) + s%15), true }
	return d
}

// setJ has two metrics of a thousand series with eight labels that join one to one.
func setJ(scrapes int) *dataset {
	d := &dataset{name: "J", interval: 10_000, scrapes: scrapes}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		instance := fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
		for _, name := range []string{"rpc_request_success_total", "rpc_request_error_total"} {
			d.series = append(d.series, labels.FromStrings("__name__", name, "instance", instance, "job", "worker",
				"environment", "staging", "cluster", "one", "namespace", "main", "rpc_method", "fetch", "domain", "example"))
		}
	}
	d.value = func(s, i int) (float64, bool) { return float64(i*3 + s), true }
	return d
}

// setN has native histograms.
func setN(series, scrapes int) *dataset {
	d := &dataset{name: "N", interval: 15_000, scrapes: scrapes}
	for s := range series {
		d.series = append(d.series, labels.FromStrings("__name__", "native_histogram_series", "l", strconv.Itoa(s)))
	}
	d.hist = func(_, i int) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(int64(i)) }
	return d
}

// setI has a hundred info series and three counters for each.
func setI() *dataset {
	d := &dataset{name: "I", interval: 2_000, scrapes: 3600}
	for i := range 100 {
		instance, job := "instance"+strconv.Itoa(i), "job"+strconv.Itoa(i%10)
		d.series = append(d.series, labels.FromStrings("__name__", "target_info", "instance", instance, "job", job,
			"k8s_cluster_name", "cluster"+strconv.Itoa(i%3)))
		for _, code := range []string{"200", "400", "500"} {
			d.series = append(d.series, labels.FromStrings("__name__", "http_server_request_duration_seconds_count",
				"instance", instance, "job", job, "http_status_code", code))
		}
	}
	d.value = func(s, i int) (float64, bool) {
		if s%4 == 0 {
			return 1, true
		}
		return float64(i * (s%5 + 1)), true
	}
	return d
}

// setK is a Kubernetes cluster of that many nodes, each of which brings about 1,300 series, over hours at 15 s.
func setK(nodes, hours int) *dataset {
	d := &dataset{name: "K", interval: 15_000, scrapes: hours * 240}
	var slope []float64
	add := func(rate float64, kv ...string) {
		d.series, slope = append(d.series, labels.FromStrings(append(kv, "cluster", "prod")...)), append(slope, rate)
	}
	for n := range nodes {
		node := fmt.Sprintf("node-%03d", n)
		instance := node + ":9100"
		for cpu := range 16 {
			for m, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
				add(float64(m+1)*0.7, "__name__", "node_cpu_seconds_total", "job", "node", "instance", instance, "cpu", strconv.Itoa(cpu), "mode", mode)
			}
		}
		for _, mount := range []string{"/", "/boot", "/data", "/var"} {
			for _, name := range []string{"node_filesystem_avail_bytes", "node_filesystem_readonly", "node_filesystem_size_bytes"} {
				add(-1000, "__name__", name, "job", "node", "instance", instance, "mountpoint", mount, "fstype", "ext4")
			}
		}
		for p := range 40 {
			pod := fmt.Sprintf("app-%d-%03d", p, n)
			ns := "ns-" + strconv.Itoa(p%10)
			add(0, "__name__", "kube_pod_info", "job", "kube-state-metrics", "namespace", ns, "pod", pod, "node", node)
			for c := range 3 {
				for _, name := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_fs_reads_total"} {
					add(float64(c)+0.25, "__name__", name, "job", "kubelet", "namespace", ns, "pod", pod, "container", "c"+strconv.Itoa(c), "image", "img", "node", node)
				}
			}
		}
		for v, verb := range []string{"LIST", "GET", "POST", "PUT"} {
			for r := range 5 {
				for le := range 12 {
					bound := strconv.FormatFloat(math.Pow(2, float64(le-6)), 'g', -1, 64)
					if le == 11 {
						bound = "+Inf"
					}
					add(float64(le+v), "__name__", "apiserver_request_sli_duration_seconds_bucket", "job", "apiserver", "instance", node, "verb", verb, "resource", "r"+strconv.Itoa(r), "le", bound)
				}
				for _, code := range []string{"200", "404", "500"} {
					add(float64(r+1), "__name__", "apiserver_request_total", "job", "apiserver", "instance", node, "verb", verb, "resource", "r"+strconv.Itoa(r), "code", code)
				}
			}
		}
	}
	d.value = func(s, i int) (float64, bool) {
		if slope[s] == 0 {
			return 1, true
		}
		if slope[s] < 0 {
			return 1e10 + slope[s]*float64(i), true
		}
		return slope[s]*float64(i) + float64((i*s)%3)*slope[s]/4, true
	}
	return d
}
