// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

var everything = labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".*")

// promLines reads everything in a directory the way Prometheus does.
func promLines(t *testing.T, dir string) map[string][]string {
	t.Helper()
	db, err := tsdb.OpenDBReadOnly(dir, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := os.MkdirAll(filepath.Join(dir, "wal"), 0o777); err != nil { // a data path has one
		t.Fatal(err)
	}
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	return querierLines(t, q)
}

func querierLines(t *testing.T, q storage.Querier) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	set := q.Select(t.Context(), true, nil, everything)
	for set.Next() {
		var text []string
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			var (
				at int64
				v  float64
				h  *histogram.Histogram
				fh *histogram.FloatHistogram
			)
			switch kind {
			case chunkenc.ValHistogram:
				at, h = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				at, fh = it.AtFloatHistogram(nil)
			default:
				at, v = it.At()
			}
			text = append(text, line(at, v, h, fh))
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 {
			out[set.At().Labels().String()] = text
		}
	}
	if err := set.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExportedBlocksHoldEverySampleOfTheRange(t *testing.T) {
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newMix(rng, 42, epoch, epoch+7*hour, 30_000)
		o := ExportOptions{MinT: epoch + rng.Int64N(hour), MaxT: epoch + 7*hour - rng.Int64N(hour)}
		var progress []Progress
		o.Progress = func(p Progress) { progress = append(progress, p) }
		dir := filepath.Join(t.TempDir(), "new", "blocks")
		blocks, err := Export(t.Context(), m.store(), dir, o)
		if err != nil {
			t.Fatal(err)
		}
		want := m.lines(o.MinT, o.MaxT)
		if diff := cmp.Diff(want, promLines(t, dir)); diff != "" {
			t.Fatalf("seed %d: Prometheus reads (-want +got):\n%s", seed, diff)
		}
		samples := uint64(0)
		for _, lines := range want {
			samples += uint64(len(lines))
		}
		if last := progress[len(progress)-1]; last.Samples != samples || last.Blocks != len(blocks) || last.Until != o.MaxT+1 {
			t.Errorf("seed %d: progress ends with %+v after %d samples in %d blocks", seed, last, samples, len(blocks))
		}
		for i, b := range blocks {
			if b.MinT < o.MinT || b.MaxT > o.MaxT || floor(b.MinT, 2*hour) != floor(b.MaxT, 2*hour) || i > 0 && b.MinT <= blocks[i-1].MaxT {
				t.Errorf("seed %d: block %d is of [%d, %d]", seed, i, b.MinT, b.MaxT)
			}
		}
	}
}

