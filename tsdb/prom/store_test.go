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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// openStore opens the store on a data path that holds, or held, a Prometheus.
func openStore(t *testing.T, o store.Options) *store.DB {
	t.Helper()
	if o.Foreign == nil {
		o.Foreign = Directory{}
	}
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, db) })
	return db
}

func closeStore(t *testing.T, db *store.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// storeLines is everything a store answers.
func storeLines(t *testing.T, db *store.DB) map[string][]string {
	t.Helper()
	v, err := db.View(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	return viewLines(t, v)
}

// waitConverted waits until nothing is left to convert.
func waitConverted(t *testing.T, db *store.DB) {
	t.Helper()
	for range 3000 {
		if db.Stats().Foreign.Blocks == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not converted: %+v, conditions %v", db.Stats().Foreign, db.Conditions())
}

func TestStoreAnswersForPrometheusBeforeDuringAndAfterTheConversion(t *testing.T) {
	// Not both late and deleted: late samples that were deleted from its head a Prometheus finds again at its next start.
	t.Run("late", func(t *testing.T) { checkConversion(t, peerOptions{compact: true, late: 2 * hour, xor2: true}) })
	t.Run("deleted", func(t *testing.T) { checkConversion(t, peerOptions{compact: true, delete: true}) })
}

func checkConversion(t *testing.T, o peerOptions) {
	t.Helper()
	rng := rand.New(rand.NewPCG(21, 1))
	p := newPeer(t, rng, newMix(rng, 35, epoch, epoch+9*hour, 30_000), o)
	p.close(t)
	before := contents(t, p.dir)
	gate := make(chan struct{})
	db := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: gate}})
	found := db.Stats().Foreign.Found
	if found < 4 {
		t.Errorf("%d blocks, which tells little", found)
	}
	for left := found; ; left-- {
		for db.Stats().Foreign.Blocks > left {
			if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
				t.Fatalf("while a block is converted (-Prometheus +ours):\n%s", diff)
			}
		}
		if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
			t.Fatalf("with %d of %d blocks to go (-Prometheus +ours):\n%s", left, found, diff)
		}
		if left == 0 {
			break
		}
		gate <- struct{}{}
	}
	if s := db.Stats().Foreign; s.Converted != found || s.Read == 0 || s.Made == 0 || s.Bytes != 0 {
		t.Errorf("statistics %+v", s)
	}
	closeStore(t, db)
	if diff := cmp.Diff(before, contents(t, p.dir)); diff != "" {
		t.Errorf("originals changed (-before +after):\n%s", diff)
	}
	db = openStore(t, store.Options{Dir: p.dir})
	if s := db.Stats().Foreign; s.Found != 0 {
		t.Errorf("after a restart %d blocks are to be converted again", s.Found)
	}
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("after a restart (-Prometheus +ours):\n%s", diff)
	}
}

func TestFilesOfTheConversionAreThoseOfTheDocument(t *testing.T) {
	rng := rand.New(rand.NewPCG(29, 1))
	p := newPeer(t, rng, newMix(rng, 7, epoch, epoch+5*hour, 120_000), peerOptions{compact: true})
	p.close(t)
	db := openStore(t, store.Options{Dir: p.dir})
	waitConverted(t, db)
	var parents []string
	for _, b := range db.Blocks() {
		parents = append(parents, b.Parents...)
	}
	slices.Sort(parents)
	closeStore(t, db)
	read := func(name string, into any) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(p.dir, "tidemark", "prometheus", name))
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var converted []string
	var head struct {
		Log    string
		Blocks []string
	}
	read("converted.json", &converted)
	read("head.json", &head)
	if diff := cmp.Diff(parents, converted); diff != "" {
		t.Errorf("converted.json (-parents +file):\n%s", diff)
	}
	if len(head.Log) != 64 || len(head.Blocks) != 1 || !slices.Contains(converted, head.Blocks[0]) {
		t.Errorf("head.json: %+v, converted %v", head, converted)
	}
	entries, err := os.ReadDir(filepath.Join(p.dir, "tidemark", "prometheus"))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v are there, error %v; the block of the log is converted and goes", entries, err)
	}
}

