// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// scattered names series of which each has a value of its own, in no order, and every second a label more.
func scattered(n int) []labels.Labels {
	out := make([]labels.Labels, n)
	for i := range out {
		id := fmt.Sprintf("%08x", uint32(i)*2654435769)
		if i%2 == 0 {
			out[i] = labels.FromStrings(labels.MetricName, "m", "id", id, "job", "x")
		} else {
			out[i] = labels.FromStrings(labels.MetricName, "m", "half", "y", "id", id, "job", "x")
		}
	}
	return out
}

func viewOf(t testing.TB, db *DB) *view {
	t.Helper()
	c, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	v, _ := c.(*view)
	return v
}

// wholeView is a view of all times and the set of all series.
func wholeView(t testing.TB, db *DB) (*view, *column.SeriesSet) {
	t.Helper()
	v := viewOf(t, db)
	set, err := v.Series(context.Background(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	return v, set
}

// mixed is a view of the head and blocks, each with series that the others lack.
func mixed(t *testing.T) *view {
	t.Helper()
	db := openTest(t, small(fsx.NewCrashable()))
	ls := scattered(3000)
	for i, part := range [][]labels.Labels{ls[:2000], ls[1000:2500], ls[500:]} {
		fillAt(t, db, part, int64(i)*600_000)
		if i < 2 {
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := viewOf(t, db)
	if len(v.sources) != 3 {
		t.Fatalf("%d sources", len(v.sources))
	}
	return v
}

// selections take different ways through the indexes.
func selections() map[string][]*labels.Matcher {
	match := labels.MustNewMatcher
	return map[string][]*labels.Matcher{
		"all":      nil,
		"metric":   {equal(labels.MetricName, "m")},
		"scan":     {match(labels.MatchRegexp, "id", ".*[02468ace]")},
		"excluded": {equal(labels.MetricName, "m"), match(labels.MatchNotRegexp, "id", ".*[0-3]")},
		"lacking":  {equal("half", ""), match(labels.MatchNotEqual, "job", "z")},
	}
}

func TestAListingThatFindsNoMemoryGivesBackAllOfIt(t *testing.T) {
	v := mixed(t)
	for name, ms := range selections() {
		refused := 0
		for limit := int64(1 << 10); ; limit += limit/16 + 1 {
			v.db.sets.empty()
			account := budget.NewRoot("query", limit)
			set, err := v.Series(t.Context(), ms, column.Hint{Account: account})
			if err == nil {
				if set.Bytes == 0 || account.Used() != set.Bytes {
					t.Errorf("%s: %d bytes are charged, %d are the set's", name, account.Used(), set.Bytes)
				}
				if account.Peak() > limit {
					t.Errorf("%s: %d bytes were charged of %d", name, account.Peak(), limit)
				}
				break
			}
			refused++
			if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
				t.Fatalf("%s: %v", name, err)
			}
			if account.Used() != 0 {
				t.Fatalf("%s: %d bytes are charged after %v", name, account.Used(), err)
			}
		}
		if refused < 20 {
			t.Errorf("%s: refused %d times", name, refused)
		}
	}
}

func TestASetThatIsKeptIsChargedToEachThatUsesIt(t *testing.T) {
	v := mixed(t)
	var bytes int64
	for i := range 3 {
		account := budget.NewRoot("query", 0)
		set, err := v.Series(t.Context(), nil, column.Hint{Account: account})
		if err != nil || account.Used() != set.Bytes || i > 0 && set.Bytes != bytes {
			t.Fatalf("%d: %v, %d bytes charged, %d of the set, %d of the first", i, err, account.Used(), set.Bytes, bytes)
		}
		bytes = set.Bytes
	}
	account := budget.NewRoot("query", bytes-1)
	if _, err := v.Series(t.Context(), nil, column.Hint{Account: account}); err == nil || account.Used() != 0 {
		t.Errorf("a query with too little memory: %v, %d bytes charged", err, account.Used())
	}
	if s := v.db.Stats().Series; s.Hits != 3 {
		t.Errorf("%d answers were kept ones", s.Hits)
	}
}

// ending is a context that ends when it has been looked at so often.
type ending struct {
	context.Context
	looks atomic.Int64
}

func (c *ending) Err() error {
	if c.looks.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

func TestAListingThatEndsAnywhereGivesBackAllOfIt(t *testing.T) {
	v := mixed(t)
	for name, ms := range selections() {
		ended := 0
		for k := int64(0); ; k += 1 + k/8 {
			v.db.sets.empty()
			account := budget.NewRoot("query", 0)
			ctx := &ending{Context: t.Context()}
			ctx.looks.Store(k)
			set, err := v.Series(ctx, ms, column.Hint{Account: account})
			if err == nil {
				if account.Used() != set.Bytes {
					t.Errorf("%s: %d bytes are charged, %d are the set's", name, account.Used(), set.Bytes)
				}
				break
			}
			ended++
			if !errors.Is(err, context.Canceled) || set != nil || account.Used() != 0 {
				t.Fatalf("%s: after %d looks: %v, %d bytes are charged", name, k, err, account.Used())
			}
		}
		if ended < 5 {
			t.Errorf("%s: looked at its context %d times", name, ended)
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bigHead is a view of n series.
func bigHead(t *testing.T, n int) *view {
	t.Helper()
	db := openTest(t, Options{Dir: t.TempDir(), MaxFuture: -1, Sync: journal.Process})
	fillAt(t, db, scattered(n/raceFactor), 1000)
	if err := db.Checkpoint(t.Context()); err != nil { // or it is due while a test measures
		t.Fatal(err)
	}
	return viewOf(t, db)
}

func TestAListingEndsSoonAfterItsContext(t *testing.T) {
	const slack = raceFactor * 50 * time.Millisecond
	v := bigHead(t, 150_000)
	list := map[string]func(ctx context.Context) error{
		"label values": func(ctx context.Context) error {
			_, err := v.LabelValues(ctx, "id", []*labels.Matcher{equal("half", "y")}, 0)
			return err
		},
		"label names": func(ctx context.Context) error {
			_, err := v.LabelNames(ctx, []*labels.Matcher{equal("half", "")}, 0)
			return err
		},
	}
	for name, ms := range selections() {
		list["series "+name] = func(ctx context.Context) error {
			v.db.sets.empty()
			_, err := v.Series(ctx, ms, column.Hint{})
			return err
		}
	}
	for name, run := range list {
		begun := time.Now()
		if err := run(t.Context()); err != nil {
			t.Fatal(err)
		}
		whole := time.Since(begun)
		for part := range 4 {
			wait, late := whole*time.Duration(2*part+1)/8, time.Hour
			for range 4 {
				late = min(late, endsAfter(t, run, wait))
				if late <= slack {
					break
				}
			}
			if late > slack {
				t.Errorf("%s: ended %s after it was canceled at %s of %s", name, late, wait, whole)
			}
		}
		t.Logf("%s: %s", name, whole)
	}
}

// endsAfter cancels run after a while and returns how much longer it took: wall time, or processor time where that is
// less, because other processes may have been the reason.
func endsAfter(t *testing.T, run func(context.Context) error, wait time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var stopped time.Time
	var used time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(wait)
		stopped, used = time.Now(), cpuTime()
		cancel()
	}()
	err := run(ctx)
	ended, usedThen := time.Now(), cpuTime()
	<-done
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	return min(ended.Sub(stopped), usedThen-used)
}

func TestALargeListingIsRefusedBeforeItTakesMemory(t *testing.T) {
	const limit = 8 << 20 / raceFactor
	v := bigHead(t, 500_000)
	account := budget.NewRoot("query", limit)
	took := leastAllocated(func() {
		_, err := v.Series(t.Context(), nil, column.Hint{Account: account})
		if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
			t.Fatalf("error %v", err)
		}
	})
	if took > limit+limit/4 {
		t.Errorf("%d bytes were allocated under a limit of %d", took, limit)
	}
	if account.Used() != 0 || account.Peak() > limit {
		t.Errorf("%d bytes are charged, %d were", account.Used(), account.Peak())
	}

	var roomy *budget.Account
	var set *column.SeriesSet
	took = leastAllocated(func() {
		roomy = budget.NewRoot("query", 0)
		v.db.sets.empty() // so that the answer is made anew
		var err error
		if set, err = v.Series(t.Context(), nil, column.Hint{Account: roomy}); err != nil {
			t.Fatal(err)
		}
	})
	// Lists that grow are copied, and maps of what is there once are not counted one by one.
	if peak := roomy.Peak(); took > peak+peak/2 {
		t.Errorf("%d bytes were allocated, %d charged", took, peak)
	}
	t.Logf("%d series: %d bytes, %d at most, %d allocated", set.N, set.Bytes, roomy.Peak(), took)
}

// leastAllocated returns how many bytes f allocates, the least of three runs: others allocate meanwhile.
func leastAllocated(f func()) int64 {
	least := int64(math.MaxInt64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, int64(after.TotalAlloc-before.TotalAlloc))
	}
	return least
}

func TestSortedListsAreMerged(t *testing.T) {
	task := budget.NewTask(t.Context(), nil)
	for _, c := range [][3][]string{
		{nil, {"a"}, {"a"}},
		{{"a"}, nil, {"a"}},
		{{"a", "c"}, {"b", "c", "d"}, {"a", "b", "c", "d"}},
		{{"x"}, {"a", "b"}, {"a", "b", "x"}},
	} {
		for limit := range 5 {
			want := c[2]
			if limit > 0 {
				want = want[:min(limit, len(want))]
			}
			if got := mergeSorted(task, c[0], c[1], limit); !slices.Equal(got, want) {
				t.Errorf("%q and %q make %q, want %q", c[0], c[1], got, want)
			}
		}
	}
}
