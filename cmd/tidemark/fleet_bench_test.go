// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

const scrapeMillis = 15_000

// fleet is a number of hosts, each with the series of an exporter for the machine and of one service on it. The same
// number of hosts has the same samples every time.
type fleet struct {
	series  []fleetSeries // host by host
	perHost int
	jitter  int64 // by how many ms at most a scrape is early or late
	late    rand.PCG
}

// fleetSeries is one series and where it has got to.
type fleetSeries struct {
	labels []byte // as encodeLabels returns them
	move   movement
	rng    rand.PCG
	value  float64
	speed  float64 // of those that have one; it changes now and then
}

// movement is how the values of a family go from one scrape to the next.
type movement int

const (
	constant    movement = iota
	events               // a counter of whole things that come in bursts
	incidents            // a counter that mostly stands still
	seconds2             // a counter of time, two decimals
	pages                // bytes in multiples of 4096
	percent              // 0 to 100, two decimals
	analogue             // all bits of the fraction in use
	ratio                // 0 to 1, each independent of the one before
	analogueSum          // a counter that grows by a ratio
	onOff                // 1, seldom 0
	bucket               // of a classic histogram: its own observations and those of the buckets below it
	quietBucket          // the same, with few observations of its own
	bucketSum            // how many observations the histogram has: what its last bucket says
)

// family is a metric of every host: a series for each combination of the values of its dimensions.
type family struct {
	name string
	move movement
	dims []dimension
}

type dimension struct {
	label  string
	values []string
}

func numbered(format string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

// families is what each host exports. A histogram's count follows its buckets.
func families() []family {
	cpu, mode := dimension{"cpu", numbered("%d", 8)}, dimension{"mode", []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}}
	nic, disk := dimension{"device", []string{"docker0", "eth0", "eth1", "lo"}}, dimension{"device", []string{"nvme0n1", "sda", "sdb"}}
	dir, op := dimension{"direction", []string{"in", "out"}}, dimension{"op", []string{"read", "write"}}
	mount := dimension{"mountpoint", []string{"/", "/data", "/home", "/var"}}
	kind := dimension{"kind", []string{
		"active", "anon", "available", "buffers", "cached", "committed", "dirty", "free", "inactive", "kernel_stack",
		"mapped", "page_tables", "shared", "slab", "total", "unevictable", "writeback",
	}}
	method, status := dimension{"method", []string{"GET", "POST"}}, dimension{"status", []string{"200", "404", "500", "503"}}
	var routes []family
	route := []string{"/cart", "/health", "/items", "/login", "/orders", "/pay", "/search", "/stock", "/users", "/webhook"}
	le := dimension{"le", []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"}}
	for i := range route {
		one := dimension{"route", route[i : i+1]}
		routes = append(routes,
			family{"app_request_duration_seconds_bucket", bucket, []dimension{one, le}},
			family{"app_request_duration_seconds_count", bucketSum, []dimension{one}},
			family{"app_request_duration_seconds_sum", seconds2, []dimension{one}},
			family{"app_requests_total", events, []dimension{one, method, {"status", status.values[:1]}}},
			family{"app_requests_total", incidents, []dimension{one, method, {"status", status.values[1:]}}})
	}
	return append(routes,
		family{"host_cpu_seconds_total", seconds2, []dimension{cpu, mode}},
		family{"host_memory_bytes", pages, []dimension{kind}},
		family{"host_net_bytes_total", events, []dimension{nic, dir}},
		family{"host_net_packets_total", events, []dimension{nic, dir}},
		family{"host_net_drops_total", incidents, []dimension{nic, dir}},
		family{"host_disk_ops_total", events, []dimension{disk, op}},
		family{"host_disk_bytes_total", events, []dimension{disk, op}},
		family{"host_disk_seconds_total", seconds2, []dimension{disk, op}},
		family{"host_fs_avail_bytes", pages, []dimension{mount}},
		family{"host_fs_size_bytes", constant, []dimension{mount}},
		family{"host_temperature_celsius", analogue, []dimension{{"chip", numbered("chip%d", 5)}, {"sensor", numbered("temp%d", 4)}}},
		family{"host_unit_active", onOff, []dimension{{"unit", numbered("unit%02d.service", 16)}}},
		family{"host_load1", percent, nil}, family{"host_load5", percent, nil}, family{"host_load15", percent, nil},
		family{"process_cpu_seconds_total", seconds2, nil}, family{"process_resident_memory_bytes", pages, nil},
		family{"process_open_fds", percent, nil}, family{"process_start_time_seconds", constant, nil},
		family{"host_info", constant, []dimension{{"arch", []string{"amd64"}}}}, family{"up", constant, nil})
}

func newFleet(hosts int, all []family) *fleet {
	f := &fleet{}
	for host := range hosts {
		base := map[string]string{
			"cluster": fmt.Sprintf("eu-west-%d", host%4), "env": []string{"prod", "staging", "dev"}[host%3],
			"instance": fmt.Sprintf("host-%05d.example:9100", host), "job": "node", "rack": fmt.Sprintf("r%02d", host%40),
			"pod": fmt.Sprintf("exporter-%05d-%05x", host, host*7919), "team": fmt.Sprintf("team-%02d", host%17),
		}
		for _, fam := range all {
			f.addFamily(host, base, fam)
		}
		if host == 0 {
			f.perHost = len(f.series)
		}
	}
	return f
}

func (f *fleet) addFamily(host int, base map[string]string, fam family) {
	n := 1
	for _, d := range fam.dims {
		n *= len(d.values)
	}
	for i := range n {
		ls := maps.Clone(base)
		ls["__name__"] = fam.name
		if fam.name == "host_info" {
			ls["kernel"] = fmt.Sprintf("6.%d.0", host%5)
		}
		rest := i
		for _, d := range slices.Backward(fam.dims) { // the last dimension changes fastest
			ls[d.label] = d.values[rest%len(d.values)]
			rest /= len(d.values)
		}
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(ls)) {
			pairs = append(pairs, name, ls[name])
		}
		f.series = append(f.series, newFleetSeries(encodeLabels(pairs), fam.move, uint64(len(f.series))))
	}
}

