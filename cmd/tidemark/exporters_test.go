// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

// What the hosts of the storage benchmarks export, 427 series each.

// exporterFamilies is what an exporter of the machine and one service on it export: 14 % of the series stand still,
// 37 % nearly do, 27 % count things and 15 % count time, 6 % are bytes, 5 % use all bits of their fraction.
func exporterFamilies() []family {
	cpu, nic, disk := dimension{"cpu", numbered("%d", 8)}, dimension{"device", numbered("eth%d", 4)}, dimension{"device", numbered("sd%d", 3)}
	dir, op := dimension{"direction", []string{"in", "out"}}, dimension{"op", []string{"read", "write"}}
	mount := dimension{"mountpoint", []string{"/", "/data", "/home", "/var"}}
	modes := func(names ...string) []dimension { return []dimension{cpu, {"mode", names}} }
	var out []family
	for _, name := range []string{"/cart", "/health", "/items", "/login", "/orders", "/pay", "/search", "/stock", "/users", "/webhook"} {
		route := dimension{"route", []string{name}}
		of := func(label string, values ...string) []dimension { return []dimension{route, {label, values}} }
		out = append(out,
			family{"app_request_duration_seconds_bucket", quietBucket, of("le", "0.005", "0.01", "0.025")},
			family{"app_request_duration_seconds_bucket", bucket, of("le", "0.05", "0.1", "0.25", "0.5", "1")},
			family{"app_request_duration_seconds_bucket", quietBucket, of("le", "2.5", "5", "10", "+Inf")},
			family{"app_request_duration_seconds_count", bucketSum, []dimension{route}},
			family{"app_request_duration_seconds_sum", seconds2, []dimension{route}},
			family{"app_requests_total", events, append(of("method", "GET", "POST"), dimension{"status", []string{"200"}})},
			family{"app_requests_total", incidents, append(of("method", "GET", "POST"), dimension{"status", []string{"404", "500", "503"}})})
	}
	return append(out,
		family{"host_cpu_seconds_total", seconds2, modes("idle", "iowait", "softirq", "system", "user")},
		family{"host_cpu_seconds_total", constant, modes("irq", "nice", "steal")},
		family{"host_memory_bytes", pages, []dimension{{"kind", numbered("kind%02d", 16)}}},
		family{"host_memory_limit_bytes", constant, []dimension{{"kind", numbered("kind%02d", 4)}}},
		family{"host_net_bytes_total", events, []dimension{nic, dir}}, family{"host_net_packets_total", events, []dimension{nic, dir}},
		family{"host_net_errors_total", constant, []dimension{nic, dir}}, family{"host_net_drops_total", incidents, []dimension{nic, dir}},
		family{"host_disk_ops_total", events, []dimension{disk, op}}, family{"host_disk_bytes_total", events, []dimension{disk, op}},
		family{"host_disk_merged_total", events, []dimension{disk, op}}, family{"host_disk_seconds_total", seconds2, []dimension{disk, op}},
		family{"host_disk_busy_seconds_total", seconds2, []dimension{disk}}, family{"host_disk_queue_seconds_total", seconds2, []dimension{disk}},
		family{"host_fs_avail_bytes", pages, []dimension{mount}}, family{"host_fs_free_bytes", pages, []dimension{mount}},
		family{"host_fs_size_bytes", constant, []dimension{mount}},
		family{"host_temperature_celsius", analogue, []dimension{{"chip", numbered("chip%d", 5)}, {"sensor", numbered("temp%d", 4)}}},
		family{"host_unit_active", constant, []dimension{{"unit", numbered("unit%02d.service", 16)}}},
		family{"host_load1", percent, nil}, family{"host_load5", percent, nil}, family{"host_load15", percent, nil},
		family{"process_cpu_seconds_total", seconds2, nil}, family{"process_memory_bytes", pages, []dimension{{"kind", numbered("kind%d", 3)}}},
		family{"process_goroutines", incidents, nil}, family{"process_threads", incidents, nil}, family{"process_open_fds", incidents, nil},
		family{"process_start_time_seconds", constant, nil}, family{"host_info", constant, []dimension{{"arch", []string{"amd64"}}}},
		family{"up", constant, nil})
}

// mixedFamilies are shapes of values in the shares that storages are compared by: 40 % constant, 15 % each of quiet and of
// busy histograms, 10 % counters, 5 % each of slow counters and bytes, 4 % CPU time, 3 % percentages, and 3 % that use
// all bits of their fraction.
func mixedFamilies() []family {
	le := dimension{"le", []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"}}
	parts := func(n int) []dimension { return []dimension{{"part", numbered("%03d", n)}} }
	var out []family
	for _, k := range numbered("%d", 5) {
		one := dimension{"k", []string{k}}
		out = append(out,
			family{"quiet_bucket", quietBucket, []dimension{one, le}}, family{"quiet_count", bucketSum, []dimension{one}},
			family{"busy_bucket", bucket, []dimension{one, le}}, family{"busy_count", bucketSum, []dimension{one}})
	}
	return append(out,
		family{"constant", constant, parts(169)}, family{"slow_total", incidents, parts(21)}, family{"counter_total", events, parts(43)},
		family{"cpu_seconds_total", seconds2, parts(17)}, family{"bytes", pages, parts(21)}, family{"percent", percent, parts(13)},
		family{"wait_seconds_sum", analogueSum, parts(9)}, family{"ratio", ratio, parts(4)})
}
