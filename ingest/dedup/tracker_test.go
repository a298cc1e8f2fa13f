// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package dedup

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const failover = 30 * time.Second

func settings() *Settings {
	return &Settings{ClusterLabel: "cluster", ReplicaLabel: "__replica__", Failover: failover}
}

// bench is a Tracker with a clock and a disk that outlive it.
type bench struct {
	*Tracker

	t    *testing.T
	disk *fsx.Crashable
	reg  *prometheus.Registry
	log  bytes.Buffer
	now  time.Time     // that passes
	set  time.Duration // by which the clock is wrong
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, disk: fsx.NewCrashable(), now: time.Unix(1_700_000_000, 0)}
	b.restart()
	return b
}

// restart begins again on the same disk.
func (b *bench) restart() {
	b.t.Helper()
	b.reg = prometheus.NewPedanticRegistry()
	var err error
	b.Tracker, err = New(Options{
		FS: b.disk, Dir: "state/dedup", Registerer: b.reg, Now: func() time.Time { return b.now.Add(b.set) },
		Elapsed: func() time.Duration { return b.now.Sub(time.Unix(1_600_000_000, 0)) },
		Logger:  slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Apply(settings())
}

func named(cluster, replica string) labels.Labels {
	return labels.FromStrings("__name__", "up", "__replica__", replica, "cluster", cluster)
}

// send has a replica send after some time and checks whether it is taken.
func (b *bench) send(after time.Duration, cluster, replica string, want Verdict) (mark int64) {
	b.t.Helper()
	b.now = b.now.Add(after)
	got, mark := b.Roster().Of(named(cluster, replica)).Take()
	if got != want {
		b.t.Errorf("%s of %s: verdict %d, want %d", replica, cluster, got, want)
	}
	b.Keep()
	return mark
}

// half is for how long an elected replica may be silent before the others are told to wait.
const half = failover / 2

func TestTheFirstIsElectedUntilItIsSilentForTooLong(t *testing.T) {
	b := newBench(t)
	if mark := b.send(0, "one", "a", Taken); mark != NoMark {
		t.Errorf("mark %d of the first election", mark)
	}
	b.send(0, "one", "b", LeftOut)
	b.send(0, "two", "b", Taken) // another cluster
	b.send(half-1, "one", "b", LeftOut)
	b.send(time.Millisecond, "one", "b", Undecided)
	b.send(0, "one", "a", Taken)
	b.send(0, "one", "b", LeftOut)
}

func TestAnotherIsElectedWhereOneIsSilentForTooLong(t *testing.T) {
	b := newBench(t)
	b.send(0, "one", "a", Taken)
	b.send(0, "two", "b", Taken)
	b.send(half-time.Millisecond, "one", "b", LeftOut)
	b.send(time.Millisecond, "one", "b", Undecided)
	b.send(half/2, "one", "b", Undecided)
	b.send(half/2, "one", "b", Undecided)
	if mark := b.send(time.Millisecond, "one", "b", Taken); mark != b.now.UnixMilli() {
		t.Errorf("mark %d, want that of now, %d", mark, b.now.UnixMilli())
	}
	at := b.now.UnixMilli()
	b.send(time.Second, "one", "a", LeftOut) // it is back
	if mark := b.send(time.Minute, "one", "b", Taken); mark != at {
		t.Errorf("mark %d, want that of the election, %d", mark, at)
	}
	b.send(half, "one", "c", Undecided)
	b.send(half, "one", "a", Undecided)
	b.send(time.Millisecond, "one", "c", Taken)
	b.send(0, "one", "a", LeftOut)
	if got := testutil.ToFloat64(b.elections); got != 2 {
		t.Errorf("%v failovers are counted, want 2", got)
	}
	want := fmt.Sprintf(`
# HELP tidemark_ha_dedup_elected_timestamp_seconds When the elected replica of a cluster last sent something.
# TYPE tidemark_ha_dedup_elected_timestamp_seconds gauge
tidemark_ha_dedup_elected_timestamp_seconds{cluster="one",replica="c"} %v
tidemark_ha_dedup_elected_timestamp_seconds{cluster="two",replica="b"} 1.7e+09
`, float64(b.now.UnixMilli())/1000)
	if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), "tidemark_ha_dedup_elected_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	if n := strings.Count(b.log.String(), "another replica is elected"); n != 2 {
		t.Errorf("%d lines about elections:\n%s", n, b.log.String())
	}
}