func TestStoreRefusesTheDirectoryOfARunningPrometheus(t *testing.T) {
	p := newPeer(t, rand.New(rand.NewPCG(1, 1)), &mix{}, peerOptions{})
	_, err := store.Open(t.Context(), store.Options{Dir: p.dir, Foreign: Directory{}})
	if err == nil || !strings.Contains(err.Error(), "held by another process") {
		t.Errorf("open while Prometheus runs: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "tidemark")); err == nil {
		t.Error("something was written")
	}
}

func TestOriginalsAreDeletedWhereThatIsAsked(t *testing.T) {
	rng := rand.New(rand.NewPCG(22, 1))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	db := openStore(t, store.Options{Dir: p.dir, DeleteForeign: true})
	waitConverted(t, db)
	gone := func() bool {
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return e.Name() != "tidemark" && e.Name() != "lock" && e.Name() != "queries.active"
		})
	}
	for range 500 {
		if gone() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !gone() {
		t.Error("originals are left")
	}
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("(-Prometheus +ours):\n%s", diff)
	}
	closeStore(t, db)
	db = openStore(t, store.Options{Dir: p.dir, DeleteForeign: true})
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("after a restart (-Prometheus +ours):\n%s", diff)
	}
}

// onDisk is a disk of which a test says how much is free.
func onDisk(free uint64) *fsx.Faulty {
	f := fsx.NewFaulty(fsx.OS())
	f.SetUsage(free, 1<<40)
	return f
}

func TestConversionPausesWhereTheDiskNeedsItsReserve(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 1))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	disk := onDisk(1<<20 + 100)
	db := openStore(t, store.Options{Dir: p.dir, FS: disk, MinFree: 1 << 20})
	has := func() bool {
		return slices.ContainsFunc(db.Conditions(), func(c store.Condition) bool { return c.Code == store.ConditionConversion })
	}
	for range 500 {
		if has() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := db.Stats().Foreign; !has() || s.Converted != 0 || s.Blocks != s.Found {
		t.Errorf("conditions %v, %+v", db.Conditions(), s)
	}
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("(-Prometheus +ours):\n%s", diff)
	}
	closeStore(t, db)
	disk.SetUsage(1<<40, 1<<40)
	db = openStore(t, store.Options{Dir: p.dir, FS: disk, MinFree: 1 << 20})
	waitConverted(t, db)
	if has() {
		t.Errorf("conditions %v", db.Conditions())
	}
}

// paused is a Directory of which a block is converted for each token that comes through the gate.
type paused struct {
	store.Foreign

	gate chan struct{}
}

func (p paused) Open(ctx context.Context, dir, scratch string, done func(string) bool) (store.ForeignContents, error) {
	got, err := p.Foreign.Open(ctx, dir, scratch, done)
	for i, b := range got.Blocks {
		got.Blocks[i] = pausedBlock{ForeignBlock: b, gate: p.gate}
	}
	return got, err
}

type pausedBlock struct {
	store.ForeignBlock

	gate chan struct{}
}

func (b pausedBlock) Reader() store.ForeignReader {
	return &pausedReader{ForeignReader: b.ForeignBlock.Reader(), gate: b.gate}
}

type pausedReader struct {
	store.ForeignReader

	gate chan struct{}
	in   bool
}

// Read waits at the first series where start timestamps are asked for, as only the conversion does here.
func (r *pausedReader) Read(ctx context.Context, id uint32, n column.Need, dst *column.Block) error {
	if n.ST && !r.in {
		select {
		case <-r.gate:
			r.in = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.ForeignReader.Read(ctx, id, n, dst)
}

func TestSamplesDeletedDuringTheConversionStayDeleted(t *testing.T) {
	rng := rand.New(rand.NewPCG(24, 1))
	p := newPeer(t, rng, newMix(rng, 21, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	gate := make(chan struct{})
	db := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: gate}})
	if err := db.Delete(t.Context(), epoch+hour, epoch+3*hour, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m1")); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for ls, lines := range p.lines {
		for _, text := range lines {
			if at := timeOf(text); strings.Contains(ls, `"m1"`) && at >= epoch+hour && at <= epoch+3*hour {
				continue
			}
			want[ls] = append(want[ls], text)
		}
	}
	if diff := cmp.Diff(want, storeLines(t, db)); diff != "" {
		t.Errorf("before the conversion (-want +got):\n%s", diff)
	}
	closeStore(t, db)
	db = openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: gate}})
	if diff := cmp.Diff(want, storeLines(t, db)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	close(gate)
	waitConverted(t, db)
	if diff := cmp.Diff(want, storeLines(t, db)); diff != "" {
		t.Errorf("after the conversion (-want +got):\n%s", diff)
	}
}

