// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
)

// fleetHost returns the series of one host of a fleet as node exporters and services show them: 427 series of 8
// to 11 labels, in the order of a scrape.
func fleetHost(h int) []labels.Labels {
	base := []labels.Label{
		{Name: "cluster", Value: fmt.Sprintf("eu-west-%d", h%4)},
		{Name: "env", Value: []string{"prod", "staging", "dev"}[h%3]},
		{Name: "instance", Value: fmt.Sprintf("host-%05d.example:9100", h)},
		{Name: "job", Value: "node"},
		{Name: "pod", Value: fmt.Sprintf("node-exporter-%05d-%05x", h, mix(uint64(h)<<20)&0xfffff)},
		{Name: "rack", Value: fmt.Sprintf("r%02d", h%40)},
		{Name: "team", Value: fmt.Sprintf("team-%02d", h%17)},
	}
	var out []labels.Labels
	add := func(name string, kv ...string) {
		ls := append([]labels.Label{{Name: labels.MetricName, Value: name}}, base...)
		for i := 0; i < len(kv); i += 2 {
			ls = append(ls, labels.Label{Name: kv[i], Value: kv[i+1]})
		}
		out = append(out, labels.New(ls...))
	}
	for cpu := range 8 {
		for _, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
			add("node_cpu_seconds_total", "cpu", strconv.Itoa(cpu), "mode", mode)
		}
	}
	for i := range 36 {
		add(fmt.Sprintf("node_memory_Kind%02d_bytes", i))
	}
	for _, device := range []string{"eth0", "eth1", "lo", "docker0", "sda", "sdb", "nvme0n1"} {
		for i := range 9 {
			add(fmt.Sprintf("node_device_%d_total", i), "device", device)
		}
	}
	for i := range 12 {
		add("node_filesystem_size_bytes", "device", "/dev/sda1", "fstype", "ext4", "mountpoint", fmt.Sprintf("/data/%d", i))
	}
	for i := range 20 {
		add("node_hwmon_temp_celsius", "chip", fmt.Sprintf("chip%d", i/4), "sensor", fmt.Sprintf("temp%d", i%4))
	}
	for handler := range 10 {
		path := fmt.Sprintf("/api/v1/resource%d", handler)
		for _, code := range []string{"200", "404", "500", "503"} {
			for _, method := range []string{"GET", "POST"} {
				add("http_requests_total", "code", code, "handler", path, "method", method)
			}
		}
		for _, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"} {
			add("http_request_duration_seconds_bucket", "handler", path, "le", le)
		}
		add("http_request_duration_seconds_sum", "handler", path)
		add("http_request_duration_seconds_count", "handler", path)
	}
	for i := range 12 {
		add(fmt.Sprintf("process_figure_%d", i))
	}
	return out
}

// fleet returns the first n series of a fleet.
func fleet(n int) []labels.Labels {
	var out []labels.Labels
	for h := 0; len(out) < n; h++ {
		out = append(out, fleetHost(h)...)
	}
	return out[:n]
}

// sortedFleet returns them in label order.
func sortedFleet(n int) []labels.Labels {
	out := fleet(n)
	slices.SortFunc(out, labels.Compare)
	return out
}
