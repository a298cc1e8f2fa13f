// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// quiet is for how long a server has to do nothing before it counts as being done.
const quiet = 6 * time.Second

// figures are what a benchmark has found of one server, by unit.
type figures map[string]float64

// compareStorages measures one server after the other, each alone, and then reports by how much less of everything
// Tidemark takes (of samples/s: by how much more it does).
func compareStorages(b *testing.B, measure func(b *testing.B, p storageProgram) figures) {
	b.Helper()
	all := map[string]figures{}
	for _, p := range storagePrograms(b) {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				all[p.name] = measure(b, p)
			}
			report(b, all[p.name])
		})
	}
	ours := all["tidemark"]
	if ours == nil || len(all) == 1 {
		return
	}
	b.Run("times_less", func(b *testing.B) {
		ratios := figures{}
		for name, of := range all {
			for unit, v := range of {
				switch {
				case name == "tidemark" || v <= 0 || ours[unit] <= 0:
				case strings.HasSuffix(unit, "/s"):
					ratios[name+"-x-"+unit] = ours[unit] / v
				default:
					ratios[name+"-x-"+unit] = v / ours[unit]
				}
			}
		}
		report(b, ratios)
	})
}

func report(b *testing.B, f figures) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for _, unit := range slices.Sorted(maps.Keys(f)) {
		b.ReportMetric(f[unit], unit)
	}
}

// BenchmarkRemoteWriteLoad sends an hour of scrapes to each server: LOAD_HOSTS hosts of 427 series, LOAD_SCRAPES scrapes
// 15 s apart, 2,000 samples to a request, four connections, and reports what that costs the server. CPU time per sample
// is that of the first minutes, 60 scrapes, with the series' creation (us-CPU/sample), and that of the whole load
// (us-CPU/sample-all), each until the server is idle again; half of the requests, and 99 % of them, were answered within
// p50-answer-ms and p99-answer-ms, those that made the series included. Resident memory is that before, at the end and at its peak,
// and what was added per series (B/series; it means something from some 100,000 series on). What the server keeps takes B/sample, index included. Then the server is
// killed right after its last answer, and starts again: restart-s is until it is ready, lost-samples is how
// many of the last scrape, which it had acknowledged, are gone.
func BenchmarkRemoteWriteLoad(b *testing.B) {
	hosts, scrapes := number(b, "LOAD_HOSTS", 25), number(b, "LOAD_SCRAPES", 240)
	if scrapes > 240 {
		b.Fatal("LOAD_SCRAPES: more than an hour, 240, would lie in the future")
	}
	for _, of := range []struct {
		name     string
		families func() []family
	}{{"exporters", exporterFamilies}, {"mixed", mixedFamilies}} {
		b.Run(of.name, func(b *testing.B) {
			compareStorages(b, func(b *testing.B, p storageProgram) figures {
				return measureHour(b, p, newFleet(hosts, of.families()), scrapes)
			})
		})
	}
}

func measureHour(b *testing.B, p storageProgram, f *fleet, scrapes int) figures {
	b.Helper()
	const early = 60
	s, start := p.start(b), recentHour(time.Now())
	time.Sleep(3 * time.Second)
	idle := memory(b, s.Pid(), "VmRSS:")
	l := load{server: s, fleet: f, before: cpuTime(b, s.Pid())}
	l.send(b, start, min(early, scrapes))
	rest(b, s.Pid(), quiet)
	out := figures{"idle-MB": idle, "us-CPU/sample": l.cpuPerSample(b)}
	l.send(b, start+early*scrapeMillis, scrapes-early)
	out["samples/s"] = float64(l.samples) / l.took.Seconds()
	out["p50-answer-ms"], out["p99-answer-ms"] = l.answered(50), l.answered(99)
	rest(b, s.Pid(), quiet)
	out["us-CPU/sample-all"] = l.cpuPerSample(b)
	out["MB"], out["peak-MB"] = memory(b, s.Pid(), "VmRSS:"), memory(b, s.Pid(), "VmHWM:")
	out["B/series"] = (out["MB"] - idle) * (1 << 20) / float64(len(f.series))
	out["B/sample"] = float64(p.keep(b, s)) / float64(l.samples)
	last := start + int64(scrapes)*scrapeMillis
	l.send(b, last, 1)
	s.Kill()
	began := time.Now()
	s.Process = peers.Start(b, s.spec)
	out["restart-s"] = time.Since(began).Seconds()
	if p.name == "victoria-metrics" {
		s.call(b, "GET", "/internal/force_flush")
	}
	out["lost-samples"] = float64(len(f.series) - s.scraped(b, last))
	if p.name == "tidemark" && out["lost-samples"] != 0 {
		b.Errorf("%g acknowledged samples are lost", out["lost-samples"])
	}
	s.Kill()
	return out
}