func TestDeletesCanBeUndoneAfterTheConversion(t *testing.T) {
	rng := rand.New(rand.NewPCG(33, 1))
	p := newPeer(t, rng, newMix(rng, 21, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	gate := make(chan struct{})
	db := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: gate}})
	hide := func(metric string) {
		t.Helper()
		if err := db.Delete(t.Context(), epoch+hour, epoch+5*hour, labels.MustNewMatcher(labels.MatchEqual, "__name__", metric)); err != nil {
			t.Fatal(err)
		}
	}
	hide("m1")
	hide("m2")
	hidden := storeLines(t, db)
	close(gate)
	waitConverted(t, db)
	if diff := cmp.Diff(hidden, storeLines(t, db)); diff != "" {
		t.Errorf("converted (-before +after):\n%s", diff)
	}
	closeStore(t, db)
	db = openStore(t, store.Options{Dir: p.dir})
	if diff := cmp.Diff(hidden, storeLines(t, db)); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
	deletes := db.Deletes()
	if len(deletes) != 2 {
		t.Fatalf("%d deletes", len(deletes))
	}
	for _, d := range deletes {
		if err := db.Undelete(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("undone (-Prometheus +ours):\n%s", diff)
	}
}

func TestSnapshotHoldsWhatIsNotConverted(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 1))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+5*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	db := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: make(chan struct{})}})
	if err := db.Delete(t.Context(), epoch, epoch+hour, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m2")); err != nil {
		t.Fatal(err)
	}
	want := storeLines(t, db)
	name, err := db.Snapshot(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	snapshot := openStore(t, store.Options{Dir: filepath.Join(p.dir, "snapshots", name)})
	if diff := cmp.Diff(want, storeLines(t, snapshot)); diff != "" {
		t.Errorf("(-store +snapshot):\n%s", diff)
	}
	waitConverted(t, snapshot)
	if diff := cmp.Diff(want, storeLines(t, snapshot)); diff != "" {
		t.Errorf("converted (-store +snapshot):\n%s", diff)
	}
}

// commit appends one float to each of n series of the mix.
func commit(t *testing.T, db *store.DB, m *mix, at int64, v float64) {
	t.Helper()
	ls := make([]labels.Labels, len(m.series))
	refs := make([]sample.Ref, len(ls))
	for i, s := range m.series {
		ls[i] = s.ls
	}
	if err := db.Resolve(ls, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	for _, ref := range refs {
		b.AppendFloat(ref, 0, at, v, 0)
	}
	var r sample.Result
	if _, err := db.Commit(t.Context(), &b, &r); err != nil {
		t.Fatal(err)
	}
}

func TestNewSamplesGoOnWherePrometheusEnded(t *testing.T) {
	rng := rand.New(rand.NewPCG(26, 1))
	m := newMix(rng, 14, epoch, epoch+5*hour, 60_000)
	p := newPeer(t, rng, m, peerOptions{compact: true})
	p.close(t)
	gate := make(chan struct{})
	db := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: gate}, MaxFuture: -1})
	for _, x := range m.series {
		p.lines[x.ls.String()] = append(p.lines[x.ls.String()], line(epoch+6*hour, 7, nil, nil))
	}
	commit(t, db, m, epoch+6*hour, 7)
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("beside the originals (-want +got):\n%s", diff)
	}
	v, err := db.View(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	r := v.(column.LabelReader)
	names, err := r.LabelNames(t.Context(), nil, 0)
	if err != nil || !slices.Equal(names, []string{"__name__", "i", "odd"}) {
		t.Errorf("label names %v, error %v", names, err)
	}
	values, err := r.LabelValues(t.Context(), "__name__", []*labels.Matcher{labels.MustNewMatcher(labels.MatchNotEqual, "__name__", "m2")}, 3)
	if err != nil || !slices.Equal(values, []string{"m0", "m1", "m3"}) {
		t.Errorf("label values %v, error %v", values, err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	close(gate)
	waitConverted(t, db)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
		t.Errorf("converted (-want +got):\n%s", diff)
	}
}

func TestPrometheusBlocksBeyondTheRetentionGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(27, 1))
	m := newMix(rng, 14, epoch, epoch+9*hour, 60_000)
	p := newPeer(t, rng, m, peerOptions{compact: true})
	p.close(t)
	db := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: make(chan struct{})}, Retention: 4 * time.Hour})
	report, err := db.RetentionReport(t.Context(), db.Retention())
	if err != nil {
		t.Fatal(err)
	}
	there := db.Stats().Foreign.Blocks
	if err := db.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	went, samples := int64(0), uint64(0)
	for _, part := range report {
		if !part.Foreign {
			t.Errorf("reported is %+v", part)
		}
		if samples += part.Samples; part.Goes == "time" {
			went++
		}
	}
	if left := db.Stats().Foreign.Blocks; int64(len(report)) != there || went == 0 || went != there-left || samples == 0 {
		t.Errorf("%d of %d blocks with %d samples were reported to go, %d of %d are left", went, len(report), samples, left, there)
	}
	oldest := int64(math.MaxInt64)
	for _, lines := range storeLines(t, db) {
		oldest = min(oldest, timeOf(lines[0]))
	}
	if oldest < epoch+hour || oldest > epoch+5*hour {
		t.Errorf("oldest sample %d h after the first", (oldest-epoch)/hour)
	}
	closeStore(t, db)
	again := openStore(t, store.Options{Dir: p.dir, Foreign: paused{Foreign: Directory{}, gate: make(chan struct{})}})
	for _, lines := range storeLines(t, again) {
		if timeOf(lines[0]) < oldest {
			t.Fatal("what the retention dropped is back after a restart")
		}
	}
}

