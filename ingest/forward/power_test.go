// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// whole is a store that tells a forwarder of its samples, as the server has it.
type whole struct {
	t  *testing.T
	db *tsdb.DB
	f  *Forwarder
}

// openWhole opens a store on a disk whose samples are sent to a receiver.
func openWhole(t *testing.T, disk fsx.FS, to *receiver) *whole {
	t.Helper()
	x := &whole{t: t}
	db, err := tsdb.Start(t.Context(), tsdb.Options{
		Dir: "/data", FS: disk, SegmentBytes: 64 << 10, Slot: time.Minute, Shards: 4, MaxFuture: -1, BlockCache: 1 << 20,
		Tap: func(db *tsdb.DB) (tsdb.Tap, error) {
			f, err := New(Options{FS: disk, Dir: "/data/forward", Store: db})
			if err != nil {
				return nil, err
			}
			x.f = f
			y := &bench{t: t, f: f}
			y.configure(to, `remote_write: [{name: far, url: URL`+quick+`}]`)
			return f, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	x.db = db
	return x
}

// write commits a sample of some series each, and returns the lines that the receiver is to get.
func (x *whole) write(series []int, ts int64, v float64) []string {
	x.t.Helper()
	ls, refs := make([]labels.Labels, len(series)), make([]sample.Ref, len(series))
	var lines []string
	for i, s := range series {
		ls[i] = labels.FromStrings("__name__", "m", "i", fmt.Sprint(s))
		lines = append(lines, fmt.Sprintf("%s %v @%d", ls[i], v, ts))
	}
	if err := x.db.Resolve(ls, refs); err != nil {
		x.t.Fatal(err)
	}
	var b sample.Batch
	var r sample.Result
	for _, ref := range refs {
		b.AppendFloat(ref, 0, ts, v, 0)
	}
	lsn, err := x.db.Commit(context.Background(), &b, &r)
	if err == nil {
		err = x.db.Durable(context.Background(), lsn)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return lines
}

func (x *whole) close() {
	x.t.Helper()
	if err := x.db.Close(); err != nil {
		x.t.Error(err)
	}
}

// TestNoCrashOfStoreAndQueueLosesWhatWasAcknowledged ends the power before each of the operations that change the disk,
// while the receiver is there or away. What was acknowledged by then has come, or comes after a start.
func TestNoCrashOfStoreAndQueueLosesWhatWasAcknowledged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	to := newReceiver(t)
	var mu sync.Mutex
	down := false // guarded by mu
	to.answer = func(int) int {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return http.StatusBadGateway
		}
		return http.StatusOK
	}
	type state struct {
		name      string
		disk      *fsx.Crashable
		acked, at []string
	}
	var states []state
	var acked []string // guarded by mu
	n := uint64(0)     // guarded by mu
	x := openWhole(t, faulty, to)
	faulty.Observe(func(op fsx.Op, name string) {
		if op&fsx.OpChange == 0 {
			return
		}
		// What was acknowledged is looked at before what came: neither shrinks, and the disk is as it is between the two.
		mu.Lock()
		n++
		s := state{acked: slices.Clone(acked)}
		i := n
		mu.Unlock()
		percent := []int{0, 100, 50}[i%3]
		s.name = fmt.Sprintf("op %d (%v %s), %d%% of what was not synced, seed %d", i, op, path.Base(name), percent, seed+i)
		s.disk = disk.Crash(percent, seed+i)
		s.at = to.got()
		mu.Lock()
		states = append(states, s)
		mu.Unlock()
	})
	for step := range 24 {
		mu.Lock()
		down = step%8 >= 3
		mu.Unlock()
		ts := int64(step) * 5_000
		lines := x.write([]int{0, 1, step / 4}, ts, float64(step))
		if step%5 == 4 {
			lines = append(lines, x.write([]int{0}, ts-12_500, float64(-step))...)
		}
		mu.Lock()
		acked = append(acked, lines...)
		mu.Unlock()
		var err error
		switch {
		case step%9 == 7:
			err = x.db.Checkpoint(t.Context())
		case step%12 == 11:
			err = x.db.Flush(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	x.close()
	faulty.Observe(nil)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d operations", n)
	for i := 0; i < len(states) && !t.Failed(); i += 1 + len(states)/64 {
		s := states[i]
		checkWholeAfterCrash(t, s.name, s.disk, s.acked, s.at)
	}
}

// checkWholeAfterCrash starts a store and its queue on what is left: what was acknowledged has come before, or comes now.
func checkWholeAfterCrash(t *testing.T, name string, left fsx.FS, acked, came []string) {
	t.Helper()
	to := newReceiver(t)
	x := openWhole(t, left, to)
	defer x.close()
	if err := x.db.Await(t.Context(), 0, 1<<40); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	last := x.write([]int{1000}, 1_000_000, 1)[0]
	q := x.f.queue.Load()
	for end := time.Now().Add(20 * time.Second); !slices.Contains(to.got(), last) || q.behind(q.journal.Last()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: the sample after the crash does not come, but %q", name, to.got())
		}
	}
	got := to.got()
	for _, line := range acked {
		if !slices.Contains(came, line) && !slices.Contains(got, line) {
			t.Errorf("%s: %s was acknowledged and has not come; after the start came %q", name, line, got)
			return
		}
	}
}

// The numbers of records that a power cut took from the store's log are given out again. The queue may have had those
// records, and must not take the new ones for them.
func TestNumbersThatAPowerCutGaveBackAreToldAgain(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	to.answer = func(int) int { return http.StatusBadGateway }
	config := `remote_write: [{name: far, url: URL` + quick + `}]`
	x.configure(to, config)
	a := x.store.ref(1, "__name__", "a")
	for i := range int64(10) {
		x.row(a, i, float64(i))
	}
	x.keep()
	x.stop()
	x.store.lsn = 4 // the store's log has lost the others
	for range 2 {
		x.start()
		x.configure(to, config)
		if got := x.f.Told(); got != x.store.lsn {
			t.Errorf("told up to %d, want %d", got, x.store.lsn)
		}
		x.store.commit() // and a crash before the queue knows of it
		if err := errors.Join(x.f.Keep(t.Context())); err != nil {
			t.Fatal(err)
		}
		x.stop()
		x.store.lsn = 4
	}
	x.start()
	x.configure(to, config)
	x.row(a, 20, 1) // number 5
	x.keep()
	x.stop()
	x.store.lsn = 9
	x.start()
	x.configure(to, config)
	if got := x.f.Told(); got != 5 {
		t.Errorf("told up to %d, want 5", got)
	}
}

// Nothing that nobody wanted is sent when somebody does.
func TestWhatCameWhileNobodyWantedItIsNotToldAgain(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	config := `remote_write: [{name: far, url: URL` + quick + `}]`
	told := func(want sample.LSN) {
		t.Helper()
		if got := x.f.Told(); got != want {
			t.Errorf("told up to %d, want %d", got, want)
		}
	}
	x.store.lsn = 3
	told(3)
	x.configure(to, config)
	told(3)
	x.row(x.store.ref(1, "__name__", "a"), 1, 1)
	told(4)
	x.configure(to, ``)
	x.store.lsn = 7
	x.configure(to, config)
	told(7)
	x.configure(to, ``)
	x.stop()
	x.start()
	x.configure(to, ``)
	x.store.lsn = 9
	x.stop()
	x.start()
	x.configure(to, config)
	told(9)
}