func TestExportedBlocksAreWhatOtherReadersExpect(t *testing.T) {
	m := newMix(rand.New(rand.NewPCG(5, 5)), 30, epoch, epoch+4*hour, 10_000)
	dir := t.TempDir()
	external := labels.FromStrings("cluster", "a", "replica", "0")
	blocks, err := Export(t.Context(), m.store(), dir, ExportOptions{MinT: epoch, MaxT: epoch + 4*hour, External: external})
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 3 {
		t.Fatalf("%d blocks, want 3", len(blocks))
	}
	for _, b := range blocks {
		text, err := os.ReadFile(filepath.Join(dir, b.ULID, "meta.json"))
		if err != nil {
			t.Fatal(err)
		}
		var meta blockMeta
		if err := json.Unmarshal(text, &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Thanos == nil || meta.Thanos.Labels["cluster"] != "a" || len(meta.Thanos.Labels) != 2 {
			t.Errorf("external labels in %s", text)
		}
		if meta.Version != 1 || meta.MaxTime != b.MaxT+1 || meta.MinTime != b.MinT || meta.Stats.NumSamples != b.Samples ||
			meta.Stats.NumSamples != meta.Stats.NumFloatSamples+meta.Stats.NumHistogramSamples || meta.Compaction.Level != 1 {
			t.Errorf("meta %s of %+v", text, b)
		}
		checkChunks(t, filepath.Join(dir, b.ULID), meta.BlockMeta)
	}
}

// checkChunks walks over all chunks of a block.
func checkChunks(t *testing.T, dir string, meta tsdb.BlockMeta) {
	t.Helper()
	b, err := tsdb.OpenBlock(nil, dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	ir, err := b.Index()
	if err != nil {
		t.Fatal(err)
	}
	cr, err := b.Chunks()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = ir.Close(), cr.Close() }()
	name, value := index.AllPostingsKey()
	p, err := ir.Postings(t.Context(), name, value)
	if err != nil {
		t.Fatal(err)
	}
	var sb labels.ScratchBuilder
	var metas []chunks.Meta
	n := uint64(0)
	for p.Next() {
		if err := ir.Series(p.At(), &sb, &metas); err != nil {
			t.Fatal(err)
		}
		for i, m := range metas {
			c, _, err := cr.ChunkOrIterable(m)
			if err != nil {
				t.Fatal(err)
			}
			n++
			switch c.Encoding() {
			case chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
			default:
				t.Errorf("chunk of encoding %s", c.Encoding())
			}
			if c.NumSamples() > chunkSamples || c.NumSamples() == 0 || m.MinTime < meta.MinTime || m.MaxTime >= meta.MaxTime ||
				i > 0 && m.MinTime <= metas[i-1].MaxTime {
				t.Errorf("chunk %d: %d samples in [%d, %d], block %+v", i, c.NumSamples(), m.MinTime, m.MaxTime, meta)
			}
		}
	}
	if n != meta.Stats.NumChunks {
		t.Errorf("%d chunks, meta says %d", n, meta.Stats.NumChunks)
	}
}

func TestExportKeepsCounterResetsOfHistograms(t *testing.T) {
	h := nextHistogram(rand.New(rand.NewPCG(1, 1)), nil, false)
	declared := h.Copy()
	declared.CounterResetHint = histogram.CounterReset
	s := &columntest.Store{}
	ls := labels.FromStrings("__name__", "h")
	for i, x := range []*histogram.Histogram{h, h, declared, h} {
		s.Append(ls, columntest.Sample{T: epoch + int64(i)*1000, H: x})
	}
	dir := t.TempDir()
	blocks, err := Export(t.Context(), s, dir, ExportOptions{MinT: epoch, MaxT: epoch + hour})
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	b, err := tsdb.OpenBlock(nil, filepath.Join(dir, blocks[0].ULID), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if n := b.Meta().Stats.NumChunks; n != 2 {
		t.Errorf("%d chunks: the reset that the sender declared begins a new one", n)
	}
}

func TestExportSelectsSeriesAndSkipsEmptyRanges(t *testing.T) {
	s := &columntest.Store{}
	for i, name := range []string{"a", "b"} {
		for _, at := range []int64{epoch, epoch + 9*hour} {
			s.Append(labels.FromStrings("__name__", name), columntest.Sample{T: at + int64(i), V: 1})
		}
	}
	dir := t.TempDir()
	blocks, err := Export(t.Context(), s, dir, ExportOptions{
		MinT: epoch - 10*hour, MaxT: epoch + 20*hour, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "b")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 2 {
		t.Errorf("%d blocks, want the two that have samples", len(blocks))
	}
	if got := promLines(t, dir); len(got) != 1 || len(got[`{__name__="b"}`]) != 2 {
		t.Errorf("exported %v", got)
	}
}

func TestExportThatFailsLeavesNoHalfBlock(t *testing.T) {
	broken := errors.New("broken")
	m := newMix(rand.New(rand.NewPCG(2, 2)), 20, epoch, epoch+hour, 30_000)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	c := func(name string, ctx context.Context, s *columntest.Store, want string) {
		t.Helper()
		dir := t.TempDir()
		blocks, err := Export(ctx, s, dir, ExportOptions{MinT: epoch, MaxT: epoch + hour})
		if err == nil || !strings.Contains(err.Error(), want) || len(blocks) > 0 {
			t.Errorf("%s: %d blocks, error %v", name, len(blocks), err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %v is left, error %v", name, entries, err)
		}
		if n := s.OpenViews(); n > 0 {
			t.Errorf("%s: %d views are left open", name, n)
		}
	}
	scan := m.store()
	scan.ScanErr = broken
	c("scan fails", t.Context(), scan, "broken")
	warn := m.store()
	warn.Warning = errors.New("a stripe is damaged")
	c("part unreadable", t.Context(), warn, "a stripe is damaged")
	c("canceled", canceled, m.store(), "canceled")
	if _, err := Export(t.Context(), m.store(), t.TempDir(), ExportOptions{MinT: 2, MaxT: 1}); err == nil {
		t.Error("a range that ends before it begins")
	}
}
