// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

var newStore = flag.String("new-store", "", "make testdata/stores/`name` with this version: only for a new version of a file")

// storesDir has a store of each version of each file that there ever was; see its README.
const storesDir = "testdata/stores"

// storesStart is the first time of these stores.
const storesStart int64 = 1_700_000_040_000

// storeMaker writes the samples of a store of testdata/stores. What it writes never changes, so that all of them give the
// same answers.
type storeMaker struct {
	t    *testing.T
	db   *DB
	ls   []labels.Labels
	refs []sample.Ref
	b    sample.Batch
}

// seriesFloats is how many series of floats come first.
const seriesFloats = 6

// The series of a store behind those. seriesGone ends with the first slot, seriesLate gets samples late, and from
// seriesMany on they are scraped half as often.
const (
	seriesInts = seriesFloats + iota
	seriesStarted
	seriesFloatBuckets
	seriesCustom
	seriesMixed
	seriesLate
	seriesGone
	seriesMany
)

func newStoreMaker(t *testing.T, dir string) *storeMaker {
	t.Helper()
	o := small(fsx.OS())
	o.Dir = dir
	m := &storeMaker{t: t, db: openTest(t, o)}
	for i := range seriesFloats {
		m.ls = append(m.ls, labels.FromStrings(labels.MetricName, "float", "i", strconv.Itoa(i)))
	}
	for _, name := range []string{"ints", "ints_started", "float_buckets", "custom_buckets", "mixed", "late", "gone"} {
		m.ls = append(m.ls, labels.FromStrings(labels.MetricName, name, "job", "ünï"))
	}
	for i := range 40 {
		m.ls = append(m.ls, labels.FromStrings(labels.MetricName, "many", "i", fmt.Sprintf("%02d", i), "job", "x"))
	}
	m.refs = make([]sample.Ref, len(m.ls))
	m.ok(m.db.Resolve(m.ls, m.refs))
	return m
}

func (m *storeMaker) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// commit commits the rows that were appended to b.
func (m *storeMaker) commit() {
	m.t.Helper()
	var r sample.Result
	lsn, err := m.db.Commit(m.t.Context(), &m.b, &r)
	m.ok(err)
	m.ok(m.db.Durable(m.t.Context(), lsn))
	for i, why := range r.Reason {
		if !why.Stored() {
			m.t.Errorf("row %d of %s: %s", i, m.ls[slices.Index(m.refs, m.b.Ref[i])], why)
		}
	}
	m.b.Reset()
}

// storeFloat is the step-th value of one of the first series.
func storeFloat(i, step int) float64 {
	x := float64(step)
	switch i {
	case 0:
		return 42
	case 1:
		return 1e6 + 17*x*x
	case 2:
		return math.Round(x*x*13.7) / 100
	case 3:
		return []float64{math.Float64frombits(value.StaleNaN), math.Inf(1), math.Copysign(0, -1), math.Float64frombits(0x7ff8_0000_dead_beef), 5e-324, -x}[step%6]
	case 4:
		return x * 1.1
	default:
		return math.Sqrt(x + 2)
	}
}

// storeHistogram is the step-th value of a series of native histograms.
func storeHistogram(i, step int) *histogram.Histogram {
	n := int64(step + 1)
	if i == seriesCustom {
		return &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, Count: uint64(3*n + 1), Sum: float64(n) * 2.5, CustomValues: []float64{0.5, 1, 2.5},
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{n, 1, -1},
		}
	}
	h := &histogram.Histogram{
		Schema: 2, ZeroThreshold: 0.001, ZeroCount: uint64(n / 3), Sum: float64(n) * 1.5,
		PositiveSpans: []histogram.Span{{Offset: -1, Length: 2}, {Offset: 2, Length: 1}}, PositiveBuckets: []int64{n, n, -n},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []int64{n / 2},
	}
	if step%12 > 6 { // another layout within the slot
		h.PositiveSpans[1].Length, h.PositiveBuckets = 2, append(h.PositiveBuckets, 3)
		h.Count = uint64(n + 3)
	}
	h.Count += uint64(4*n + n/2 + n/3)
	return h
}