func TestSeriesWithoutBothLabelsAreOfNobody(t *testing.T) {
	b := newBench(t)
	for _, ls := range []labels.Labels{
		labels.FromStrings("__name__", "up"), labels.FromStrings("cluster", "one"), labels.FromStrings("__replica__", "a"),
	} {
		if s := b.Roster().Of(ls); s != nil {
			t.Errorf("%s is of replica %d", ls, s.Tag())
		}
	}
	if got := b.Roster().Strip(named("one", "a")); !labels.Equal(got, labels.FromStrings("__name__", "up", "cluster", "one")) {
		t.Errorf("stripped: %s", got)
	}
}

func TestAnElectionSurvivesARestart(t *testing.T) {
	b := newBench(t)
	b.send(0, "one", "a", Taken)
	b.now = b.now.Add(half)
	b.send(0, "one", "b", Undecided)
	b.send(half, "one", "b", Undecided)
	b.send(time.Millisecond, "one", "b", Taken)
	mark := b.now.UnixMilli()
	b.disk = b.disk.Crash(0, 1)
	b.now = b.now.Add(10 * time.Minute)
	b.restart()
	b.send(0, "one", "a", Undecided) // the elected one is given its time
	if got := b.send(0, "one", "b", Taken); got != mark {
		t.Errorf("mark %d after the restart, want %d", got, mark)
	}
	b.send(0, "one", "a", LeftOut)
	b.now = b.now.Add(10 * time.Minute)
	b.restart()
	b.send(0, "one", "a", Undecided)
	b.send(half, "one", "a", Undecided)
	if got := b.send(time.Millisecond, "one", "a", Taken); got != b.now.UnixMilli() {
		t.Errorf("mark %d, want that of now", got)
	}
}

func TestAnElectionThatCannotBeKeptHoldsInMemory(t *testing.T) {
	b := newBench(t)
	disk := fsx.NewFaulty(b.disk)
	b.opts.FS = disk
	disk.Inject(fsx.Fault{Op: fsx.OpCreate | fsx.OpRename, Err: io.ErrShortWrite})
	b.send(0, "one", "a", Taken)
	b.send(0, "one", "b", LeftOut)
	if got := testutil.ToFloat64(b.unsaved); got != 1 {
		t.Errorf("%v failures are counted", got)
	}
	disk.Heal()
	b.send(0, "two", "b", Taken) // keeps both
	b.opts.FS = b.disk
	b.restart()
	b.send(0, "one", "b", Undecided)
	b.send(0, "two", "a", Undecided)
}

// Where the one that is left sends seldom, every gap of its own could be one of this server.
func TestOneThatSendsSeldomIsElectedToo(t *testing.T) {
	b := newBench(t)
	b.send(0, "one", "a", Taken)
	b.send(half+time.Second, "one", "b", Undecided) // the first gap is forgiven
	b.send(half+time.Second, "one", "b", Taken)
	b.send(half+time.Second, "one", "a", Undecided) // and each anew, once the elected one was heard
	b.send(time.Second, "one", "b", Taken)
	b.send(half+time.Second, "one", "a", Undecided)
	b.send(half+time.Second, "one", "a", Taken)
}

