// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// modelRow is a sample as the model keeps it; value is its text, by which samples are compared.
type modelRow struct {
	t, st int64
	value string
	lsn   sample.LSN
}

type modelSeries struct {
	ref    sample.Ref
	labels labels.Labels
	any    bool
	lastT  int64
	last   string
	kind   sample.Kind
	gone   bool // the newest sample is deleted
	rows   map[int64]modelRow
	// blocks is the times of the rows that have left for one. The head takes another one at such a time, which nobody sees,
	// and a replay may come to another than the first run.
	blocks map[int64]bool
}

// oracle is the head as a sorted map would do it.
type oracle struct {
	series map[sample.Ref]*modelSeries
}

func (m *oracle) copy() *oracle {
	c := &oracle{series: map[sample.Ref]*modelSeries{}}
	for ref, s := range m.series {
		x := *s
		x.rows, x.blocks = maps.Clone(s.rows), maps.Clone(s.blocks)
		c.series[ref] = &x
	}
	return c
}

// text is the rows but those at times that leave says.
func (s *modelSeries) text(leave func(s *modelSeries, tm int64) bool) string {
	out := ""
	for _, t := range slices.Sorted(maps.Keys(s.rows)) {
		if leave(s, t) {
			continue
		}
		r := s.rows[t]
		out += fmt.Sprintf("%d/%d=%s\n", r.t, r.st, r.value)
	}
	return out
}

func blockText(b *column.Block) string {
	out := ""
	for i, t := range b.T {
		var h *histogram.Histogram
		var fh *histogram.FloatHistogram
		if b.KindAt(i) != sample.Float {
			h, fh = b.H.Int[i], b.H.Float[i]
		}
		out += fmt.Sprintf("%d/%d=%s\n", t, b.STAt(i), valueText(b.V[i], h, fh))
	}
	return out
}

func valueText(v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	switch {
	case h != nil:
		return fmt.Sprintf("int sum=%x %+v", math.Float64bits(h.Sum), *h)
	case fh != nil:
		return fmt.Sprintf("float sum=%x %+v", math.Float64bits(fh.Sum), *fh)
	}
	return fmt.Sprintf("%x", math.Float64bits(v))
}

// judge is the model's own judgement of row i, and applies it.
func (m *oracle) apply(b *sample.Batch, i int, lim Limits, lsn sample.LSN) sample.Reason {
	s := m.series[b.Ref[i]]
	t, kind, v, flags := b.T[i], b.KindAt(i), b.V[i], b.FlagsAt(i)
	var h *histogram.Histogram
	var fh *histogram.FloatHistogram
	if kind != sample.Float {
		h, fh = b.H[i], b.FH[i]
	}
	if s == nil {
		return sample.StaleRef
	}
	if t > lim.MaxT {
		return sample.TooNew
	}
	if t < lim.MinT {
		return sample.TooOld
	}
	if kind == sample.Float && value.IsStaleNaN(v) && s.any && s.kind != sample.Float {
		kind = s.kind
		if kind == sample.Histogram {
			h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		} else {
			fh = &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}
		}
	}
	if h != nil && h.Validate() != nil {
		return sample.Invalid
	}
	text := valueText(v, h, fh)
	row := modelRow{t, b.STAt(i), text, lsn}
	switch {
	case !s.any || t > s.lastT:
		s.any, s.lastT, s.last, s.kind, s.gone = true, t, text, kind, false
		s.rows[t] = row
		return sample.Accepted
	case t == s.lastT && s.gone:
		return s.late(row)
	case t == s.lastT && text == s.last:
		return sample.Same
	case t == s.lastT:
		return sample.Conflict
	case flags&sample.RejectOutOfOrder != 0:
		return sample.OutOfOrder
	}
	oldest := lim.MinPush
	if flags&sample.Scraped != 0 {
		oldest = lim.MinScrape
	}
	if oldest == NoLate {
		return sample.OutOfOrder
	}
	if t < oldest {
		return sample.TooOld
	}
	return s.late(row)
}

