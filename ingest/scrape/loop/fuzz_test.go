// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	promscrape "github.com/prometheus/prometheus/scrape"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// bench is a loop without a target, to which bodies are given.
type bench struct {
	*Loop

	store *ingesttest.Recorder
	at    time.Time
}

func newBench(tb testing.TB) *bench {
	tb.Helper()
	store := &ingesttest.Recorder{}
	in, err := ingest.New(ingest.Options{Appender: store})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := &promconfig.ScrapeConfig{JobName: "j", HonorTimestamps: true, MetricNameValidationScheme: model.UTF8Validation}
	p := &Pool{
		ctx: tb.Context(), logger: slog.New(slog.DiscardHandler),
		shared: &shared{
			intake: in, metrics: newMetrics(), told: &told{}, readers: newReaders(), truncate: &atomic.Bool{},
			rounds: &sync.Pool{New: func() any { return new(round) }}, hashSeed: 1,
		},
	}
	p.mu.config = cfg
	e := &endpoint{target: promscrape.NewTarget(labels.FromStrings(model.AddressLabel, "t"), cfg, nil, nil)}
	return &bench{Loop: p.newLoopLocked(e, nil), store: store, at: time.UnixMilli(1_700_000_000_000)}
}

// give stores a body and returns the samples of it that were stored, and whether it was good.
func (b *bench) give(text []byte) (rows []string, good bool) {
	before := len(b.store.Rows())
	b.at = b.at.Add(time.Second)
	room := make([]byte, len(text), len(text)+bytes.MinRead)
	copy(room, text)
	b.Loop.store(&body{bytes: room, contentType: "text/plain"}, result{}, b.at, b.at)
	all := b.store.Rows()[before:]
	for _, r := range all[:len(all)-usualReports] {
		if !value.IsStaleNaN(r.V) {
			rows = append(rows, fmt.Sprintf("%s %x %d", r.Series, math.Float64bits(r.V), r.T))
		}
	}
	return rows, all[len(all)-usualReports].V == 1
}

// parse is what a parser finds in a body: of texts that are there twice the first, unless they have times.
func parse(text []byte, at int64) (rows []string, err error) {
	p, err := textparse.New(bytes.Clone(text), "text/plain", nil, textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for {
		kind, err := p.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		if kind != textparse.EntrySeries {
			continue
		}
		name, t, v := p.Series()
		var ls labels.Labels
		p.Labels(&ls)
		ls = ls.WithoutEmpty()
		if !ls.Has(labels.MetricName) || !ls.IsValid(model.UTF8Validation) {
			return nil, errNoName
		}
		if t == nil && seen[string(name)] {
			continue
		}
		seen[string(name)] = true
		when := at
		if t != nil {
			if when = *t; when > time.Now().Add(maxAhead).UnixMilli() {
				delete(seen, string(name))
				continue
			}
		}
		rows = append(rows, fmt.Sprintf("%s %x %d", ls, math.Float64bits(v), when))
	}
}

// FuzzBodies gives one body after the other to one loop, so that each is read by what is known of the one before, and
// compares with what a parser finds.
func FuzzBodies(f *testing.F) {
	f.Add([]byte("# TYPE a counter\na 1\nb{x=\"1\"} 2.5\n"), []byte("# TYPE a counter\na 2\n# HELP b x\nb{x=\"1\"} 1e3 1000\n"))
	f.Add([]byte("a 1\na 2\nb 3"), []byte("b 3\n\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\n"))
	f.Add([]byte("# TYPE h histogram\nh{le=\"1\"} 1\n"), []byte("# TYPE h gauge\nh{le=\"1\"} 1\ng{le=\"1\"} 4\n"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b := newBench(t)
		for i, text := range [][]byte{first, second, first, first, second, second} {
			if len(text) == 0 {
				continue
			}
			got, good := b.give(text)
			want, err := parse(text, b.at.UnixMilli())
			if good != (err == nil) {
				t.Fatalf("body %d %q is good: %t, the parser says %v", i, text, good, err)
			}
			if diff := cmp.Diff(want, got); good && !sameButForLe(want, got) {
				t.Fatalf("body %d %q (-parser +ours):\n%s", i, text, diff)
			}
		}
	})
}

// sameButForLe compares rows. The labels of a text are those of its first body: where its family's type changes later, le
// and quantile stay as they were written, in Prometheus too, which has them in a cache.
func sameButForLe(want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !bytes.Contains([]byte(want[i]), []byte("le=")) && !bytes.Contains([]byte(want[i]), []byte("quantile=")) {
			return false
		}
	}
	return true
}

// FuzzNumbers compares the numbers that are read without a parser with strconv's.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", "1e22", "123456789012345", "1e-22", "9007199254740993", ".5", "5.", "1e+09", "NaN", "+Inf", "0x1p-2", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if x, ok := readRest([]byte(text+"\n"), 0); ok && !x.hasT && x.end == len(text)+1 {
			want, err := strconv.ParseFloat(text, 64)
			if err != nil || math.Float64bits(want) != math.Float64bits(x.v) && !(math.IsNaN(want) && math.IsNaN(x.v)) {
				t.Errorf("%q is read as %g, strconv says %g, %v", text, x.v, want, err)
			}
		}
	})
}

// BenchmarkScrape stores a body of 600 series again and again.
func BenchmarkScrape(b *testing.B) {
	var text bytes.Buffer
	for i := range 600 {
		if i%3 == 0 {
			fmt.Fprintf(&text, "# HELP metric_%d What it tells.\n# TYPE metric_%d counter\n", i/3, i/3)
		}
		fmt.Fprintf(&text, "metric_%d{device=\"eth%d\",mode=\"something\"} %d.25\n", i/3, i%3, i*1000)
	}
	bench := newBench(b)
	for b.Loop() {
		bench.give(text.Bytes())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/600, "ns/sample")
}