// step writes the step-th sample of all series, five seconds after the one before.
func (m *storeMaker) step(step int) {
	m.t.Helper()
	at := storesStart + 5000*int64(step)
	for i, ref := range m.refs {
		switch {
		case i == 4:
			m.b.AppendFloat(ref, at-at%45_000, at, storeFloat(i, step), 0)
		case i == 5:
			m.b.AppendFloat(ref, 0, at+int64(step*step*37%1000), storeFloat(i, step), 0) // jitter
		case i < seriesFloats:
			m.b.AppendFloat(ref, 0, at, storeFloat(i, step), 0)
		case i == seriesFloatBuckets || i == seriesMixed && step%3 == 2:
			m.b.AppendHistogram(ref, 0, at, nil, storeHistogram(i, step).ToFloat(nil), 0)
		case i == seriesStarted:
			m.b.AppendHistogram(ref, at-at%30_000, at, storeHistogram(i, step), nil, 0)
		case i == seriesInts || i == seriesCustom || i == seriesMixed && step%3 == 1:
			m.b.AppendHistogram(ref, 0, at, storeHistogram(i, step), nil, 0)
		case i == seriesGone && step >= 12:
		case i >= seriesMany && step%2 == 1:
		default:
			m.b.AppendFloat(ref, 0, at, float64(i*step), 0)
		}
	}
	if step%5 == 0 {
		m.b.Exemplars = append(m.b.Exemplars, sample.Exemplar{
			Ref: m.refs[1], Labels: labels.FromStrings("trace", fmt.Sprintf("%04x", step)), V: float64(step), T: at, HasT: step%2 == 0,
		})
	}
	if step%20 == 0 {
		m.b.Meta = append(m.b.Meta, sample.Metadata{Ref: m.refs[0], Type: "gauge", Unit: "bytes", Help: fmt.Sprintf("since step %d", step)})
	}
	m.commit()
}

func (m *storeMaker) delete(name, i string, from, to int) {
	m.t.Helper()
	m.ok(m.db.Delete(m.t.Context(), storesStart+5000*int64(from), storesStart+5000*int64(to), equal(labels.MetricName, name), equal("i", i)))
}

// make writes all of it: three blocks, tombstones beside one, two checkpoints, parts, and a log behind them in which
// there is a delete.
func (m *storeMaker) make() {
	m.t.Helper()
	ctx := m.t.Context()
	for step := range 24 {
		m.step(step)
	}
	m.ok(m.db.Flush(ctx))
	m.delete("float", "2", 2, 6)
	for step := 24; step < 36; step++ {
		m.step(step)
	}
	m.ok(m.db.Maintain(ctx))
	for step := 36; step < 44; step++ {
		m.step(step)
	}
	m.ok(m.db.Checkpoint(ctx))
	m.ok(m.db.Spill(ctx))
	m.step(44)
	m.ok(m.db.Checkpoint(ctx))
	for step := 45; step < 50; step++ {
		m.step(step)
	}
	for _, at := range []int64{storesStart + 62_500, storesStart + 182_500, storesStart + 187_500} {
		m.b.AppendFloat(m.refs[seriesLate], 0, at, float64(at%1000), 0)
		m.commit()
	}
	m.delete("float", "3", 40, 47)
}