func (s *modelSeries) late(row modelRow) sample.Reason {
	if have, ok := s.rows[row.t]; ok {
		if have.value == row.value {
			return sample.Same
		}
		return sample.Conflict
	}
	s.rows[row.t] = row
	return sample.Accepted
}

// record is one entry of the log that a replay starts from.
type record struct {
	lsn    sample.LSN
	batch  *sample.Batch
	limits Limits
	ref    sample.Ref // of a new series
	labels labels.Labels
	change *change
}

type pinned struct {
	pin  *Pin
	want *oracle
}

type flush struct {
	slot int64
	lsn  sample.LSN
}

type machine struct {
	bench
	model   *oracle
	log     []record
	pins    []pinned
	flushes []flush
	stale   []sample.Ref
	parts   []*memoryPart // in the order of their making
}

var modelHistograms = []*histogram.Histogram{
	{Schema: 1, Count: 7, Sum: 3.5, ZeroThreshold: 0.01, ZeroCount: 2, PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{1, 1, 0}},
	{Schema: 1, Count: 9, Sum: 4.5, ZeroThreshold: 0.01, ZeroCount: 2, PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{2, 1, -1}},
	{Schema: 0, Count: 3, Sum: math.Inf(1), NegativeSpans: []histogram.Span{{Offset: 0, Length: 2}}, NegativeBuckets: []int64{1, 1}, CounterResetHint: histogram.GaugeType},
	{Schema: -53, Count: 5, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 1, 0}, CustomValues: []float64{0.5, 1}},
	{Schema: 1, Count: 99, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}}, PositiveBuckets: []int64{1}}, // malformed
}

var modelFloats = []float64{0, math.Copysign(0, -1), 1, 1.5, math.Pi, math.Inf(-1), math.NaN(), math.Float64frombits(value.StaleNaN), math.Float64frombits(0x7ff0_0000_dead_beef)}

func (x *machine) drawBatch(t *rapid.T) *sample.Batch {
	b := &sample.Batch{}
	refs := slices.Sorted(maps.Keys(x.model.series))
	refs = append(refs, x.stale...)
	if len(refs) == 0 {
		return b
	}
	for range rapid.IntRange(1, 12).Draw(t, "rows") {
		ref := rapid.SampledFrom(refs).Draw(t, "ref")
		base := int64(0)
		if s := x.model.series[ref]; s != nil && s.any {
			base = s.lastT
		}
		tm := base + rapid.OneOf(rapid.Int64Range(-3, 40), rapid.Int64Range(-300, 300)).Draw(t, "t")
		st := int64(0)
		if rapid.IntRange(0, 4).Draw(t, "hasST") == 0 {
			st = tm - rapid.Int64Range(1, 50).Draw(t, "st")
		}
		flags := rapid.SampledFrom([]sample.Flag{0, 0, 0, sample.Scraped, sample.RejectOutOfOrder}).Draw(t, "flags")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			b.AppendHistogram(ref, st, tm, rapid.SampledFrom(modelHistograms).Draw(t, "h").Copy(), nil, flags)
		case 1:
			h := rapid.SampledFrom(modelHistograms[:4]).Draw(t, "fh")
			b.AppendHistogram(ref, st, tm, nil, h.ToFloat(nil), flags)
		default:
			b.AppendFloat(ref, st, tm, rapid.SampledFrom(modelFloats).Draw(t, "v"), flags)
		}
	}
	return b
}

func (x *machine) commitBatch(t *rapid.T) {
	b := x.drawBatch(t)
	lim := Limits{MinT: -1000, MaxT: 5000, MinPush: rapid.SampledFrom([]int64{-1000, 0, NoLate}).Draw(t, "minpush"), MinScrape: rapid.SampledFrom([]int64{NoLate, 10}).Draw(t, "minscrape")}
	lsn, r := x.commit(b, lim)
	x.log = append(x.log, record{lsn: lsn, batch: b, limits: lim})
	floats, hists := 0, 0
	for i := range b.Len() {
		want := x.model.apply(b, i, lim, lsn)
		if r.At(i) != want {
			t.Fatalf("lsn %d row %d: %s, want %s (t=%d)", lsn, i, r.At(i), want, b.T[i])
		}
		if want.Stored() {
			floats++
		}
	}
	if got := r.Floats + r.Histograms; got != floats+hists {
		t.Fatalf("%d rows stored, want %d", got, floats+hists)
	}
}