// recentHour is when an hour of samples may begin: not long ago, so that all of it is in a head, in one block of two
// hours, and not in the future.
func recentHour(now time.Time) int64 {
	const slot, early = 2 * time.Hour, 8 * time.Minute // servers take samples of the next ten minutes
	begin := now.Truncate(slot)
	if now.Sub(begin) < time.Hour-early {
		begin = begin.Add(-slot)
	}
	return begin.UnixMilli()
}

// load is a fleet on its way to a server.
type load struct {
	server  *storageServer
	fleet   *fleet
	samples int           // that were acknowledged
	took    time.Duration // until they were
	answers []time.Duration
	before  time.Duration // the server's CPU time before
}

// send sends so many scrapes. They are made in between, while the server may rest.
func (l *load) send(b *testing.B, start int64, scrapes int) {
	b.Helper()
	for i := range scrapes {
		requests := l.fleet.scrape(start + int64(i)*scrapeMillis)
		began := time.Now()
		l.answers = append(l.answers, send(b, l.server.client, l.server.base, requests)...)
		l.took += time.Since(began)
		if b.Failed() {
			b.FailNow()
		}
		l.samples += len(l.fleet.series)
	}
}

// answered is within how many ms this percentage of the requests was answered.
func (l *load) answered(percent int) float64 {
	slices.Sort(l.answers)
	return float64(l.answers[(len(l.answers)-1)*percent/100]) / float64(time.Millisecond)
}

func (l *load) cpuPerSample(b *testing.B) float64 {
	b.Helper()
	return (cpuTime(b, l.server.Pid()) - l.before).Seconds() * 1e6 / float64(l.samples)
}

// BenchmarkTwelveHours sends half a day in order to each server: DAY_HOSTS hosts of 427 series, 2,880 scrapes, each up to
// 3 ms early or late. It waits until the server has compacted what it wants to, and reports CPU time per sample until
// then, the memory's peak and what is kept (B/sample).
func BenchmarkTwelveHours(b *testing.B) {
	hosts := number(b, "DAY_HOSTS", 2)
	compareStorages(b, func(b *testing.B, p storageProgram) figures {
		f := newFleet(hosts, exporterFamilies())
		f.jitter = 3
		return measureHalfDay(b, p, f)
	})
}

func measureHalfDay(b *testing.B, p storageProgram, f *fleet) figures {
	b.Helper()
	const scrapes = 2880
	// Compaction begins when all kinds of servers may have looked for something to do: Prometheus looks once a minute.
	const look = 70 * time.Second
	s := p.start(b)
	start := time.Now().Add(-17 * time.Hour).Truncate(6 * time.Hour).UnixMilli() // whole blocks of six hours
	l := load{server: s, fleet: f, before: cpuTime(b, s.Pid())}
	l.send(b, start, scrapes)
	out := figures{"samples/s": float64(l.samples) / l.took.Seconds()}
	// Two scrapes of one series after the end let each server see that the time before them is over.
	for _, later := range []int64{1, 5} {
		var w requestWriter
		w.add(f.series[0].labels, start+scrapes*scrapeMillis+later*3_600_000, 0)
		send(b, s.client, s.base, w.take())
	}
	rest(b, s.Pid(), look)
	out["us-CPU/sample"], out["peak-MB"] = l.cpuPerSample(b), memory(b, s.Pid(), "VmHWM:")
	out["B/sample"] = float64(p.keep(b, s)) / float64(l.samples)
	s.Kill()
	return out
}

// BenchmarkRecording sends what real exporters said to each server, and reports what it keeps (B/sample).
// TIDEMARK_RECORDING names the file; see recording for its format.
func BenchmarkRecording(b *testing.B) {
	path := os.Getenv("TIDEMARK_RECORDING")
	if path == "" {
		b.Log("without a recording: set TIDEMARK_RECORDING to a file as recording_test.go describes it")
		return
	}
	rec := readRecording(b, path)
	b.Logf("%d series, %d samples, %d scrapes", len(rec.series), rec.samples, len(rec.scrapes))
	compareStorages(b, func(b *testing.B, p storageProgram) figures {
		s := p.start(b)
		before := cpuTime(b, s.Pid())
		for requests := range rec.requests(recentHour(time.Now())) {
			send(b, s.client, s.base, requests)
			if b.Failed() {
				b.FailNow()
			}
		}
		rest(b, s.Pid(), quiet)
		used := cpuTime(b, s.Pid()) - before
		out := figures{"us-CPU/sample": used.Seconds() * 1e6 / float64(rec.samples)}
		out["B/sample"] = float64(p.keep(b, s)) / float64(rec.samples)
		s.Kill()
		return out
	})
}