func TestExportOfAStoreIsCharged(t *testing.T) {
	rng := rand.New(rand.NewPCG(32, 1))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+5*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	db := openStore(t, store.Options{Dir: p.dir, ForeignInPlace: true})
	export := func(limit int64) (map[string][]string, *budget.Account, error) {
		t.Helper()
		account, dir := budget.NewRoot("export", limit), t.TempDir()
		_, err := Export(t.Context(), db, dir, ExportOptions{MinT: epoch, MaxT: epoch + 5*hour, Account: account})
		if err != nil {
			return nil, account, err
		}
		return promLines(t, dir), account, nil
	}
	got, account, err := export(0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.lines, got); diff != "" {
		t.Errorf("exported again (-Prometheus +exported):\n%s", diff)
	}
	if n := account.Used(); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
	_, account, err = export(1000)
	if _, ok := errors.AsType[*budget.ExceededError](err); !ok || account.Used() != 0 {
		t.Errorf("with 1000 bytes: error %v, %d bytes still charged", err, account.Used())
	}
}

// keepScratch never removes what was made of the log, so that states of the store before the removal can be opened.
type keepScratch struct{ Directory }

func (k keepScratch) Open(ctx context.Context, dir, scratch string, done func(string) bool) (store.ForeignContents, error) {
	got, err := k.Directory.Open(ctx, dir, scratch, done)
	for i, b := range got.Blocks {
		got.Blocks[i] = keptBlock{b}
	}
	return got, err
}

type keptBlock struct{ store.ForeignBlock }

func (keptBlock) Discard() error { return nil }

func TestConversionSurvivesACrashAtEveryOperation(t *testing.T) {
	rng := rand.New(rand.NewPCG(28, 1))
	p := newPeer(t, rng, newMix(rng, 7, epoch, epoch+5*hour, 120_000), peerOptions{compact: true})
	p.close(t)
	disk := fsx.NewCrashable()
	watched := fsx.NewFaulty(disk)
	var mu sync.Mutex
	var states []*fsx.Crashable
	var watching atomic.Bool
	ops := 0
	watched.Observe(func(op fsx.Op, name string) {
		if !watching.Load() || op&fsx.OpChange == 0 || !strings.Contains(name, "tidemark") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ops++
		states = append(states, disk.Crash([]int{0, 100, 50}[ops%3], uint64(ops)))
	})
	gate := make(chan struct{})
	o := store.Options{Dir: p.dir, FS: watched, Foreign: paused{Foreign: keepScratch{}, gate: gate}, Shards: 1, SegmentBytes: 1 << 16}
	db := openStore(t, o)
	if err := db.Delete(t.Context(), epoch+hour, epoch+4*hour, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m1")); err != nil {
		t.Fatal(err)
	}
	hidden := storeLines(t, db)
	if cmp.Equal(hidden, p.lines) {
		t.Fatal("nothing was deleted")
	}
	watching.Store(true)
	close(gate)
	waitConverted(t, db)
	watched.Observe(func(fsx.Op, string) {})
	converted := len(db.Blocks())
	closeStore(t, db)
	if len(states) < 30 {
		t.Fatalf("%d states", len(states))
	}
	for i, state := range states {
		o.FS, o.Foreign = state, keepScratch{}
		db, err := store.Open(t.Context(), o)
		if err != nil {
			t.Fatalf("state %d: %v", i, err)
		}
		for what := range 2 {
			if diff := cmp.Diff(hidden, storeLines(t, db)); diff != "" {
				t.Fatalf("state %d of %d, look %d (-before +after the crash):\n%s", i, len(states), what, diff)
			}
			waitConverted(t, db)
		}
		var from []string
		for _, b := range db.Blocks() {
			from = append(from, b.Parents...)
		}
		slices.Sort(from)
		if len(from) != converted || len(slices.Compact(from)) != converted {
			t.Errorf("state %d: %d blocks, want one of each of %d", i, len(from), converted)
		}
		for _, d := range db.Deletes() {
			if err := db.Undelete(t.Context(), d.ID); err != nil {
				t.Fatalf("state %d: %v", i, err)
			}
		}
		if diff := cmp.Diff(p.lines, storeLines(t, db)); diff != "" {
			t.Fatalf("state %d of %d, undone (-Prometheus +ours):\n%s", i, len(states), diff)
		}
		closeStore(t, db)
	}
}
