// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// stepped is a store that is being restored record by record, as the test lets it.
type stepped struct {
	*DB

	at chan sample.LSN // the record that is about to be applied
	on chan struct{}   // lets it go on; closed: to the end
}

// startStepped starts a store that stops before each record.
func startStepped(t *testing.T, o Options) *stepped {
	t.Helper()
	s := &stepped{at: make(chan sample.LSN), on: make(chan struct{})}
	free := make(chan struct{})
	o.restoreStep = func(lsn sample.LSN) {
		select {
		case s.at <- lsn:
			<-s.on
		case <-free:
		}
	}
	db, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	s.DB = db
	t.Cleanup(func() {
		close(free)
		select {
		case <-s.on:
		default:
			close(s.on)
		}
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// next waits for the next record, and returns false when the store is whole.
func (s *stepped) next() bool {
	select {
	case <-s.at:
		return true
	case <-s.Restored():
		return false
	}
}

// finish lets the store go on to the end.
func (s *stepped) finish(t *testing.T) {
	t.Helper()
	close(s.on)
	for s.next() {
	}
	if err := s.Await(t.Context(), minTime, maxTime); err != nil {
		t.Fatalf("the store was not restored: %v", err)
	}
}

// isRestoring reports whether err says that the store is being restored, and how far it is.
func isRestoring(err error) bool {
	e, ok := errors.AsType[*sample.UnavailableError](err)
	return ok && e.Condition == ConditionRestoring && e.RetryAfter > 0 && strings.Contains(err.Error(), "log")
}

// restoreWorkload fills a store with a block, parts, a checkpoint and a log behind it that has series which come, and
// late rows. It returns the time of the last step.
func restoreWorkload(t *testing.T, db *DB, write func(ls []labels.Labels, ts int64)) int64 {
	t.Helper()
	const steps = 30
	for step := range int64(steps) {
		var ls []labels.Labels
		for i := range 4 + step/8 {
			ls = append(ls, seriesName(int(i)))
		}
		write(ls, step*5_000)
		var err error
		switch step {
		case 14:
			err = db.flushFirst(t.Context())
		case 17:
			err = db.Spill(t.Context())
		case 18:
			err = db.Checkpoint(t.Context())
		case 22:
			err = db.Spill(t.Context())
		case 25:
			write(ls[:2], step*5_000-12_500)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return (steps - 1) * 5_000
}

// flushFirst makes a block of the oldest slot.
func (db *DB) flushFirst(ctx context.Context) error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	return db.flushSlot(ctx, db.head.Slots()[0].Start)
}

// twins are a store that is restored and one that was never stopped: the same is written to both, and the second one
// knows the truth.
type twins struct {
	t              *testing.T
	a, b           *DB
	hasty, patient *query.Engine // of a: which waits for a millisecond, and for as long as it takes
	truth          *query.Engine // of b
	whole, later   int           // answers that were the truth, and those that were put off
}

func (x *twins) write(ls []labels.Labels, ts int64) {
	x.t.Helper()
	for _, db := range []*DB{x.a, x.b} {
		commit(x.t, db, ls, ts, func(i int) float64 { return float64(ts + int64(i)) })
	}
}

func newTestEngine(t *testing.T, db *DB, timeout time.Duration) *query.Engine {
	t.Helper()
	e := query.NewEngine(db, query.Options{LookbackDelta: 7 * time.Second, Timeout: timeout, ResultCache: 1 << 20})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func answerOf(ctx context.Context, t *testing.T, e *query.Engine, expr string, start, end int64) (string, error) {
	t.Helper()
	q, err := e.NewRangeQuery(ctx, nil, nil, expr, time.UnixMilli(start), time.UnixMilli(end), 5*time.Second)
	if start == end {
		q, err = e.NewInstantQuery(ctx, nil, nil, expr, time.UnixMilli(end))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return "", r.Err
	}
	if len(r.Warnings) > 0 {
		return "", fmt.Errorf("warnings %v", r.Warnings)
	}
	return r.String(), nil
}

// look asks both and accepts the truth alone, or an answer that says that the store is being restored. What lies wholly
// in blocks is answered.
func (x *twins) look(where string, start, end int64, inBlocks bool) {
	x.t.Helper()
	engine := x.hasty
	if inBlocks {
		engine = x.patient
	}
	for _, expr := range []string{"absent(m)", "count(m)", `absent(m{i="0005"})`, "count_over_time(m[20s])", "absent_over_time(m[6s])"} {
		want, err := answerOf(x.t.Context(), x.t, x.truth, expr, start, end)
		if err != nil {
			x.t.Fatalf("%s: the truth: %v", where, err)
		}
		got, err := answerOf(x.t.Context(), x.t, engine, expr, start, end)
		switch {
		case err == nil && got == want:
			x.whole++
		case err == nil:
			x.t.Fatalf("%s: %s from %d to %d is\n%s\nwant\n%s", where, expr, start, end, got, want)
		case !isRestoring(err) || inBlocks:
			x.t.Fatalf("%s: %s from %d to %d: %v", where, expr, start, end, err)
		default:
			x.later++
		}
	}
}

// TestNoQuerySeesAHeadThatIsNotWhole asks absent() and count(), at an instant and over a range, before each record of a
// restore and while samples are written. Each answer is the truth or says that the store is being restored.
func TestNoQuerySeesAHeadThatIsNotWhole(t *testing.T) {
	disk := fsx.NewCrashable()
	x := &twins{t: t, a: openTest(t, small(disk)), b: openTest(t, small(fsx.NewCrashable()))}
	last := restoreWorkload(t, x.a, x.write)
	if err := x.a.head.WaitApplied(t.Context(), x.a.journal.Last()); err != nil {
		t.Fatal(err)
	}
	s := startStepped(t, small(disk.Crash(0, 1)))
	x.a = s.DB
	x.hasty, x.patient = newTestEngine(t, x.a, time.Millisecond), newTestEngine(t, x.a, time.Minute)
	x.truth = newTestEngine(t, x.b, time.Minute)
	moments := 0
	for s.next() {
		moments++
		where := fmt.Sprintf("moment %d", moments)
		x.look(where, last, last, false)
		x.look(where, last-60_000, last, false)
		x.look(where, 30_000, 30_000, true)
		x.look(where, 25_000, 55_000, true)
		if moments <= 12 {
			last += 5_000
			x.write([]labels.Labels{seriesName(0), seriesName(1), seriesName(20 + moments)}, last)
		}
		s.on <- struct{}{}
	}
	if err := s.Await(t.Context(), minTime, maxTime); err != nil {
		t.Fatal(err)
	}
	if moments < 20 || x.later == 0 || x.whole == 0 {
		t.Errorf("%d moments, %d answers put off, %d whole: the test has not looked", moments, x.later, x.whole)
	}
	x.later = 0
	x.look("after the restore", last, last, true)
	x.look("after the restore", 0, last, true)
	wantContents(t, x.a, contents(t, x.b))
	if r := x.a.Recovery(); r.Unknown != 0 || r.Records == 0 || r.Took == 0 {
		t.Errorf("recovery %+v", r)
	}
	if cs := x.a.Conditions(); len(cs) != 0 {
		t.Errorf("conditions after the restore: %v", cs)
	}
}

// TestACrashDuringARestoreLosesNothingThatWasAcknowledged crashes at records of a restore, and again during the next one,
// while samples are written.
func TestACrashDuringARestoreLosesNothingThatWasAcknowledged(t *testing.T) {
	before := newLedger()
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	end := restoreWorkload(t, db, func(ls []labels.Labels, ts int64) {
		if err := before.commit(db, ls, ts, one(float64(ts))); err != nil {
			t.Fatal(err)
		}
	})
	for crashAt := 1; !t.Failed(); crashAt += stride(3) {
		l := &ledger{sent: before.clone(), acked: before.clone()}
		last := end
		restart := func(d *fsx.Crashable, records, writes, name int) (reached int, then *fsx.Crashable) {
			s := startStepped(t, small(d))
			for reached < records && s.next() {
				if reached++; reached <= writes {
					last += 1000
					ls := []labels.Labels{seriesName(0), seriesName(2), seriesName(name + reached)}
					if err := l.commit(s.DB, ls, last, one(float64(last))); err != nil {
						t.Fatalf("write during a restore: %v", err)
					}
					if err := l.commit(s.DB, ls[:1], last-45_300, one(float64(-last))); err != nil {
						t.Fatalf("late write during a restore: %v", err)
					}
				}
				if reached < records {
					s.on <- struct{}{}
				}
			}
			return reached, d.Crash(records*37%101, uint64(records))
		}
		reached, then := restart(disk.Crash(0, 1), crashAt, 6, 1000)
		if reached < crashAt {
			break // the store was whole before
		}
		_, then = restart(then, crashAt/2+1, 4, 2000)
		checkRecovery(t, fmt.Sprintf("crash at record %d of a restore", crashAt), then, l, l.clone())
	}
}

// TestWhatIsWrittenDuringARestoreIsBounded fills the queue: then a writer is told to come again, and what was taken
// before is there afterwards.
func TestWhatIsWrittenDuringARestoreIsBounded(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	ls := []labels.Labels{seriesName(0), seriesName(1)}
	commit(t, db, ls, 1000, one(1))
	o := small(disk.Crash(0, 1))
	o.Budget = budget.NewRoot("test", 64<<20)
	s := startStepped(t, o)
	if !s.next() {
		t.Fatal("there is nothing to restore")
	}
	s.restoring.account.SetLimit(8 << 10)
	l := newLedger()
	var err error
	ts := int64(1000)
	for err == nil && ts < 10_000_000 {
		ts += 1000
		err = l.commit(s.DB, ls, ts, one(2))
	}
	if !isRestoring(err) {
		t.Errorf("after %d writes the answer is %v, want one that says that the store is being restored", ts/1000, err)
	}
	if err := s.Resolve([]labels.Labels{labels.FromStrings("new", strings.Repeat("x", 4000))}, make([]sample.Ref, 1)); !isRestoring(err) {
		t.Errorf("a new series during a restore, without room: %v", err)
	}
	if used := s.restoring.account.Used(); used == 0 || used > 8<<10 {
		t.Errorf("the queue takes %d bytes", used)
	}
	s.finish(t)
	if used := s.restoring.account.Used(); used != 0 {
		t.Errorf("after the restore the queue takes %d bytes", used)
	}
	if err := l.commit(s.DB, ls, ts, one(2)); err != nil {
		t.Errorf("the refused write, tried again: %v", err)
	}
	got := contents(t, s.DB)[ls[0].String()]
	if want := int(ts / 1000); len(got) != want {
		t.Errorf("%d samples, want %d", len(got), want)
	}
}

func TestBlocksAnswerDuringARestoreUntilTheirTimesAreWrittenTo(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	restoreWorkload(t, db, func(ls []labels.Labels, ts int64) { commit(t, db, ls, ts, one(float64(ts))) })
	want := contents(t, db)
	s := startStepped(t, small(disk.Crash(0, 1)))
	if !s.next() {
		t.Fatal("there is nothing to restore")
	}
	view := func(mint, maxt int64) error {
		v, err := s.View(mint, maxt)
		if err != nil {
			return err
		}
		for series, got := range scanAll(t, v) {
			for i, p := range got {
				if p != want[series][i] {
					t.Errorf("series %s: sample %d is %v, want %v", series, i, p, want[series][i])
				}
			}
		}
		return v.Close()
	}
	if err := view(0, 59_999); err != nil {
		t.Errorf("a view of what is in blocks: %v", err)
	}
	for _, r := range [][2]int64{{0, 60_000}, {minTime, maxTime}, {200_000, 300_000}} {
		if err := view(r[0], r[1]); !isRestoring(err) {
			t.Errorf("a view of %v: %v, want that it is put off", r, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := s.Await(ctx, r[0], r[1]); !isRestoring(err) {
			t.Errorf("waiting for %v: %v, want that it is put off", r, err)
		}
		cancel()
	}
	stamp := s.Stamp(nil, 0, 59_999)
	commit(t, s.DB, []labels.Labels{seriesName(1)}, 31_234, one(-1))
	if err := view(0, 59_999); !isRestoring(err) {
		t.Errorf("a view of times that were written to: %v, want that it is put off", err)
	}
	if err := view(0, 30_000); err != nil {
		t.Errorf("a view of what is before the times that were written to: %v", err)
	}
	if s.Stamp(nil, 0, 59_999) == stamp {
		t.Error("answers of before the write may still be given")
	}
	s.finish(t)
	if got := len(contents(t, s.DB)[seriesName(1).String()]); got != len(want[seriesName(1).String()])+1 {
		t.Errorf("%d samples after the restore, want %d and the late one", got, len(want[seriesName(1).String()]))
	}
}

// TestSeriesThatCameAndLeftBeforeARestoreKeepTheirRefs lets series leave and others come in their place, in the log
// behind the checkpoint.
func TestSeriesThatCameAndLeftBeforeARestoreKeepTheirRefs(t *testing.T) {
	disk := fsx.NewCrashable()
	o := small(disk)
	db := openTest(t, o)
	gone := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	commit(t, db, gone, 1000, one(1))
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, db, append(gone, seriesName(9)), 2000, one(2))
	commit(t, db, []labels.Labels{seriesName(9)}, 130_000, one(3))
	db.maintain.Lock()
	err := errors.Join(db.flushSlot(t.Context(), 0), db.dropIdleSeries(t.Context()))
	db.maintain.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	commit(t, db, []labels.Labels{seriesName(7), seriesName(1), seriesName(8)}, 140_000, one(4))
	if n := db.head.Stats().Series; n != 4 {
		t.Fatalf("%d series: the test has none that left", n)
	}
	want := contents(t, db)
	s := startStepped(t, small(disk.Crash(0, 1)))
	refs := make([]sample.Ref, 3)
	if err := db.Resolve([]labels.Labels{seriesName(7), seriesName(1), seriesName(8)}, refs); err != nil {
		t.Fatal(err)
	}
	during := make([]sample.Ref, 3)
	if err := s.Resolve([]labels.Labels{seriesName(7), seriesName(1), seriesName(8)}, during); err != nil {
		t.Fatal(err)
	}
	for i := range refs {
		if refs[i] != during[i] {
			t.Errorf("series %d is %#x during the restore, and was %#x", i, uint64(during[i]), uint64(refs[i]))
		}
	}
	commit(t, s.DB, []labels.Labels{seriesName(0), seriesName(3)}, 150_000, one(5))
	s.finish(t)
	for _, i := range []int{0, 3} {
		want[seriesName(i).String()] = append(want[seriesName(i).String()], point{150_000, 0x4014000000000000})
	}
	wantContents(t, s.DB, want)
	if r := s.Recovery(); r.Unknown != 0 || r.Lost != 0 {
		t.Errorf("%d rows of unknown series, %d series lost: those that left are neither", r.Unknown, r.Lost)
	}
}

func TestMaintenanceWaitsForTheEndOfARestore(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	restoreWorkload(t, db, func(ls []labels.Labels, ts int64) { commit(t, db, ls, ts, one(float64(ts))) })
	s := startStepped(t, small(disk.Crash(0, 1)))
	for what, f := range map[string]func(context.Context) error{
		"flush": s.Flush, "maintain": s.Maintain, "checkpoint": s.Checkpoint, "spill": s.Spill, "compact": s.Compact,
		"clean":    s.CleanTombstones,
		"delete":   func(ctx context.Context) error { return s.Delete(ctx, 0, 1, equal("i", "0001")) },
		"undelete": func(ctx context.Context) error { return s.Undelete(ctx, 1) },
		"snapshot": func(ctx context.Context) error { _, err := s.Snapshot(ctx, false); return err },
		"statistics": func(ctx context.Context) error {
			_, _, err := s.CardinalityIn(ctx, CardinalityQuery{MinT: minTime, MaxT: maxTime, Limit: 1})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := f(ctx); !isRestoring(err) {
			t.Errorf("%s during a restore: %v, want that it waits", what, err)
		}
		cancel()
	}
	if done, all := s.Restoring(); all == 0 || done > all {
		t.Errorf("%d of %d records", done, all)
	}
	if cs := s.Conditions(); len(cs) != 1 || cs[0].Code != ConditionRestoring || !strings.Contains(cs[0].Effect, "%") {
		t.Errorf("conditions %+v, want %s alone, with how far it is", cs, ConditionRestoring)
	}
	s.finish(t)
	if err := s.Flush(t.Context()); err != nil {
		t.Errorf("flush after the restore: %v", err)
	}
}

// TestAStopDuringARestoreLeavesTheLogAsItIs stops a store that is not whole: what was written is there at the next start.
func TestAStopDuringARestoreLeavesTheLogAsItIs(t *testing.T) {
	disk := fsx.NewCrashable()
	l := newLedger()
	db := openTest(t, small(disk))
	restoreWorkload(t, db, func(ls []labels.Labels, ts int64) {
		if err := l.commit(db, ls, ts, one(float64(ts))); err != nil {
			t.Fatal(err)
		}
	})
	image := disk.Crash(0, 1)
	for range 3 {
		entered, free := make(chan struct{}, 1000), make(chan struct{})
		o := small(image)
		o.restoreStep = func(sample.LSN) { entered <- struct{}{}; <-free }
		db, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		newest, _ := db.head.MaxTime()
		if err := l.commit(db, []labels.Labels{seriesName(1), seriesName(50)}, newest+2000, one(7)); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() { waited <- db.Await(context.Background(), minTime, maxTime) }()
		closed := make(chan error, 1)
		go func() { closed <- db.Close() }()
		for db.users.enter() == nil { // until Close has begun
			db.users.leave()
		}
		close(free)
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err == nil {
			t.Error("who waited for the restore was told that it is complete")
		}
	}
	l.check(t, "after three stops", openTest(t, small(image)), l.clone())
}

// TestScrapesAreTakenDuringARestore appends by Prometheus' interface, which says at each sample what will become of it:
// nobody knows yet, and what turns out to be there already is not stored twice.
func TestScrapesAreTakenDuringARestore(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	commit(t, db, []labels.Labels{seriesName(0)}, 1000, one(1))
	commit(t, db, []labels.Labels{seriesName(0)}, 2000, one(2))
	s := startStepped(t, small(disk.Crash(0, 1)))
	a := s.Storage().AppenderV2(t.Context())
	for _, x := range []struct {
		ts int64
		v  float64
	}{{2000, 9}, {3000, 3}} {
		if _, err := a.Append(0, seriesName(0), 0, x.ts, x.v, nil, nil, storage.AOptions{}); err != nil {
			t.Fatalf("append at %d: %v", x.ts, err)
		}
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	s.finish(t)
	wantContents(t, s.DB, map[string][]point{seriesName(0).String(): {{1000, 0x3ff0000000000000}, {2000, 0x4000000000000000}, {3000, 0x4008000000000000}}})
}

// TestBlocksDoNotAnswerForTimesThatTheLogHasRowsOf has late rows and a delete in the log, of times that are in a block.
func TestBlocksDoNotAnswerForTimesThatTheLogHasRowsOf(t *testing.T) {
	check := func(what string, from int64, change func(db *DB) error) {
		t.Helper()
		disk := fsx.NewCrashable()
		db := openTest(t, small(disk))
		restoreWorkload(t, db, func(ls []labels.Labels, ts int64) { commit(t, db, ls, ts, one(float64(ts))) })
		if err := change(db); err != nil {
			t.Fatal(err)
		}
		s := startStepped(t, small(disk.Crash(0, 1)))
		for maxt, wants := range map[int64]bool{from - 1: true, from: false, 59_999: false} {
			v, err := s.View(0, maxt)
			if wants && err != nil || !wants && !isRestoring(err) {
				t.Errorf("%s: a view up to %d: %v, want it answered: %t", what, maxt, err, wants)
			}
			if err == nil {
				_ = v.Close()
			}
		}
		s.finish(t)
		wantContents(t, s.DB, contents(t, db))
	}
	check("a late row", 31_234, func(db *DB) error {
		_, err := tryCommit(db, []labels.Labels{seriesName(1)}, 31_234, one(-1))
		return err
	})
	check("a delete", 12_345, func(db *DB) error { return db.Delete(t.Context(), 12_345, 40_000, equal("i", "0001")) })
}

// TestALogThatCannotBeReadAgainEndsTheStart fails where the rows of the log are read: Await says so, and Open does.
func TestALogThatCannotBeReadAgainEndsTheStart(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	commit(t, db, []labels.Labels{seriesName(0)}, 1000, one(1))
	image := disk.Crash(0, 1)
	opens := segmentOpens(t, image)
	failing := func() *fsx.Faulty {
		return fsx.NewFaulty(image.Crash(0, 1), fsx.Fault{Op: fsx.OpOpen, Path: "*.seg", After: opens - 1, Err: syscall.EMFILE})
	}
	db, err := Start(t.Context(), small(failing()))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Await(t.Context(), minTime, maxTime); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Await: %v, want the error of the disk", err)
	}
	if _, err := db.View(minTime, maxTime); !isRestoring(err) {
		t.Errorf("a view of a store that could not be restored: %v", err)
	}
	mustClose(t, db)
	if _, err := Open(t.Context(), small(failing())); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Open: %v, want the error of the disk", err)
	}
	wantContents(t, openTest(t, small(image)), map[string][]point{seriesName(0).String(): {{1000, 0x3ff0000000000000}}})
}

// segmentOpens returns how often a start opens a segment of the log.
func segmentOpens(t *testing.T, image *fsx.Crashable) int {
	t.Helper()
	disk := fsx.NewFaulty(image.Crash(0, 1))
	var n atomic.Int64
	disk.Observe(func(op fsx.Op, name string) {
		if op == fsx.OpOpen && strings.HasSuffix(name, ".seg") {
			n.Add(1)
		}
	})
	db := openTest(t, small(disk))
	opens := int(n.Load())
	mustClose(t, db)
	return opens
}