func (x *machine) create(t *rapid.T) {
	ls := named(rapid.IntRange(0, 15).Draw(t, "series"))
	known := false
	for _, s := range x.model.series {
		known = known || labels.Equal(s.labels, ls)
	}
	before := x.lsn
	ref := x.series(ls)
	if known != (x.lsn == before) {
		t.Fatalf("%s was known: %t, was found: %t", ls, known, x.lsn == before)
	}
	if known {
		return
	}
	x.model.series[ref] = &modelSeries{ref: ref, labels: ls, rows: map[int64]modelRow{}, blocks: map[int64]bool{}}
	x.log = append(x.log, record{lsn: x.lsn, ref: ref, labels: ls})
}

func (x *machine) takePin() pinned {
	p := pinned{x.pin(), x.model.copy()}
	x.pins = append(x.pins, p)
	return p
}

func (x *machine) closePin(i int) {
	x.pins[i].pin.Close()
	x.pins = slices.Delete(x.pins, i, i+1)
}

func (x *machine) drop(t *rapid.T) {
	p := x.takePin()
	slot := x.h.slotOf(rapid.Int64Range(-300, 600).Draw(t, "slot"))
	for range rapid.IntRange(0, 2).Draw(t, "meanwhile") {
		x.commitBatch(t)
	}
	var want []sample.Ref
	for ref, s := range p.want.series {
		for _, r := range s.rows {
			if x.h.slotOf(r.t) == slot {
				want = append(want, ref)
				break
			}
		}
	}
	slices.SortFunc(want, func(a, b sample.Ref) int {
		return labels.Compare(p.want.series[a].labels, p.want.series[b].labels)
	})
	got := x.slotSeries(p.pin, slot)
	if !slices.EqualFunc(got, want, func(id uint32, r sample.Ref) bool { return id == r.ID() }) {
		t.Fatalf("slot %d has the series %v, want %v", slot, got, want)
	}
	x.h.DropSlot(slot, p.pin.Epoch())
	x.flushes = append(x.flushes, flush{slot, p.pin.Epoch()})
	for _, s := range x.model.series {
		maps.DeleteFunc(s.rows, func(tm int64, r modelRow) bool {
			goes := r.lsn <= p.pin.Epoch() && x.h.slotOf(tm) == slot
			s.blocks[tm] = s.blocks[tm] || goes
			return goes
		})
	}
	if rapid.Bool().Draw(t, "close") {
		x.closePin(len(x.pins) - 1)
	}
}

func (x *machine) free(t *rapid.T) {
	refs := x.h.Idle(rapid.Int64Range(0, 1000).Draw(t, "before"))
	x.seq.Lock()
	defer x.seq.Unlock()
	refs, err := x.h.StillIdle(context.Background(), refs)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		if n := len(x.model.series[ref].rows); n > 0 {
			t.Fatalf("series %d is idle with %d samples", ref, n)
		}
		delete(x.model.series, ref)
		x.stale = append(x.stale, ref)
	}
	x.lsn++
	x.h.Free(refs, x.lsn)
	x.log = append(x.log, record{lsn: x.lsn, change: &change{refs: refs, free: true}})
}

