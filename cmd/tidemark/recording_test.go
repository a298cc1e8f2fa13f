// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"
)

// recording is what real exporters said at a fixed interval.
//
// Its file is a zstd stream: the line RECv1, then for each scrape of a target its time (uvarint, ms), the number of
// samples (uvarint) and, for each sample, the number of its series (uvarint) and the value (8 bytes, little endian). The
// first time a number occurs the series follows it, before the value: its length (uvarint) and its text, the job, a bar
// and the series as in the exposition.
type recording struct {
	series  [][]byte // as encodeLabels returns them
	scrapes []recordedScrape
	samples int
}

type recordedScrape struct {
	time   int64
	series []uint32
	values []float64
}

const recordingHead = "RECv1\n"

func readRecording(tb testing.TB, path string) *recording {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rec, err := decodeRecording(f)
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return rec
}

func decodeRecording(f io.Reader) (*recording, error) {
	zr, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	r := bufio.NewReader(zr)
	head := make([]byte, len(recordingHead))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != recordingHead {
		return nil, fmt.Errorf("%q at its start, not %q: %w", head, recordingHead, err)
	}
	rec := &recording{}
	for {
		t, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return rec, nil
		}
		if err != nil {
			return nil, err
		}
		s := recordedScrape{time: int64(t)}
		if err := rec.readScrape(r, &s); err != nil {
			return nil, fmt.Errorf("scrape %d: %w", len(rec.scrapes), err)
		}
		rec.scrapes = append(rec.scrapes, s)
		rec.samples += len(s.values)
	}
}

func (rec *recording) readScrape(r *bufio.Reader, s *recordedScrape) error {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	for range n {
		id, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		if id > uint64(len(rec.series)) {
			return fmt.Errorf("series %d comes before %d", id, len(rec.series))
		}
		if id == uint64(len(rec.series)) {
			if err := rec.readSeries(r); err != nil {
				return fmt.Errorf("series %d: %w", id, err)
			}
		}
		var v [8]byte
		if _, err := io.ReadFull(r, v[:]); err != nil {
			return err
		}
		s.series = append(s.series, uint32(id))
		s.values = append(s.values, math.Float64frombits(binary.LittleEndian.Uint64(v[:])))
	}
	return nil
}

func (rec *recording) readSeries(r *bufio.Reader) error {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	const most = 1 << 20
	text := make([]byte, min(size, most))
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	job, series, _ := strings.Cut(string(text), "|")
	ls, err := parser.NewParser(parser.Options{}).ParseMetric(series)
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	b := labels.NewBuilder(ls)
	for name, value := range map[string]string{"job": job, "instance": job + ".example:9100"} {
		if own := ls.Get(name); own != "" {
			b.Set("exported_"+name, own) // as a scrape does
		}
		b.Set(name, value)
	}
	var pairs []string
	b.Labels().Range(func(l labels.Label) { pairs = append(pairs, l.Name, l.Value) })
	rec.series = append(rec.series, encodeLabels(pairs))
	return nil
}

// requests are the recorded scrapes, one after the other, as if the first of them had been at a given time.
func (rec *recording) requests(start int64) iter.Seq[[][]byte] {
	return func(yield func([][]byte) bool) {
		for _, s := range rec.scrapes {
			var w requestWriter
			for i, id := range s.series {
				w.add(rec.series[id], start+s.time-rec.scrapes[0].time, s.values[i])
			}
			if !yield(w.take()) {
				return
			}
		}
	}
}

func TestRecordingIsReplayedAsItWasMade(t *testing.T) {
	text := []byte(recordingHead)
	uvarint := func(xs ...uint64) {
		for _, x := range xs {
			text = binary.AppendUvarint(text, x)
		}
	}
	value := func(v float64) { text = binary.LittleEndian.AppendUint64(text, math.Float64bits(v)) }
	series := func(s string) { uvarint(uint64(len(s))); text = append(text, s...) }
	uvarint(5_000, 2, 0)
	series(`node|up`)
	value(1)
	uvarint(1)
	series(`pg|x{a="1 } \" 2",instance="own"}`)
	value(0.5)
	uvarint(10_003, 1, 1)
	value(-2)
	path := filepath.Join(t.TempDir(), "a.rec.zst")
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, zw.EncodeAll(text, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	rec := readRecording(t, path)
	for requests := range rec.requests(1_000_000) {
		for _, body := range requests {
			raw, err := snappy.Decode(nil, body)
			if err != nil {
				t.Fatal(err)
			}
			var m prompb.WriteRequest
			if err := m.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			for _, s := range m.Timeseries {
				got = append(got, fmt.Sprintf("%v %d %g", s.ToLabels(&labels.ScratchBuilder{}, nil), s.Samples[0].Timestamp, s.Samples[0].Value))
			}
		}
	}
	second := `{__name__="x", a="1 } \" 2", exported_instance="own", instance="pg.example:9100", job="pg"}`
	want := []string{`{__name__="up", instance="node.example:9100", job="node"} 1000000 1`, second + " 1000000 0.5", second + " 1005003 -2"}
	if diff := cmp.Diff(want, got); diff != "" || rec.samples != 3 {
		t.Errorf("%d samples (-want +got):\n%s", rec.samples, diff)
	}
	if _, err := decodeRecording(strings.NewReader(string(zw.EncodeAll(text[:len(text)-3], nil)))); err == nil {
		t.Error("a recording that ends within a sample is taken for a whole one")
	}
}