// storeText writes down all that a store answers.
func storeText(t *testing.T, db *DB) string {
	t.Helper()
	var out strings.Builder
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(t.Context(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	var b column.Block
	var sb labels.ScratchBuilder
	for id := range uint32(set.N) {
		if n, err := v.Scan(t.Context(), set, []uint32{id}, column.Need{ST: true}, &b); err != nil || n != 1 {
			t.Fatalf("scan: %d, %v", n, err)
		}
		fmt.Fprintln(&out, set.Labels(id, &sb))
		for i, at := range b.T {
			fmt.Fprintf(&out, "  %d", at-storesStart)
			if i < len(b.ST) && b.ST[i] != 0 {
				fmt.Fprintf(&out, " from %d", b.ST[i]-storesStart)
			}
			fmt.Fprintln(&out, " "+valueText(&b, i))
		}
	}
	all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	exemplars, err := v.(column.ExemplarReader).Exemplars(t.Context(), minTime, maxTime, []*labels.Matcher{all})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range exemplars {
		for _, e := range s.Exemplars {
			fmt.Fprintf(&out, "exemplar %s %s %v %d %v\n", s.Labels, e.Labels, e.Value, e.Ts-storesStart, e.HasTs)
		}
	}
	for family, ms := range v.(column.MetadataReader).Metadata(t.Context(), "") {
		fmt.Fprintf(&out, "metadata %s %v\n", family, ms)
	}
	for _, w := range v.Warnings() {
		t.Errorf("warning: %v", w)
	}
	return out.String()
}

func valueText(b *column.Block, i int) string {
	switch k := b.KindAt(i); {
	case k == sample.Histogram:
		return "ints " + histText(b.H.Int[i].ToFloat(nil))
	case k == sample.FloatHistogram:
		return "floats " + histText(b.H.Float[i])
	case math.IsNaN(b.V[i]):
		return fmt.Sprintf("NaN %x", math.Float64bits(b.V[i]))
	}
	return strconv.FormatFloat(b.V[i], 'g', -1, 64)
}

// TestThisVersionMakesAStoreLikeThoseThatAreKept makes one as a killed process leaves it, and puts it into
// testdata/stores if it is told to.
func TestThisVersionMakesAStoreLikeThoseThatAreKept(t *testing.T) {
	dir := t.TempDir()
	m := newStoreMaker(t, dir)
	m.make()
	got := storeText(t, m.db)
	answers := filepath.Join(storesDir, "want.txt")
	if *newStore != "" {
		if err := os.CopyFS(filepath.Join(storesDir, *newStore, "tidemark"), os.DirFS(filepath.Join(dir, "tidemark"))); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(answers); os.IsNotExist(err) {
			if err := os.WriteFile(answers, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, err := os.ReadFile(answers)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("it answers otherwise (-want +got):\n%s", d)
	}
	kept := storeVersions(t, storesDir)
	for kind, vs := range storeVersions(t, dir) {
		first := 1
		if kind == block.PartSuffix { // there were none before blocks of version 2
			first = 2
		}
		for v := first; v <= slices.Max(vs); v++ {
			if !slices.Contains(kept[kind], v) {
				t.Errorf("no store in %s has %s of version %d: make one with -new-store, and say in the README what is new", storesDir, kind, v)
			}
		}
	}
}

// storeVersions returns the versions of the files of the stores below dir by their kind, ascending.
func storeVersions(t *testing.T, dir string) map[string][]int {
	t.Helper()
	out := map[string][]int{}
	note := func(kind string, v int) {
		if i, ok := slices.BinarySearch(out[kind], v); !ok {
			out[kind] = slices.Insert(out[kind], i, v)
		}
	}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if err == nil && e.Name() == "wal" {
				recordVersions(t, name, note)
			}
			return err
		}
		p, err := os.ReadFile(name)
		switch ext := path.Ext(e.Name()); {
		case ext == block.Suffix || ext == block.PartSuffix:
			note(ext, int(binary.LittleEndian.Uint16(p[len(p)-36:])))
		case ext == checkpointSuffix:
			note(ext, int(p[9]))
		case ext == ".seg":
			note(ext, int(binary.LittleEndian.Uint32(p[8:])))
		case ext == tombstoneSuffix || e.Name() == "deletes":
			note(string(p[:4]), int(p[4]))
		case e.Name() == "store.json":
			var m storeMeta
			if err := json.Unmarshal(p, &m); err != nil {
				t.Error(err)
			}
			note("store", m.Format)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// recordVersions notes the formats of the records in a log.
func recordVersions(t *testing.T, dir string, note func(kind string, v int)) {
	t.Helper()
	j, err := journal.Open(journal.Options{FS: fsx.NewOverlay(fsx.OS()), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = j.Replay(1, func(_ sample.LSN, kind byte, p []byte) error {
		if kind == wal.KindBatch { // the limits have a format of their own
			_, rest, err := wal.DecodeLimits(p)
			if err != nil {
				return err
			}
			note("limits record", int(p[0]))
			p = rest
		}
		note(fmt.Sprintf("record %d", kind), int(p[0]))
		return nil
	})
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
}

// copyStore returns a copy of a store of testdata/stores.
func copyStore(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(storesDir, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStoresOfEveryVersionAreReadAndCompacted(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(storesDir, "want.txt"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(storesDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Run(e.Name(), func(t *testing.T) { readAndCompact(t, copyStore(t, e.Name()), string(want)) })
		}
	}
	if len(entries) < 4 {
		t.Errorf("%d entries in %s, want two stores, their answers and a README", len(entries), storesDir)
	}
}

// readAndCompact opens the store in dir, which must answer want, and has all of its files written anew.
func readAndCompact(t *testing.T, dir, want string) {
	t.Helper()
	o := small(fsx.OS())
	o.Dir = dir
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	check := func(when string, db *DB) {
		t.Helper()
		if d := cmp.Diff(want, storeText(t, db)); d != "" {
			t.Fatalf("%s (-want +got):\n%s", when, d)
		}
		if c := db.Conditions(); len(c) > 0 {
			t.Fatalf("%s: %+v", when, c)
		}
	}
	report, err := Verify(t.Context(), VerifyOptions{Dir: dir})
	if err != nil || len(report.Findings) > 0 {
		t.Fatalf("verify: %v, %+v", err, report)
	}
	db, err := Open(t.Context(), o)
	ok("open", err)
	check("as it was kept", db)
	if r := db.Recovery(); r.Checkpoint == 0 || r.Records == 0 {
		t.Errorf("the start read neither checkpoint nor log: %+v", r)
	}
	ok("flush", db.Flush(t.Context()))
	check("flushed", db)
	ok("clean", db.CleanTombstones(t.Context()))
	check("cleaned", db)
	ok("compact", db.Compact(t.Context()))
	check("compacted", db)
	var ids []string
	for _, b := range db.blocks.all() {
		ids = append(ids, b.Meta().ULID)
	}
	ok("merge", db.mergeBlocks(t.Context(), ids))
	check("merged into one", db)
	ok("close", db.Close())
	for kind, vs := range storeVersions(t, dir) {
		if kind == block.Suffix && len(vs) != 1 {
			t.Errorf("blocks of versions %v are left", vs)
		}
	}
	check("opened again", openTest(t, o))
}