func (x *machine) delete(t *rapid.T) {
	refs := slices.Sorted(maps.Keys(x.model.series))
	if len(refs) == 0 {
		return
	}
	refs = refs[:rapid.IntRange(0, len(refs)).Draw(t, "n")]
	mint := rapid.Int64Range(-300, 1000).Draw(t, "mint")
	maxt := mint + rapid.Int64Range(0, 300).Draw(t, "width")
	x.seq.Lock()
	x.lsn++
	x.h.Delete(refs, mint, maxt, x.lsn)
	x.seq.Unlock()
	x.log = append(x.log, record{lsn: x.lsn, change: &change{refs: refs, mint: mint, maxt: maxt}})
	for _, ref := range refs {
		s := x.model.series[ref]
		s.gone = s.gone || s.any && s.lastT >= mint && s.lastT <= maxt
		maps.DeleteFunc(s.rows, func(tm int64, _ modelRow) bool { return tm >= mint && tm <= maxt })
	}
}

// checkPins compares every pin with the model's copy of its epoch.
func (x *machine) checkPins(t *rapid.T) {
	for _, p := range x.pins {
		checkPin(t, p, func(*modelSeries, int64) bool { return false })
	}
}

// checkPin compares what a pin sees with the model, but for the rows that leave says.
func checkPin(t *rapid.T, p pinned, leave func(s *modelSeries, tm int64) bool) {
	t.Helper()
	ids, err := p.pin.Select(budget.NewTask(context.Background(), nil), []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "i", ".*")})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[sample.Ref]bool{}
	b := &column.Block{}
	b.Reset()
	if err := p.pin.ReadMany(ids, math.MinInt64, math.MaxInt64, true, b, func(int) error { b.EndSeries(); return nil }); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		ref := p.pin.Ref(id)
		seen[ref] = true
		s := p.want.series[ref]
		if s == nil {
			t.Fatalf("epoch %d: series %#x is not in the model", p.pin.Epoch(), uint64(ref))
		}
		one := &column.Block{}
		one.Reset()
		from, to := b.Rows(i)
		for row := from; row < to; row++ {
			if leave(s, b.T[row]) {
				continue
			}
			if b.KindAt(row) == sample.Float {
				one.AppendFloat(b.T[row], b.STAt(row), b.V[row])
			} else {
				one.AppendHistogram(b.T[row], b.STAt(row), b.H.Int[row], b.H.Float[row])
			}
		}
		if got, want := blockText(one), s.text(leave); got != want {
			t.Fatalf("epoch %d drops %d: series %#x is\n%swant\n%s", p.pin.Epoch(), p.pin.drops, uint64(ref), got, want)
		}
	}
	for ref, s := range p.want.series {
		if len(s.rows) > 0 && !seen[ref] {
			t.Fatalf("epoch %d: series %#x with %d samples was not selected", p.pin.Epoch(), uint64(ref), len(s.rows))
		}
	}
}

// busyFile is a checkpoint that works come into while it is written.
type busyFile struct {
	bytes.Buffer

	meanwhile func()
}

func (f *busyFile) Write(b []byte) (int, error) {
	f.meanwhile()
	return f.Buffer.Write(b)
}

// anything does one of all there is to do to a head.
func (x *machine) anything(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "meanwhile") {
	case 0:
		x.create(t)
	case 1:
		x.delete(t)
	case 2:
		x.free(t)
	case 3:
		x.spill(t)
	case 4:
		x.drop(t)
	default:
		x.commitBatch(t)
	}
}

