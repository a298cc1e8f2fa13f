// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkQueriesOverHTTP loads the pinned Prometheus and Tidemark with the same samples and then sends each query of
// testdata/queries.txt to both in turns, first with answers that neither compresses, then with answers that both
// compress. A query's result is the median wall time until the answer is read, CPU time per query including what the
// server does after it has answered, resident memory, and by how much Tidemark's times are less (x-...). An answer
// that differs fails. QUERY_HOSTS and QUERY_SCRAPES change the size; -benchtime 5x asks each query five times.
func BenchmarkQueriesOverHTTP(b *testing.B) {
	pair := startPair(b, number(b, "QUERY_HOSTS", 100), number(b, "QUERY_SCRAPES", 120))
	for _, way := range transports() {
		b.Run(way.name, func(b *testing.B) {
			var means geometricMeans
			for _, q := range readQueries(b) {
				b.Run(strings.ReplaceAll(q.name, " ", "_"), func(b *testing.B) { means.add(pair.measure(b, q, way)) })
			}
			b.Run("geometric_mean", func(b *testing.B) { means.report(b, pair) })
		})
	}
}

// TestServersAnswerAlikeOverHTTP asks a small fleet the queries of the benchmark.
func TestServersAnswerAlikeOverHTTP(t *testing.T) {
	pair := startPair(t, 4, 240) // an hour: long windows overlap
	for _, way := range transports() {
		for _, q := range readQueries(t) {
			t.Run(way.name+" "+q.name, func(t *testing.T) { pair.compare(t, q, way) })
		}
	}
}

// benchQuery is a line of testdata/queries.txt.
type benchQuery struct {
	name, kind, expr string // kind: instant, or the step of a range
	near             bool   // see tolerance
}

// tolerance is by which part of a value answers may differ: not at all, except where the sums of long windows that
// overlap are differences of prefix sums (see query/operator/window), whose last digits are not Prometheus'.
func (q benchQuery) tolerance() float64 {
	if q.near {
		return 1e-12
	}
	return 0
}

func readQueries(tb testing.TB) []benchQuery {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "queries.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	var out []benchQuery
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, "|", 3)
		if len(f) != 3 {
			tb.Fatalf("queries.txt: %q is not name | instant or step | query", line)
		}
		kind, near := strings.CutPrefix(strings.TrimSpace(f[1]), "~")
		out = append(out, benchQuery{strings.TrimSpace(f[0]), kind, strings.TrimSpace(f[2]), near})
	}
	return out
}

// cost is what a query took: milliseconds, Prometheus and Tidemark.
type cost struct{ wall, cpu [2]float64 }

// measure asks both servers in turns. Each waits until the other has nothing to do any more: a garbage collection
// that an answer left behind would otherwise be paid by the next one.
func (p *serverPair) measure(b *testing.B, q benchQuery, way transport) cost {
	b.Helper()
	p.compare(b, q, way) // the first time is not counted
	var wall [2][]float64
	p.settle(b)
	before := p.cpu(b)
	for b.Loop() {
		for i, s := range p.both() {
			wall[i] = append(wall[i], p.ask(b, s, q, way).Seconds()*1e3)
			p.settle(b)
		}
		p.requireSame(b, q)
	}
	after := p.cpu(b)
	var c cost
	for i := range wall {
		c.wall[i] = median(wall[i])
		c.cpu[i] = (after[i] - before[i]).Seconds() * 1e3 / float64(len(wall[i]))
	}
	c.report(b)
	p.reportMemory(b, "VmRSS:", "MB")
	return c
}

func (c cost) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(c.wall[0], "prometheus-ms")
	b.ReportMetric(c.wall[1], "tidemark-ms")
	b.ReportMetric(c.wall[0]/c.wall[1], "x-wall")
	b.ReportMetric(c.cpu[0], "prometheus-CPU-ms")
	b.ReportMetric(c.cpu[1], "tidemark-CPU-ms")
	b.ReportMetric(c.cpu[0]/c.cpu[1], "x-CPU")
}

// reportMemory reports a line of both processes' /proc/<pid>/status.
func (p *serverPair) reportMemory(b *testing.B, key, unit string) {
	b.Helper()
	b.ReportMetric(memory(b, p.prometheus.Pid(), key), "prometheus-"+unit)
	b.ReportMetric(memory(b, p.tidemark.Pid(), key), "tidemark-"+unit)
}

// cpu is the CPU time of both processes so far.
func (p *serverPair) cpu(tb testing.TB) [2]time.Duration {
	tb.Helper()
	return [2]time.Duration{cpuTime(tb, p.prometheus.Pid()), cpuTime(tb, p.tidemark.Pid())}
}

// settle waits until both processes are idle.
func (p *serverPair) settle(tb testing.TB) {
	tb.Helper()
	const interval, idle = 3 * time.Millisecond, 300 * time.Microsecond // of both together
	deadline := time.Now().Add(10 * time.Second)
	for last := p.cpu(tb); ; {
		time.Sleep(interval)
		now := p.cpu(tb)
		if now[0]-last[0]+now[1]-last[1] < idle {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("the servers are not idle 10 s after an answer")
		}
		last = now
	}
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return (xs[(len(xs)-1)/2] + xs[len(xs)/2]) / 2
}

// geometricMeans gathers the costs of all queries.
type geometricMeans struct {
	log cost // sums of logarithms
	n   int
}

func (m *geometricMeans) add(c cost) {
	m.n++
	for i := range c.wall {
		m.log.wall[i] += math.Log(c.wall[i])
		m.log.cpu[i] += math.Log(c.cpu[i])
	}
}

func (m *geometricMeans) report(b *testing.B, p *serverPair) {
	b.Helper()
	if m.n == 0 {
		b.Fatal("no query was measured: the means need -bench QueriesOverHTTP without the name of a query")
	}
	var c cost
	for i := range c.wall {
		c.wall[i] = math.Exp(m.log.wall[i] / float64(m.n))
		c.cpu[i] = math.Exp(m.log.cpu[i] / float64(m.n))
	}
	c.report(b)
	b.ReportMetric(float64(m.n), "queries")
	p.reportMemory(b, "VmHWM:", "peak-MB")
}
