// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// deltaRound is what a sender of deltas has at the end of one interval.
func deltaRound(g *generator, round int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	sm := rm.ScopeMetrics().AppendEmpty()
	from := pcommon.NewTimestampFromTime(g.now.Add(time.Duration(round) * time.Minute))
	to := from + pcommon.Timestamp(time.Minute)
	metric := func(name string) pmetric.Metric {
		m := sm.Metrics().AppendEmpty()
		m.SetName(name)
		return m
	}
	for i := range 3 {
		m := metric("sum").SetEmptySum()
		m.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		m.SetIsMonotonic(i > 0)
		for n := range 4 {
			p := m.DataPoints().AppendEmpty()
			g.number(p)
			p.SetFlags(0)
			p.SetStartTimestamp(from)
			p.SetTimestamp(to)
			p.SetIntValue(g.Int64N(100))
			if i == 1 {
				p.SetDoubleValue(g.Float64())
			}
			p.Attributes().Clear()
			p.Attributes().PutInt("n", int64(n))
		}
	}
	h := metric("histogram").SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	p := h.DataPoints().AppendEmpty()
	g.histogram(p)
	p.SetFlags(0)
	p.SetStartTimestamp(from)
	p.SetTimestamp(to)
	p.ExplicitBounds().FromRaw([]float64{1, 2})
	p.BucketCounts().FromRaw([]uint64{1, uint64(round), 2})
	p.SetCount(3 + uint64(round))
	p.SetSum(g.Float64())
	p.Attributes().Clear()
	e := metric("exponential").SetEmptyExponentialHistogram()
	e.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	x := e.DataPoints().AppendEmpty()
	g.exponential(x)
	x.SetFlags(0)
	x.SetStartTimestamp(from)
	x.SetTimestamp(to)
	x.SetSum(1)
	x.Attributes().Clear()
	return md
}

func TestSumsOfDeltasAreThoseOfPrometheus(t *testing.T) {
	for seed := range uint64(20) {
		g := newGenerator(seed)
		g.scales = []int32{3, 4, 5}
		p := &peer{stored{meta: map[string]string{}}}
		theirs := remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), p, func() promconfig.Config {
			return promconfig.DefaultConfig
		}, remote.OTLPOptions{ConvertDelta: true})
		ours := newSubject(t, otlp.Options{Deltas: otlp.SumDeltas}, &ingesttest.Recorder{})
		for round := range 6 {
			body := marshal(t, deltaRound(g, round))
			post(theirs, protobuf, body)
			if w := post(ours, protobuf, body); w.Code != http.StatusOK || w.Body.Len() != 0 {
				n, message := partial(t, w)
				t.Fatalf("round %d: %d points are rejected: %s", round, n, message)
			}
		}
		p.exemplars = nil // the processor keeps the exemplars of the first round; ours are those of each
		p.sort()
		got := ours.stored()
		got.exemplars = nil
		if same(t, got, &p.stored); t.Failed() {
			t.Fatalf("seed %d, %d rows", seed, len(p.rows))
		}
	}
}

// A stream goes on where the order of attributes and the configuration change.
func TestAStreamOfDeltasOutlivesAReload(t *testing.T) {
	h := newSubject(t, otlp.Options{Deltas: otlp.SumDeltas}, &ingesttest.Recorder{})
	for round := range 4 {
		md := pmetric.NewMetrics()
		rm := md.ResourceMetrics().AppendEmpty()
		m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName("sum")
		m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		m.Sum().SetIsMonotonic(true)
		p := m.Sum().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(1e18 + round*1e9))
		p.SetStartTimestamp(1e18)
		p.SetIntValue(1)
		for _, attributes := range []pcommon.Map{rm.Resource().Attributes(), p.Attributes()} {
			names := []string{"a", "b", "c"}
			if round%2 == 1 {
				slices.Reverse(names)
			}
			for _, name := range names {
				attributes.PutStr(name, name)
			}
		}
		c := promconfig.DefaultOTLPConfig
		if round > 1 {
			c.PromoteResourceAttributes = []string{"d"}
		}
		if err := h.SetConfig(c); err != nil {
			t.Fatal(err)
		}
		if n, message := partial(t, post(h, protobuf, marshal(t, md))); n != 0 {
			t.Errorf("%d points are rejected: %s", n, message)
		}
	}
	for i, r := range h.recorder.Rows() {
		if r.V != float64(i+1) || r.ST != 1e12 {
			t.Errorf("sum %d is %g from %d on", i, r.V, r.ST)
		}
	}
	if n := len(h.recorder.Rows()); n != 4 {
		t.Errorf("%d sums", n)
	}
}

// TestDeltasThatWereNotStoredAreSummedUpOnce sends a request with three points of each stream until it is stored.
func TestDeltasThatWereNotStoredAreSummedUpOnce(t *testing.T) {
	account := budget.NewRoot("deltas", 1<<20)
	rec := &ingesttest.Recorder{}
	h := newSubject(t, otlp.Options{Deltas: otlp.SumDeltas, Streams: account}, rec)
	const second = 1_000_000_000
	request := func(from int) []byte {
		md := pmetric.NewMetrics()
		metrics := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
		number, exponential := metrics.AppendEmpty(), metrics.AppendEmpty()
		number.SetName("n")
		number.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		exponential.SetName("e")
		exponential.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		for i := range 3 {
			at := pcommon.Timestamp((from + i) * second)
			p := number.Sum().DataPoints().AppendEmpty()
			p.SetStartTimestamp(at - second)
			p.SetTimestamp(at)
			p.SetDoubleValue(10)
			x := exponential.ExponentialHistogram().DataPoints().AppendEmpty()
			x.SetStartTimestamp(at - second)
			x.SetTimestamp(at)
			x.SetCount(2)
			x.Positive().SetOffset(int32(i))
			x.Positive().BucketCounts().FromRaw([]uint64{2})
		}
		return marshal(t, md)
	}
	for round := range 3 {
		body := request(1000 + 3*round)
		rec.DurableErr = errors.New("the disk stands still")
		for range 3 {
			if w := post(h, protobuf, body); w.Code == http.StatusOK {
				t.Fatalf("answer %d %s", w.Code, w.Body)
			}
		}
		rec.DurableErr = nil
		if n, message := partial(t, post(h, protobuf, body)); n != 0 || message != "" {
			t.Errorf("round %d: %d points are rejected: %s", round, n, message)
		}
	}
	sums := map[string]bool{} // those of tries that failed are there too, and must be the same
	for _, r := range rec.Rows() {
		count := r.V
		if r.H != nil {
			count = float64(r.H.Count) * 5
		}
		if want := float64(10 * (r.T/1000 - 999)); count != want || r.ST != 999_000 {
			t.Errorf("%s is %g at %d from %d on, want %g", r.Series, count, r.T, r.ST, want)
		}
		sums[fmt.Sprint(r.Series, r.T)] = true
	}
	if len(sums) != 2*9 {
		t.Errorf("%d samples are stored, want 18", len(sums))
	}
	if used := account.Used(); used > 2*1024 {
		t.Errorf("two streams take %d bytes", used)
	}
}