// reload loads a checkpoint into a new head, replays the log behind it, and goes on with that. The epoch is that of a
// random pin, and while the file is written the head is used as ever.
func (x *machine) reload(t *rapid.T) {
	if len(x.pins) == 0 {
		x.takePin()
	}
	p := rapid.SampledFrom(x.pins).Draw(t, "pin")
	busy := rapid.IntRange(0, 3).Draw(t, "busy")
	file := busyFile{meanwhile: func() {
		if busy > 0 && rapid.IntRange(0, 3).Draw(t, "works") < busy {
			x.anything(t)
		}
	}}
	if err := x.h.Snapshot(p.pin.Epoch(), &file); err != nil {
		t.Fatal(err)
	}
	h := New(x.h.opts)
	h.snapshotRun = 1
	for _, f := range x.flushes {
		h.Flushed(f.slot, f.lsn)
	}
	x.parts = slices.DeleteFunc(x.parts, func(y *memoryPart) bool {
		return y.discarded || !h.AttachRecovered(y, y.info, y.series)
	})
	if err := h.LoadSnapshot(&file); err != nil {
		t.Fatal(err)
	}
	x.replay(t, h, p.pin.Epoch())
	for len(x.pins) > 0 {
		x.closePin(0)
	}
	if err := x.h.Close(); err != nil {
		t.Fatal(err)
	}
	x.h = h
	// A slot that was dropped may hold rows in the new head that a block has too.
	flushed := map[int64]bool{}
	for _, f := range x.flushes {
		flushed[f.slot] = true
	}
	now := pinned{x.pin(), x.model}
	unseen := func(s *modelSeries, tm int64) bool {
		_, ok := s.rows[tm]
		return s.blocks[tm] || !ok && flushed[h.slotOf(tm)]
	}
	checkPin(t, now, unseen)
	x.adopt(now.pin, unseen)
	now.pin.Close()
}

// adopt makes the model have what the head has of the rows that nobody sees.
func (x *machine) adopt(p *Pin, unseen func(s *modelSeries, tm int64) bool) {
	for ref, s := range x.model.series {
		b := x.read(p, ref.ID(), math.MinInt64, math.MaxInt64)
		have := map[int64]modelRow{}
		for i, tm := range b.T {
			if !unseen(s, tm) {
				continue
			}
			var h *histogram.Histogram
			var fh *histogram.FloatHistogram
			if b.KindAt(i) != sample.Float {
				h, fh = b.H.Int[i], b.H.Float[i]
			}
			have[tm] = modelRow{tm, b.STAt(i), valueText(b.V[i], h, fh), 0}
		}
		maps.DeleteFunc(s.rows, func(tm int64, _ modelRow) bool { return s.blocks[tm] })
		maps.Copy(s.rows, have)
	}
}

func (x *machine) replay(t failer, h *Head, after sample.LSN) {
	var log []record
	for _, r := range x.log {
		if r.lsn > after {
			log = append(log, r)
		}
	}
	for _, r := range log { // who there is
		switch {
		case r.change != nil && r.change.free:
			h.applyChange(r.change, r.lsn)
			continue
		case r.batch == nil && r.change == nil:
			if err := h.Restore(r.ref, r.labels); err != nil {
				t.Fatal(err)
			}
		}
		h.Skip(r.lsn)
	}
	if lost := h.Registered(); lost != 0 {
		t.Errorf("%d series of parts are not in the log", lost)
	}
	h.StartAt(after)
	for _, r := range log { // and what they have
		switch {
		case r.batch != nil:
			w := h.Prepare(r.batch, r.limits)
			h.Enqueue(w, r.lsn)
			h.Apply(w, nil)
		case r.change != nil && !r.change.free:
			h.applyChange(r.change, r.lsn)
		default:
			h.Skip(r.lsn)
		}
	}
	h.Recovered()
}

func TestHeadDoesWhatAMapWouldDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := &machine{bench: bench{tb: t, h: New(Options{Shards: 4, SlotMillis: 100})}, model: &oracle{series: map[sample.Ref]*modelSeries{}}}
		defer func() { _ = x.h.Close() }()
		x.h.snapshotRun = 1
		x.create(t)
		t.Repeat(map[string]func(*rapid.T){
			"create": x.create,
			"commit": x.commitBatch, "commit again": x.commitBatch, "and again": x.commitBatch,
			"pin": func(*rapid.T) { x.takePin() },
			"unpin": func(t *rapid.T) {
				if len(x.pins) > 0 {
					x.closePin(rapid.IntRange(0, len(x.pins)-1).Draw(t, "pin"))
				}
			},
			"drop": x.drop, "spill": x.spill, "free": x.free, "delete": x.delete, "reload": x.reload,
			"": x.checkPins,
		})
	})
}
