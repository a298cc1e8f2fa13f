// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math"
	"strings"
	"testing"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The message is read by the generated code and must have each row, bit for bit.
func TestMessagesOfTheFirstVersionAreReadAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b sample.Batch
		var rows []outRow
		for i := range rapid.IntRange(0, 10).Draw(t, "rows") {
			long := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 126, 127, 128, 129, 20_000}).Draw(t, "length"))
			s := &outSeries{labels: labels.FromStrings("__name__", "m"+long, "l"+long, rapid.StringN(1, 5, 20).Draw(t, "text")+long)}
			v := rapid.OneOf(rapid.Just(math.Copysign(0, -1)), rapid.Just(0.0), rapid.Float64()).Draw(t, "v")
			b.AppendFloat(1, 0, rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "t"), v, 0)
			rows = append(rows, outRow{series: s, batch: &b, row: i})
		}
		raw, err := appendMessage1(nil, rows)
		if err != nil {
			t.Fatal(err)
		}
		var m prompb.WriteRequest
		if err := m.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		if len(m.Timeseries) != len(rows) {
			t.Fatalf("%d series, want %d", len(m.Timeseries), len(rows))
		}
		var lb labels.ScratchBuilder
		for i, s := range m.Timeseries {
			if got := s.ToLabels(&lb, nil); !labels.Equal(got, rows[i].series.labels) {
				t.Errorf("labels %s, want %s", got, rows[i].series.labels)
			}
			if len(s.Samples) != 1 || s.Samples[0].Timestamp != b.T[i] || math.Float64bits(s.Samples[0].Value) != math.Float64bits(b.V[i]) {
				t.Errorf("samples %v, want %v at %d", s.Samples, b.V[i], b.T[i])
			}
		}
	})
}

// BenchmarkMessage makes messages of 2,000 rows, as are sent by default.
func BenchmarkMessage(b *testing.B) {
	var batch sample.Batch
	var rows []outRow
	for i := range 2000 {
		s := &outSeries{labels: labels.FromStrings("__name__", "node_cpu_seconds_total", "cpu", string(rune('a'+i%26)), "instance", "host-0001.example.org:9100", "job", "node", "mode", "idle")}
		batch.AppendFloat(1, 0, 1_700_000_000_000, float64(i), 0)
		rows = append(rows, outRow{series: s, batch: &batch, row: i})
	}
	generated := func() ([]byte, error) {
		series := make([]prompb.TimeSeries, len(rows))
		for i := range rows {
			series[i].Labels = prompb.FromLabels(rows[i].series.labels, nil)
			series[i].Samples = []prompb.Sample{{Value: batch.V[i], Timestamp: batch.T[i]}}
		}
		return (&prompb.WriteRequest{Timeseries: series}).Marshal()
	}
	var buf []byte
	pooled := func() (_ []byte, err error) {
		buf, err = appendMessage1(buf[:0], rows)
		return buf, err
	}
	e := &endpoint{room: newRoom(nil, nil), config: &promconfig.RemoteWriteConfig{ProtobufMessage: messageV1}}
	for name, encode := range map[string]func() ([]byte, error){
		"1.0 by generated code": generated, "1.0": pooled, "2.0": func() ([]byte, error) { return messageOf2(rows) },
		"1.0 packed": func() ([]byte, error) { return e.message(rows) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encode(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/row")
		})
	}
}
