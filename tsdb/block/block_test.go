// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const (
	testID = "01JD0000000000000000000001"
	allMin = math.MinInt64
	allMax = math.MaxInt64
)

// row is one sample, with the bits of its value so that rows can be compared.
type row struct {
	T, ST int64
	Bits  uint64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

type testSeries struct {
	labels    labels.Labels
	rows      []row
	exemplars []exemplar.Exemplar
}

type family struct {
	name string
	all  []metadata.Metadata
}

// content is what a test writes into a block.
type content struct {
	series   []testSeries
	families []family
}

func (c content) source() block.Source {
	return block.Source{
		Series: func(yield func(block.Series, error) bool) {
			var b column.Block
			for _, s := range c.series {
				b.Reset()
				b.AppendFloat(-1, 0, 0) // rows need not begin at 0
				for _, r := range s.rows {
					if r.H != nil || r.FH != nil {
						b.AppendHistogram(r.T, r.ST, r.H, r.FH)
					} else {
						b.AppendFloat(r.T, r.ST, math.Float64frombits(r.Bits))
					}
				}
				if !yield(block.Series{Labels: s.labels, Rows: &b, From: 1, To: len(b.T), Exemplars: s.exemplars}, nil) {
					return
				}
			}
		},
		Metadata: c.metadata(""),
	}
}

func (c content) metadata(metric string) iter.Seq2[string, []metadata.Metadata] {
	return func(yield func(string, []metadata.Metadata) bool) {
		for _, f := range c.families {
			if (metric == "" || metric == f.name) && !yield(f.name, f.all) {
				return
			}
		}
	}
}

func float(t, st int64, v float64) row { return row{T: t, ST: st, Bits: math.Float64bits(v)} }

// fullContent has every kind of thing that a block can hold.
func fullContent() content {
	hist := func(t int64, i int64) row { return row{T: t, H: tsdbutil.GenerateTestHistogram(i)} }
	fhist := func(t int64, i int64) row { return row{T: t, ST: t - 7, FH: tsdbutil.GenerateTestFloatHistogram(i)} }
	stale := math.Float64frombits(value.StaleNaN)
	payload := math.Float64frombits(0x7ff8_0000_dead_beef)
	return content{
		series: []testSeries{
			{labels: labels.FromStrings("__name__", "a", "l", "1"), rows: []row{
				float(1000, 0, 1), float(2000, 0, math.Copysign(0, -1)), float(3000, 0, stale), float(4000, 0, math.Inf(-1)), float(5000, 0, payload),
			}},
			{labels: labels.FromStrings("__name__", "a", "l", "2"), rows: []row{float(1500, 900, 1.5), float(2500, 900, 2.5), float(2501, 2500, 0)}},
			{labels: labels.FromStrings("__name__", "b", "le", "0.5"), rows: []row{float(-4000, 0, 7)}, exemplars: []exemplar.Exemplar{
				{Labels: labels.FromStrings("trace", "abc"), Value: 0.25, Ts: -4000, HasTs: true},
				{Labels: labels.EmptyLabels(), Value: math.Inf(1), Ts: 100},
			}},
			{labels: labels.FromStrings("__name__", "h"), rows: []row{
				float(10, 0, 1), hist(20, 1), hist(30, 2), fhist(40, 3), fhist(50, 4), float(60, 0, stale), hist(70, 5),
			}},
			{labels: labels.FromStrings("__name__", "only_exemplars"), exemplars: []exemplar.Exemplar{
				{Labels: labels.FromStrings("trace", "x"), Value: 1, Ts: 9, HasTs: true},
			}},
		},
		families: []family{
			{"a", []metadata.Metadata{{Type: "counter", Unit: "seconds", Help: "newest"}, {Type: "gauge", Help: "older"}}},
			{"b", []metadata.Metadata{{Type: "histogram"}}},
		},
	}
}

func testMeta() block.Meta {
	return block.Meta{ULID: testID, SlotStart: -7_200_000, SlotEnd: 7_200_000, Slot: 7_200_000, LSN: 42, Writer: "0.1.0"}
}

func write(t testing.TB, fs fsx.FS, c content) block.Meta {
	t.Helper()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	m, err := block.Write(fs, "blocks", testMeta(), c.source())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t testing.TB, fs fsx.FS) *block.Block {
	t.Helper()
	b, err := block.Open(fs, block.Path("blocks", testID), block.NewCache(1<<20, nil), block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// rowsOf reads a series.
func rowsOf(b *block.Block, id uint32, mint, maxt int64, withST bool) ([]row, error) {
	var dst column.Block
	dst.Reset()
	err := b.Read(context.Background(), id, mint, maxt, withST, &dst)
	dst.EndSeries()
	return rowsIn(&dst), err
}

func rowsIn(b *column.Block) []row {
	var out []row
	for i := range b.T {
		r := row{T: b.T[i], ST: b.STAt(i), Bits: math.Float64bits(b.V[i])}
		if len(b.Kind) > 0 {
			r.H, r.FH = b.H.Int[i], b.H.Float[i]
		}
		out = append(out, r)
	}
	return out
}

// sameRows compares histograms by all their fields, the counter reset hint included.
func sameRows(got, want []row) string {
	if slices.EqualFunc(got, want, sameRow) {
		return ""
	}
	return "rows differ:\n" + cmp.Diff(want, got, cmpopts.EquateEmpty())
}

func sameRow(a, b row) bool {
	if a.T != b.T || a.ST != b.ST || a.Bits != b.Bits || (a.H == nil) != (b.H == nil) || (a.FH == nil) != (b.FH == nil) {
		return false
	}
	return (a.H == nil || a.H.Equals(b.H) && a.H.CounterResetHint == b.H.CounterResetHint) &&
		(a.FH == nil || a.FH.Equals(b.FH) && a.FH.CounterResetHint == b.FH.CounterResetHint)
}

// checkContent asserts that b holds c and nothing else.
func checkContent(t testing.TB, b *block.Block, c content) {
	t.Helper()
	if msg := differs(b, c); msg != "" {
		t.Fatal(msg)
	}
}

func differs(b *block.Block, c content) string {
	if b.Index().N() != len(c.series) {
		return fmt.Sprintf("%d series, want %d", b.Index().N(), len(c.series))
	}
	lb := labels.NewScratchBuilder(8)
	for i, s := range c.series {
		if got := b.Index().Labels(uint32(i), &lb); !labels.Equal(got, s.labels) {
			return fmt.Sprintf("series %d is %s, want %s", i, got, s.labels)
		}
		got, err := rowsOf(b, uint32(i), allMin, allMax, true)
		if err != nil {
			return fmt.Sprintf("read %s: %v", s.labels, err)
		}
		if diff := sameRows(got, s.rows); diff != "" {
			return fmt.Sprintf("%s:\n%s", s.labels, diff)
		}
		es, err := b.Exemplars(context.Background(), uint32(i), allMin, allMax)
		if diff := cmp.Diff(s.exemplars, es, cmpopts.EquateEmpty(), cmp.Comparer(labels.Equal)); err != nil || diff != "" {
			return fmt.Sprintf("exemplars of %s: %v\n%s", s.labels, err, diff)
		}
	}
	return differsInMetadata(b, c)
}

func differsInMetadata(b *block.Block, c content) string {
	var got []family
	for name, all := range b.Metadata("") {
		got = append(got, family{name, all})
	}
	return cmp.Diff(c.families, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(family{}))
}

func TestBlockComesBackBitForBit(t *testing.T) {
	fs := fsx.NewCrashable()
	c := fullContent()
	meta := write(t, fs, c)
	b := open(t, fs)
	checkContent(t, b, c)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	want := testMeta()
	want.Sources = []string{testID}
	want.MinT, want.MaxT = -4000, 5000
	want.Series, want.Floats, want.Histograms, want.Exemplars = 5, 11, 5, 3
	if diff := cmp.Diff(want, meta); diff != "" {
		t.Errorf("meta of Write:\n%s", diff)
	}
	if diff := cmp.Diff(want, b.Meta()); diff != "" {
		t.Errorf("meta of Open:\n%s", diff)
	}
	for name := range b.Metadata("b") {
		if name != "b" {
			t.Errorf("metadata of b gave %s", name)
		}
	}
}

func TestReadKeepsToItsRange(t *testing.T) {
	fs := fsx.NewCrashable()
	c := fullContent()
	write(t, fs, c)
	b := open(t, fs)
	for id, s := range c.series {
		for _, mint := range []int64{allMin, -4000, -3999, 10, 11, 1500, 2000, 5000, 5001, allMax} {
			for _, maxt := range []int64{allMin, -4000, 9, 10, 60, 2000, 2500, 5000, allMax} {
				want := slices.DeleteFunc(slices.Clone(s.rows), func(r row) bool { return r.T < mint || r.T > maxt })
				got, err := rowsOf(b, uint32(id), mint, maxt, true)
				if diff := sameRows(got, want); err != nil || diff != "" {
					t.Fatalf("series %d in [%d, %d]: %v\n%s", id, mint, maxt, err, diff)
				}
			}
		}
	}
	got, err := rowsOf(b, 1, allMin, allMax, false)
	if err != nil || len(got) != 3 || got[0].ST != 0 {
		t.Errorf("without start timestamps: %v, %v", got, err)
	}
	es, err := b.Exemplars(t.Context(), 2, -3999, allMax)
	if err != nil || len(es) != 1 || es[0].Ts != 100 {
		t.Errorf("exemplars in a range: %v, %v", es, err)
	}
	if _, err := rowsOf(b, 5, allMin, allMax, false); err == nil {
		t.Error("series 5 of 5 was read")
	}
}

// manyContent has series enough for several stripes, one of them with several pages.
func manyContent(series, rows int) content {
	var c content
	for i := range series {
		s := testSeries{labels: labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%05d", i))}
		n := rows
		if i == 7 {
			n = 5000
		}
		x := uint64(i)
		for k := range n {
			x = x*6364136223846793005 + 1442695040888963407
			s.rows = append(s.rows, float(int64(k)*15_000+int64(i), 0, float64(x>>40)))
		}
		c.series = append(c.series, s)
	}
	return c
}

func TestBlockOfManyStripesAndPages(t *testing.T) {
	fs := fsx.NewCrashable()
	c := manyContent(600, 100)
	write(t, fs, c)
	b := open(t, fs)
	checkContent(t, b, c)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := rowsOf(b, 7, 3000*15_000, 3001*15_000, false)
	if diff := sameRows(got, c.series[7].rows[3000:3001]); err != nil || diff != "" {
		t.Errorf("one row of the long series: %v\n%s", err, diff)
	}
	if first, last := b.SeriesTimes(599); first > 599 || last < 99*15_000+599 {
		t.Errorf("times of the last series: %d to %d", first, last)
	}
}

func TestExemplarsOfManySeries(t *testing.T) {
	fs := fsx.NewCrashable()
	c := manyContent(3000, 1)
	for i := range c.series {
		if i%3 == 1 {
			continue
		}
		for k := range 3 {
			c.series[i].exemplars = append(c.series[i].exemplars, exemplar.Exemplar{
				Labels: labels.FromStrings("trace_id", fmt.Sprintf("%032x", i)), Value: float64(i), Ts: int64(i*10 + k), HasTs: k > 0,
			})
		}
	}
	write(t, fs, c)
	b := open(t, fs)
	checkContent(t, b, c)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	es, err := b.Exemplars(t.Context(), 2999, 29991, 29991)
	if err != nil || len(es) != 1 {
		t.Errorf("one exemplar of the last series: %v, %v", es, err)
	}
	if _, err := b.Exemplars(t.Context(), 3000, allMin, allMax); err == nil {
		t.Error("exemplars of series 3000 of 3000 were read")
	}
}

func TestWriteRefusesWhatIsNoBlock(t *testing.T) {
	bad := errors.New("source fails")
	check := func(what string, want error, src block.Source) {
		t.Helper()
		fs := fsx.NewCrashable()
		if err := fs.MkdirAll("blocks"); err != nil {
			t.Fatal(err)
		}
		_, err := block.Write(fs, "blocks", testMeta(), src)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
		if names, err := fs.List("blocks"); err != nil || len(names) > 0 {
			t.Errorf("%s: left %v, %v", what, names, err)
		}
	}
	series := func(all ...testSeries) block.Source { return content{series: all}.source() }
	a, z := labels.FromStrings("a", "x"), labels.FromStrings("z", "x")
	check("nothing", block.ErrEmpty, series())
	check("a series without rows", block.ErrEmpty, series(testSeries{labels: a}))
	check("series out of order", nil, series(testSeries{labels: z, rows: []row{float(1, 0, 1)}}, testSeries{labels: a, rows: []row{float(1, 0, 1)}}))
	check("rows out of order", nil, series(testSeries{labels: a, rows: []row{float(2, 0, 1), float(1, 0, 1)}}))
	check("rows at one time", nil, series(testSeries{labels: a, rows: []row{float(2, 0, 1), float(2, 0, 2)}}))
	failing := series(testSeries{labels: a, rows: []row{float(1, 0, 1)}})
	inner := failing.Series
	failing.Series = func(yield func(block.Series, error) bool) {
		for s := range inner {
			yield(s, nil)
		}
		yield(block.Series{}, bad)
	}
	check("a source that fails", bad, failing)
	tight := series(testSeries{labels: a, rows: []row{float(1, 0, 1)}})
	tight.Account = budget.NewRoot("tight", 100)
	check("no memory", nil, tight)
	unordered := content{series: fullContent().series, families: []family{{name: "b"}, {name: "a"}}}
	check("families out of order", nil, unordered.source())
}

func TestWriteGivesItsMemoryBack(t *testing.T) {
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	root := budget.NewRoot("root", 0)
	src := manyContent(600, 100).source()
	src.Account = root
	if _, err := block.Write(fs, "blocks", testMeta(), src); err != nil {
		t.Fatal(err)
	}
	if root.Used() != 0 || root.Peak() < 100_000 {
		t.Errorf("%d bytes in use, %d at most", root.Used(), root.Peak())
	}
}

// A row in each of many cells takes mostly what the writer keeps per cell.
func TestWriteIsChargedForItsCells(t *testing.T) {
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	const cells = 3000
	c := content{series: []testSeries{{labels: labels.FromStrings("__name__", "a")}}}
	for i := range int64(cells) {
		c.series[0].rows = append(c.series[0].rows, float(7_200_000*i, 0, float64(i)))
	}
	root := budget.NewRoot("root", 0)
	src := c.source()
	src.Account = root
	if _, err := block.Write(fs, "blocks", testMeta(), src); err != nil {
		t.Fatal(err)
	}
	if root.Peak() < 1000*cells {
		t.Errorf("%d bytes for %d cells", root.Peak(), cells)
	}
}

func TestBlockNamesItself(t *testing.T) {
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	m, err := block.Write(fs, "blocks", block.Meta{}, fullContent().source())
	if err != nil {
		t.Fatal(err)
	}
	b, err := block.Open(fs, block.Path("blocks", m.ULID), nil, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Meta().ULID != m.ULID || !slices.Equal(b.Meta().Sources, []string{m.ULID}) || b.Meta().Writer == "" {
		t.Errorf("meta %+v", b.Meta())
	}
	if _, err := block.Write(fs, "blocks", block.Meta{ULID: "../escape"}, fullContent().source()); err == nil {
		t.Error("a block was written under a name that is no ULID")
	}
}

func TestFileLivesUntilItsLastUserGoes(t *testing.T) {
	fs := fsx.NewCrashable()
	c := fullContent()
	write(t, fs, c)
	root := budget.NewRoot("root", 0)
	b, err := block.Open(fs, block.Path("blocks", testID), block.NewCache(1<<20, root), block.Options{Account: root})
	if err != nil {
		t.Fatal(err)
	}
	if !b.Acquire() {
		t.Fatal("an open block was refused")
	}
	if err := b.Delete(); err != nil {
		t.Fatal(err)
	}
	if names, _ := fs.List("blocks"); len(names) > 0 {
		t.Errorf("left %v", names)
	}
	checkContent(t, b, c)
	if root.Used() == 0 {
		t.Error("nothing is charged for an open block")
	}
	b.Release()
	if b.Acquire() {
		t.Error("a closed block was acquired")
	}
	if root.Used() != 0 {
		t.Errorf("%d bytes charged after the last release", root.Used())
	}
	if err := b.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	b.Release() // once too often
}

func TestDeletedFileIsReadOnADisk(t *testing.T) {
	dir, c := t.TempDir(), fullContent()
	m, err := block.Write(fsx.OS(), dir, testMeta(), c.source())
	if err != nil {
		t.Fatal(err)
	}
	b, err := block.Open(fsx.OS(), block.Path(dir, m.ULID), nil, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := fsx.OS().Stat(b.Name()); err != nil || info.Size != b.Size() {
		t.Errorf("size %d, want %d, %v", b.Size(), info.Size, err)
	}
	b.Acquire()
	if err := b.Delete(); err != nil {
		t.Fatal(err)
	}
	if names, err := fsx.OS().List(dir); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
	checkContent(t, b, c)
	b.Release()
	if _, err := rowsOf(b, 0, allMin, allMax, false); err == nil {
		t.Error("a closed file was read")
	}
}

func TestWriteDoesNotOverwrite(t *testing.T) {
	disk := fsx.NewCrashable()
	c := fullContent()
	write(t, disk, c)
	if _, err := block.Write(disk, "blocks", testMeta(), manyContent(3, 3).source()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	checkContent(t, open(t, disk), c)
}

func TestOpenIsChargedAndRefused(t *testing.T) {
	fs := fsx.NewCrashable()
	write(t, fs, fullContent())
	root := budget.NewRoot("root", 50)
	_, err := block.Open(fs, block.Path("blocks", testID), nil, block.Options{Account: root})
	var exceeded *budget.ExceededError
	if !errors.As(err, &exceeded) || root.Used() != 0 {
		t.Errorf("error %v, %d bytes in use", err, root.Used())
	}
}

func TestReadersShareABlock(t *testing.T) {
	fs := fsx.NewCrashable()
	c := manyContent(600, 100)
	write(t, fs, c)
	b, err := block.Open(fs, block.Path("blocks", testID), block.NewCache(200<<10, nil), block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for r := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				if !b.Acquire() {
					return
				}
				id := uint32((i*37 + r*101) % 600)
				got, err := rowsOf(b, id, 0, 20*15_000, false)
				if err != nil || len(got) < 20 {
					t.Errorf("series %d: %d rows, %v", id, len(got), err)
				}
				b.Release()
			}
		})
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestCacheKeepsToItsSize(t *testing.T) {
	fs := fsx.NewCrashable()
	write(t, fs, manyContent(600, 100))
	root := budget.NewRoot("root", 0)
	const size = 2 << 20
	cache := block.NewCache(size, root)
	b, err := block.Open(fs, block.Path("blocks", testID), cache, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	readAll := func() {
		t.Helper()
		for id := range uint32(600) {
			if _, err := rowsOf(b, id, allMin, allMax, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	readAll()
	s := cache.Stats()
	if s.Entries < 2 || s.Misses < uint64(s.Entries) || s.Hits < 500 || s.Bytes > size || s.Bytes != root.Used() {
		t.Errorf("stats %+v, %d bytes charged", s, root.Used())
	}
	root.SetLimit(1) // no room for anything: reads go on without the cache
	cache.Resize(0)
	if s := cache.Stats(); s.Bytes != 0 || s.Entries != 0 || root.Used() != 0 {
		t.Errorf("stats after Resize(0): %+v", s)
	}
	cache.Resize(size)
	readAll()
	if s := cache.Stats(); s.Entries != 0 {
		t.Errorf("%d entries without a budget", s.Entries)
	}
}

func TestReadStopsAtTheBudgetOfItsBlock(t *testing.T) {
	fs := fsx.NewCrashable()
	write(t, fs, manyContent(10, 100))
	b := open(t, fs)
	dst := column.Block{Budget: budget.NewRoot("query", 10_000)}
	dst.Reset()
	err := b.Read(t.Context(), 7, allMin, allMax, false, &dst)
	var exceeded *budget.ExceededError
	if !errors.As(err, &exceeded) || len(dst.T) != 0 {
		t.Errorf("error %v, %d rows", err, len(dst.T))
	}
}
