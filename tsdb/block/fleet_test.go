// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// fleet makes the series of hosts as exporters make them: constants, counters, decimals, sizes in pages, families
// of histogram buckets, and a few doubles that use all their bits. 427 series a host; all of a host are scraped at
// the same times, jitter milliseconds about a grid of step.
type fleet struct {
	hosts, samples int
	jitter         int64
	step           int64
}

const fleetStart = 1_760_000_400_000

// shape makes the values of one series of a family. seed is the series' own, family that of its host and instance.
type shape func(v []float64, seed, family uint64, member int)

// fleetMetrics are the families in the order of their names: how many series a host has of each, and their shape.
var fleetMetrics = []struct {
	name    string
	members int
	label   string
	shape   shape
}{
	{"active_bucket", 60, "le", buckets(40)},
	{"active_count", 5, "part", buckets(40)},
	{"bytes", 21, "part", pages},
	{"constant_a", 85, "part", constants},
	{"constant_b", 84, "part", constants},
	{"counter_total", 43, "part", counter},
	{"cpu_seconds_total", 17, "part", cpu},
	{"percent", 13, "part", percent},
	{"quiet_bucket", 60, "le", buckets(0.7)},
	{"quiet_count", 5, "part", buckets(0.7)},
	{"ratio", 4, "part", ratio},
	{"slow_total", 21, "part", slow},
	{"wait_sum", 9, "part", sum},
}

var fleetBounds = []string{"+Inf", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "10", "2.5", "5"}

// rank of the bounds above by size.
var fleetRank = []int{11, 0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func unit(x uint64) float64 { return float64(mix(x)>>11) / (1 << 53) }

func constants(v []float64, seed, _ uint64, _ int) {
	c := []float64{1, 1, 0, 8, 1.73e9}[seed%5]
	for i := range v {
		v[i] = c
	}
}

func counter(v []float64, seed, _ uint64, _ int) {
	x, rate := math.Floor(unit(seed)*1e9), math.Exp(unit(seed+1)*8+1)
	for i := range v {
		x += math.Floor(rate * (0.7 + 0.6*unit(seed+uint64(i)*2)))
		v[i] = x
	}
}

func cpu(v []float64, seed, _ uint64, _ int) {
	x, rate := math.Floor(unit(seed)*1e7), 1500*unit(seed+1)
	for i := range v {
		x += math.Floor(rate * (0.8 + 0.4*unit(seed+uint64(i)*2)))
		v[i] = x / 100
	}
}

func percent(v []float64, seed, _ uint64, _ int) {
	x := unit(seed) * 100
	for i := range v {
		x = min(100, max(0, x+(unit(seed+uint64(i))-0.5)*6))
		v[i] = math.Round(x*100) / 100
	}
}

func pages(v []float64, seed, _ uint64, _ int) {
	x := 4096 * math.Floor(unit(seed)*4e6)
	for i := range v {
		if unit(seed+uint64(i)*2) < 0.6 {
			x = math.Abs(x + 4096*math.Floor((unit(seed+uint64(i)*2+1)-0.5)*200))
		}
		v[i] = x
	}
}

func slow(v []float64, seed, _ uint64, _ int) {
	x := math.Floor(unit(seed) * 1000)
	for i := range v {
		if unit(seed+uint64(i)*2) < 0.03 {
			x += math.Ceil(unit(seed+uint64(i)*2+1) * 3)
		}
		v[i] = x
	}
}

func sum(v []float64, seed, _ uint64, _ int) {
	x := unit(seed) * 1000
	for i := range v {
		x += unit(seed + uint64(i))
		v[i] = x
	}
}

func ratio(v []float64, seed, _ uint64, _ int) {
	for i := range v {
		v[i] = unit(seed + uint64(i))
	}
}

// buckets makes one bucket of a family with perScrape observations a scrape; the last member has all of them.
func buckets(perScrape float64) shape {
	return func(v []float64, _, family uint64, member int) {
		top := fleetRank[member%12]
		x := 0.0
		for i := range v {
			for k := range top + 1 {
				share := perScrape * math.Exp(-float64((k-4)*(k-4))/4) / 3.5
				x += math.Floor(share*2*unit(family+uint64(i)*16+uint64(k)) + unit(family+uint64(i)*16+uint64(k)+8)*0.9)
			}
			v[i] = x
		}
	}
}

// times of a host.
func (f fleet) times(dst []int64, host int) []int64 {
	for i := range f.samples {
		t := fleetStart + int64(mix(uint64(host))%uint64(f.step)) + int64(i)*f.step
		if f.jitter > 0 {
			t += int64(mix(uint64(host)<<32|uint64(i))%uint64(2*f.jitter+1)) - f.jitter
		}
		dst = append(dst, t)
	}
	return dst
}

func (f fleet) series() int { return 427 * f.hosts }

// source yields the fleet in label order: a family after the other, in each host after host.
func (f fleet) source() block.Source {
	return block.Source{Series: func(yield func(block.Series, error) bool) {
		v := make([]float64, f.samples)
		times := make([][]int64, f.hosts)
		for h := range times {
			times[h] = f.times(nil, h)
		}
		for k, m := range fleetMetrics {
			for i := range m.members * f.hosts {
				host, member := i/m.members, i%m.members
				family := mix(uint64(host)<<16 | uint64(k)<<8 | uint64(member/12))
				m.shape(v, mix(family+uint64(member)), family, member)
				b := column.Block{T: times[host], V: v}
				if !yield(block.Series{Labels: fleetLabels(m.name, m.label, host, member), Rows: &b, To: f.samples}, nil) {
					return
				}
			}
		}
	}}
}

func fleetLabels(name, label string, host, member int) labels.Labels {
	group, value := 0, fmt.Sprintf("%03d", member)
	if label == "le" {
		group, value = member/12, fleetBounds[member%12]
	}
	return labels.FromStrings("__name__", name, "cluster", "eu-west", "host", fmt.Sprintf("%05d", host),
		"instance", fmt.Sprintf("host-%05d.example:9100", host), "job", "node", "k", fmt.Sprintf("%d", group), label, value)
}