func TestAClockThatIsSetDoesNotChangeHowLongOneIsSilent(t *testing.T) {
	b := newBench(t)
	b.send(0, "one", "a", Taken)
	b.set = time.Hour
	b.send(time.Second, "one", "b", LeftOut)
	b.set = -time.Hour
	b.send(half, "one", "b", Undecided)
	b.send(half, "one", "b", Taken)
	want := fmt.Sprintf(`
# HELP tidemark_ha_dedup_elected_timestamp_seconds When the elected replica of a cluster last sent something.
# TYPE tidemark_ha_dedup_elected_timestamp_seconds gauge
tidemark_ha_dedup_elected_timestamp_seconds{cluster="one",replica="b"} %v
`, float64(b.now.Add(b.set).Unix()))
	if err := testutil.GatherAndCompare(b.reg, strings.NewReader(want), "tidemark_ha_dedup_elected_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

// countingFS counts the files that are made.
type countingFS struct {
	fsx.FS

	made int
}

func (c *countingFS) Rename(from, to string) error {
	c.made++
	return c.FS.Rename(from, to)
}

func TestManyElectionsTakeOneFile(t *testing.T) {
	b := newBench(t)
	disk := &countingFS{FS: b.disk}
	b.opts.FS = disk
	for i := range 1000 {
		b.Roster().Of(named(fmt.Sprint(i), "a")).Take()
	}
	if disk.made != 0 {
		t.Errorf("%d files for samples that are not to be stored yet", disk.made)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(b.Keep)
	}
	wg.Wait()
	if disk.made != 1 {
		t.Errorf("%d files, want 1", disk.made)
	}
	b.restart()
	for i := range 1000 {
		b.send(0, fmt.Sprint(i), "b", Undecided)
	}
}

func TestReplicasOfLongNamesAreTakenAsTheyAre(t *testing.T) {
	b := newBench(t)
	long := strings.Repeat("x", maxNameBytes)
	b.send(0, long, long, Taken)
	for _, ls := range []labels.Labels{named(long+"x", "a"), named("a", long+"x")} {
		if s := b.Roster().Of(ls); s != nil {
			t.Errorf("a name of %d bytes is kept", len(long)+1)
		}
	}
	if got := testutil.ToFloat64(b.crowded); got != 2 {
		t.Errorf("%v series are counted", got)
	}
}

func TestADamagedFileIsNoReasonNotToStart(t *testing.T) {
	b := newBench(t)
	b.send(0, "one", "a", Taken)
	if err := fsx.Publish(b.disk, "state/dedup/"+fileName, func(w io.Writer) error { _, err := w.Write([]byte("{")); return err }); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.send(0, "one", "b", Taken)
	if !strings.Contains(b.log.String(), "not known any more") {
		t.Errorf("the log does not tell:\n%s", b.log.String())
	}
}

func TestASettingOfLabelsBeginsARosterAndOthersDoNot(t *testing.T) {
	b := newBench(t)
	one := b.Roster()
	b.send(0, "one", "a", Taken)
	s := settings()
	s.Failover = time.Second
	b.Apply(s)
	if b.Roster() != one {
		t.Error("another failover begins a roster")
	}
	b.send(400*time.Millisecond, "one", "b", LeftOut)
	b.send(400*time.Millisecond, "one", "b", Undecided)
	b.send(400*time.Millisecond, "one", "b", Taken)
	s.ReplicaLabel = "replica"
	b.Apply(s)
	two := b.Roster()
	if two == one || two.Number() == one.Number() {
		t.Error("another label does not begin a roster")
	}
	if two.Sender(1) != nil || one.Sender(1) == nil {
		t.Error("numbers go from one roster to the next")
	}
	b.Apply(nil)
	if b.Roster() != nil || (*Tracker)(nil).Roster() != nil {
		t.Error("a roster while nothing is deduplicated")
	}
}

func TestMoreReplicasThanAreToldApartAreTakenAsTheyAre(t *testing.T) {
	b := newBench(t)
	for i := range MaxReplicas {
		if s := b.Roster().Of(named("one", fmt.Sprint(i))); s == nil || int(s.Tag()) != i+1 || b.Roster().Sender(s.Tag()) != s {
			t.Fatalf("replica %d: %+v", i, s)
		}
	}
	b.send(0, "one", "7", Taken)
	b.send(0, "one", "8", LeftOut)
	if s := b.Roster().Of(named("one", "more")); s != nil {
		t.Errorf("one too many: %+v", s)
	}
	old := b.Roster()
	b.send(idleAfter+time.Second, "one", "7", Taken) // is there
	if s := old.Of(named("one", "more")); s != nil || b.Roster() == old {
		t.Errorf("no roster is begun where there is no room: %+v", s)
	}
	b.send(0, "one", "more", LeftOut)
	b.send(0, "one", "7", Taken)
	if got := testutil.ToFloat64(b.crowded); got != 2 {
		t.Errorf("%v series are counted", got)
	}
}

// However many ask at once, of one cluster only one replica is taken at a time.
func TestOnlyOneReplicaIsElectedAtATime(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var clock atomic.Int64
	clock.Store(1_700_000_000_000)
	tr, err := New(Options{FS: fsx.NewCrashable(), Dir: "d", Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	tr.Apply(settings())
	for round := range 20 {
		var took [4]atomic.Bool
		var wg sync.WaitGroup
		for i := range took {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for range 100 {
					if v, _ := tr.Roster().Of(named("one", fmt.Sprint(r.IntN(4)))).Take(); v == Taken {
						_, _ = tr.Roster().Of(named("one", fmt.Sprint(i))).Take()
					}
					if v, _ := tr.Roster().Of(named("one", fmt.Sprint(i))).Take(); v == Taken {
						took[i].Store(true)
					}
				}
			})
		}
		wg.Wait()
		n := 0
		for i := range took {
			if took[i].Load() {
				n++
			}
		}
		if n > 1 {
			t.Fatalf("round %d: %d replicas were taken", round, n)
		}
		clock.Add((failover + time.Second).Milliseconds())
	}
}

func BenchmarkTake(b *testing.B) {
	tr, err := New(Options{FS: fsx.NewCrashable(), Dir: "d"})
	if err != nil {
		b.Fatal(err)
	}
	tr.Apply(settings())
	s := tr.Roster().Of(named("one", "a"))
	b.ReportAllocs()
	for b.Loop() {
		s.Take()
	}
}