func newFleetSeries(labels []byte, move movement, seed uint64) fleetSeries {
	s := fleetSeries{labels: labels, move: move}
	s.rng.Seed(seed, 0x9e3779b97f4a7c15)
	switch move {
	case constant, onOff:
		s.value = 1
	case events, bucket:
		s.value, s.speed = math.Floor(s.random()*1e6), math.Exp(s.random()*9)
	case incidents, quietBucket:
		s.value = math.Floor(s.random() * 1000)
	case seconds2:
		s.value, s.speed = math.Round(s.random()*1e7)/100, 15*s.random()
	case pages:
		s.value = 4096 * math.Floor(s.random()*4e6)
	case percent:
		s.value = math.Round(s.random()*1e4) / 100
	case analogue:
		s.value = 40 + 30*s.random()
	case analogueSum:
		s.value = 1000 * s.random()
	case ratio, bucketSum:
	}
	return s
}

// random returns a number from 0 to below 1.
func (s *fleetSeries) random() float64 { return float64(s.rng.Uint64()>>11) / (1 << 53) }

// next moves the series by one scrape.
func (s *fleetSeries) next() float64 {
	switch s.move {
	case events, bucket:
		if s.random() < 0.02 {
			s.speed = math.Exp(s.random() * 9)
		}
		s.value += math.Floor(s.speed * (0.7 + 0.6*s.random()))
	case incidents, quietBucket:
		if s.random() < 0.03 {
			s.value += math.Ceil(3 * s.random())
		}
	case seconds2:
		if s.random() < 0.02 {
			s.speed = 15 * s.random()
		}
		s.value = math.Round((s.value+s.speed*(0.8+0.4*s.random()))*100) / 100
	case pages:
		s.value = math.Abs(s.value + 4096*math.Floor((s.random()-0.5)*2000))
	case percent:
		s.value = math.Round(min(100, max(0, s.value+(s.random()-0.5)*6))*100) / 100
	case analogue:
		s.value += s.random() - 0.5
	case analogueSum:
		s.value += s.random()
	case ratio:
		s.value = s.random()
	case onOff:
		s.value = 1
		if s.random() < 0.02 {
			s.value = 0
		}
	case constant, bucketSum:
	}
	return s.value
}

// scrape moves all series by one scrape and returns the remote-write requests with their samples. Hosts are scraped
// at different moments of the interval that begins at the time given, in ms.
func (f *fleet) scrape(start int64) [][]byte {
	var w requestWriter
	var at int64
	sum := 0.0 // of the histogram's buckets so far
	for i := range f.series {
		if i%f.perHost == 0 {
			host := uint64(i / f.perHost)
			at = start + int64(host*2654435761%scrapeMillis) - f.jitter + int64(f.late.Uint64()%uint64(2*f.jitter+1))
		}
		s := &f.series[i]
		v := s.next()
		switch s.move {
		case bucket, quietBucket:
			sum += v
			v = sum
		case bucketSum:
			v, sum = sum, 0
		default:
		}
		w.add(s.labels, at, v)
	}
	return w.take()
}
