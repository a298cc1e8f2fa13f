// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gogo/protobuf/proto"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/remotewrite"
)

// drawn is a series of a random request.
type drawn struct {
	pairs   []string // labels; without a name they are bad
	samples []prompb.Sample
}

func (s drawn) bad() bool { return s.pairs[0] != "__name__" }

// draw returns series of which few or many are known, some are bad, some have long labels, and most have one sample.
func draw(rng *rand.Rand) []drawn {
	out := make([]drawn, rng.IntN(70))
	for i := range out {
		s := drawn{pairs: []string{"__name__", "m", "series", fmt.Sprint(rng.IntN(100))}}
		switch rng.IntN(8) {
		case 0:
			s.pairs[0] = "no_name"
		case 1:
			s.pairs = append(s.pairs, "long", strings.Repeat("x", 100+rng.IntN(100)))
		}
		samples := 1
		if rng.IntN(6) == 0 {
			samples = rng.IntN(4)
		}
		for range samples {
			s.samples = append(s.samples, prompb.Sample{Timestamp: rng.Int64N(1<<41) - 1<<20, Value: float64(rng.IntN(3))})
		}
		out[i] = s
	}
	return out
}

// Series are looked up in groups: whatever is in a group, and wherever it ends, each row goes to its series, in order.
func TestSeriesOfGroupsGetTheirRows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, contentType := range []string{typeV1, typeV2} {
		store := &ingesttest.Recorder{}
		r := newReceiver(t, store, nil)
		var want []ingesttest.Row
		for range 100 {
			drawn := draw(rng)
			var m proto.Message
			if contentType == typeV1 {
				req := &prompb.WriteRequest{}
				for _, s := range drawn {
					req.Timeseries = append(req.Timeseries, prompb.TimeSeries{Labels: pairs(s.pairs...), Samples: s.samples})
				}
				m = req
			} else {
				var series []func(*writev2.SymbolsTable) writev2.TimeSeries
				for _, s := range drawn {
					var ts writev2.TimeSeries
					for _, x := range s.samples {
						ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: x.Timestamp, Value: x.Value})
					}
					series = append(series, seriesV2(ts, [2]string{"help", ""}, s.pairs...))
				}
				m = requestV2(series...)
			}
			code := http.StatusNoContent
			for _, s := range drawn {
				for _, x := range s.samples {
					if s.bad() {
						code = http.StatusBadRequest
						continue
					}
					want = append(want, ingesttest.Row{Series: labels.FromStrings(s.pairs...).String(), T: x.Timestamp, V: x.Value})
				}
				if len(s.samples) == 0 && (contentType == typeV2 || s.bad()) {
					code = http.StatusBadRequest
				}
			}
			if resp := r.sendMessage(m, contentType); resp.Code != code {
				t.Fatalf("%s: %d: %s, want %d", contentType, resp.Code, resp.Body, code)
			}
		}
		r.rows(want...)
	}
}

// The answer, the pools and the like are paid per request.
func TestKnownSamplesAreReceivedWithoutAllocations(t *testing.T) {
	for _, contentType := range []string{typeV1, typeV2} {
		allocations := func(samples int) float64 {
			in, err := ingest.New(ingest.Options{Appender: &sink{}})
			if err != nil {
				t.Fatal(err)
			}
			h, err := remotewrite.New(remotewrite.Options{Intake: in})
			if err != nil {
				t.Fatal(err)
			}
			body := bodyOf(t, contentType, 0, samples)
			return testing.AllocsPerRun(10, func() {
				req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
				req.Header.Set("Content-Type", contentType)
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, req); w.Code != http.StatusNoContent {
					t.Fatal(w.Body)
				}
			})
		}
		if few, many := allocations(10), allocations(2010); many-few > 100 { // the race detector makes pools forget
			t.Errorf("%s: 10 samples are %v allocations, 2,010 are %v", contentType, few, many)
		}
	}
}

// bodyOf is a request of series of the fleet from this one on, one sample each.
func bodyOf(tb testing.TB, contentType string, from, samples int) []byte {
	tb.Helper()
	var m proto.Message
	if contentType == typeV1 {
		var req prompb.WriteRequest
		for i := range samples {
			req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
				Labels: pairs(nodeLabels((from+i)/400, (from+i)%400)...), Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: 1_700_000_000_000}},
			})
		}
		m = &req
	} else {
		symbols := writev2.NewSymbolTable()
		var req writev2.Request
		for i := range samples {
			req.Timeseries = append(req.Timeseries, seriesV2(writev2.TimeSeries{
				Samples: []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: 1_700_000_000_000}}, Metadata: writev2.Metadata{Type: 1},
			}, [2]string{"Seconds the CPUs spent in each mode.", "seconds"}, nodeLabels((from+i)/400, (from+i)%400)...)(&symbols))
		}
		req.Symbols = symbols.Symbols()
		m = &req
	}
	body, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return snappy.Encode(nil, body)
}
