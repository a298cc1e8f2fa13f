// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/dedup"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	pairFailover = 30 * time.Second
	pairInterval = 5 * time.Second // of scrapes, each of which is sent at once
	pairSeries   = 3
)

// pair is a server that deduplicates, and two replicas of a Prometheus that scrape the same target and write to it.
type pair struct {
	t        *testing.T
	now      time.Time
	disk     *fsx.Crashable
	db       *tsdb.DB
	in       *ingest.Intake
	reg      *prometheus.Registry
	down     bool // the server
	replicas [2]sender
}

// sender is a replica: what it has scraped and not been answered for.
type sender struct {
	name    string
	offset  time.Duration
	dead    bool
	backlog []int64 // times
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, now: time.Unix(1_700_000_000, 0), disk: fsx.NewCrashable()}
	p.replicas = [2]sender{{name: "a"}, {name: "b", offset: 2 * time.Second}}
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *pair) clock() time.Time { return p.now }

func (p *pair) start() {
	p.t.Helper()
	var err error
	p.db, err = tsdb.Open(p.t.Context(), tsdb.Options{Dir: "data", FS: p.disk, Shards: 4, SegmentBytes: 64 << 10, Now: p.clock})
	if err != nil {
		p.t.Fatal(err)
	}
	p.reg = prometheus.NewRegistry()
	tracker, err := dedup.New(dedup.Options{FS: p.disk, Dir: "data/tidemark/state/dedup", Now: p.clock, Registerer: p.reg})
	if err != nil {
		p.t.Fatal(err)
	}
	tracker.Apply(&dedup.Settings{ClusterLabel: "cluster", ReplicaLabel: "__replica__", Failover: pairFailover})
	if p.in, err = ingest.New(ingest.Options{Appender: p.db, Replicas: tracker, Registerer: p.reg}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) stop() {
	p.t.Helper()
	if err := p.db.Close(); err != nil {
		p.t.Errorf("close: %v", err)
	}
}

// labelsOf are those of a series as a replica sends it.
func labelsOfPair(replica string, i int) labels.Labels {
	return labels.FromStrings("__name__", "m", "__replica__", replica, "cluster", "one", "i", fmt.Sprint(i))
}

// request begins one with all samples of some times.
func (p *pair) request(replica string, times []int64) (*ingest.Request, ingest.LabelsOf) {
	req := p.in.Begin()
	for i := range pairSeries {
		if key := req.Hash(1, fmt.Appendf(nil, "%s/%d", replica, i)); !req.Begin(key) {
			req.Define(key, labelsOfPair(replica, i))
		}
		for _, t := range times {
			req.Float(0, t, float64(t))
		}
	}
	return req, func(i int) (labels.Labels, error) { return labelsOfPair(replica, i), nil }
}

// send sends what a replica has, in requests of at most 4 scrapes. Nothing of it is ever the sender's mistake.
func (p *pair) send(s *sender) {
	p.t.Helper()
	for len(s.backlog) > 0 && !p.down {
		n := min(len(s.backlog), 4)
		req, labelsOf := p.request(s.name, s.backlog[:n])
		out, err := req.Commit(p.t.Context(), labelsOf)
		req.Release()
		if e, ok := errors.AsType[*sample.UnavailableError](err); ok && e.RetryAfter > 0 && strings.HasPrefix(err.Error(), "not yet: replica ") {
			return // it is to send again
		}
		if err != nil || out.Message() != "" || out.Rows != n*pairSeries || out.Floats != out.Rows {
			p.t.Fatalf("%s at %s: %+v, %v", s.name, p.now, out, err)
		}
		s.backlog = s.backlog[n:]
	}
}

// step lets a second pass.
func (p *pair) step() {
	p.t.Helper()
	p.now = p.now.Add(time.Second)
	for i := range p.replicas {
		if s := &p.replicas[i]; !s.dead && p.now.Add(-s.offset).UnixMilli()%pairInterval.Milliseconds() == 0 {
			s.backlog = append(s.backlog, p.now.UnixMilli())
			p.send(s)
		}
	}
}

func (p *pair) steps(d time.Duration) {
	p.t.Helper()
	for range int(d / time.Second) {
		p.step()
	}
}

// stored returns the times of each series in the store.
func (p *pair) stored() map[string][]int64 {
	p.t.Helper()
	q, err := p.db.Storage().Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	out := map[string][]int64{}
	set := q.Select(p.t.Context(), true, &storage.SelectHints{}, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	for set.Next() {
		var times []int64
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			t, v := it.At()
			if v != float64(t) {
				p.t.Errorf("%s: %v at %d", set.At().Labels(), v, t)
			}
			times = append(times, t)
		}
		out[set.At().Labels().String()] = times
	}
	if err := set.Err(); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// check looks whether every series has one sample for each scrape of whoever was elected: never two replicas' at a time,
// and no gap longer than one.
func (p *pair) check(from time.Time, gap time.Duration) {
	p.t.Helper()
	got := p.stored()
	if len(got) != pairSeries {
		p.t.Fatalf("%d series, want %d", len(got), pairSeries)
	}
	for name, times := range got {
		if strings.Contains(name, "__replica__") || !strings.Contains(name, `cluster="one"`) {
			p.t.Errorf("labels %s", name)
		}
		if !slices.IsSorted(times) {
			p.t.Errorf("%s: not in order", name)
		}
		last := from.UnixMilli()
		for i, t := range times {
			if t-last > gap.Milliseconds() {
				p.t.Errorf("%s: a gap of %d s before %s", name, (t-last)/1000, time.UnixMilli(t).UTC())
			}
			// Where the replica changes the next sample may be as near as their offset, but not the one after it.
			if i > 1 && t-times[i-2] < pairInterval.Milliseconds() {
				p.t.Errorf("%s: samples of two replicas at %s", name, time.UnixMilli(t).UTC())
			}
			last = t
		}
		if p.now.UnixMilli()-last > gap.Milliseconds() {
			p.t.Errorf("%s: nothing since %s", name, time.UnixMilli(last).UTC())
		}
	}
}

func TestTheOtherReplicaTakesOverWithoutADoubledSample(t *testing.T) {
	p := newPair(t)
	from := p.now
	p.steps(time.Minute)
	p.check(from, pairInterval)
	p.replicas[0].dead = true
	p.steps(2 * time.Minute)
	p.check(from, pairFailover/2+2*pairInterval)
	p.replicas[0].dead = false
	p.steps(time.Minute)
	p.replicas[1].dead = true
	p.steps(2 * time.Minute)
	p.check(from, pairFailover/2+2*pairInterval)
	if got := p.counted("deduplicated"); got == 0 {
		t.Error("nothing is counted as deduplicated")
	}
}

// counted returns how many samples had a result, since the server was started.
func (p *pair) counted(result string) float64 {
	p.t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "tidemark_ingest_samples_total" && m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func TestWhatWaitedDuringAnOutageIsTakenFromOneReplica(t *testing.T) {
	p := newPair(t)
	from := p.now
	p.steps(time.Minute)
	p.down = true
	p.steps(10 * time.Minute)
	p.down = false
	p.steps(time.Minute)
	p.check(from, 2*pairInterval)
}

func TestAReplicaThatEndsDuringAnOutageIsNotWaitedFor(t *testing.T) {
	p := newPair(t)
	from := p.now
	p.steps(time.Minute)
	p.down = true
	p.stop()
	p.steps(5 * time.Minute)
	p.replicas[0].dead, p.replicas[0].backlog = true, nil
	p.steps(5 * time.Minute)
	p.disk = p.disk.Crash(0, 1)
	p.start()
	p.down = false
	p.steps(time.Minute)
	p.check(from, 2*pairInterval)
}

// Whatever ends and comes back, there is no gap longer than a failover and nothing is there twice.
func TestReplicasAndServersThatComeAndGoLeaveNoGapAndNoDouble(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 10 {
		p := newPair(t)
		from := p.now
		p.steps(time.Minute)
		for range 30 {
			switch r.IntN(6) {
			case 0: // one ends, with what it has not sent; the other has been there for a while
				i := r.IntN(2)
				if !p.replicas[1-i].dead && !p.down {
					p.replicas[i].dead, p.replicas[i].backlog = true, nil
				}
			case 1, 2:
				p.replicas[0].dead, p.replicas[1].dead = false, false
			case 3: // one fault at a time: that the elected one was away while the server was, nobody can tell it
				p.down = !p.down && !p.replicas[0].dead && !p.replicas[1].dead
			case 4:
				p.down = false
			case 5: // the server is started again, after a stop or a crash
				if p.replicas[0].dead || p.replicas[1].dead {
					break // the one that is there would wait for the other anew
				}
				p.stop()
				if r.IntN(2) == 0 {
					p.disk = p.disk.Crash(0, r.Uint64())
				}
				p.start()
			}
			p.steps(time.Duration(r.IntN(90)) * time.Second)
		}
		p.down, p.replicas[0].dead, p.replicas[1].dead = false, false, false
		p.steps(2 * time.Minute)
		p.check(from, pairFailover+3*pairInterval)
		if t.Failed() {
			return
		}
	}
}

// A request that was begun while its replica was elected and ends when it is not any more leaves nothing.
func TestARequestThatIsOvertakenByAnElectionIsLeftOut(t *testing.T) {
	p := newPair(t)
	p.steps(10 * time.Second)
	before := p.stored()
	late, labelsOf := p.request("a", []int64{p.now.UnixMilli() + 1})
	p.replicas[0].dead = true
	p.now = p.now.Add(pairFailover + time.Second)
	fresh, freshLabels := p.request("b", []int64{p.now.UnixMilli()})
	if out, err := fresh.Commit(t.Context(), freshLabels); err != nil || out.Floats != pairSeries {
		t.Fatalf("%+v, %v", out, err)
	}
	fresh.Release()
	out, err := late.Commit(t.Context(), labelsOf)
	if err != nil || out.Floats != pairSeries || out.Message() != "" || out.Rows != pairSeries {
		t.Errorf("%+v, %v", out, err)
	}
	late.Release()
	for name, times := range p.stored() {
		if want := append(before[name], p.now.UnixMilli()); !slices.Equal(times, want) {
			t.Errorf("%s: %v, want %v", name, times, want)
		}
	}
}

// overtaken is an Intake with the clock of its elections, and a request of one row and an exemplar of replica a, begun before
// b is elected, with a series in front that the store refuses.
func overtaken(t *testing.T, store *ingesttest.Recorder) (now *time.Time, commit func() (ingest.Outcome, error)) {
	t.Helper()
	now = new(time.Time)
	*now = time.Unix(1_700_000_000, 0)
	tracker, err := dedup.New(dedup.Options{FS: fsx.NewCrashable(), Dir: "d", Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	tracker.Apply(&dedup.Settings{ClusterLabel: "cluster", ReplicaLabel: "r", Failover: pairFailover})
	in, err := ingest.New(ingest.Options{Appender: store, Replicas: tracker})
	if err != nil {
		t.Fatal(err)
	}
	begin := func(replica string) func() (ingest.Outcome, error) {
		sets := []labels.Labels{
			labels.FromStrings("__name__", "x"), labels.FromStrings("__name__", "up", "cluster", "1", "r", replica),
		}
		req := in.Begin()
		for _, ls := range sets {
			if key := req.Hash(1, ls.Bytes(nil)); !req.Begin(key) {
				req.Define(key, ls)
			}
			req.Float(0, now.UnixMilli(), 1)
			req.Exemplar(sample.Exemplar{Labels: labels.FromStrings("of", replica), T: now.UnixMilli(), HasT: true})
		}
		return func() (ingest.Outcome, error) {
			defer req.Release()
			return req.Commit(t.Context(), func(i int) (labels.Labels, error) { return sets[i], nil })
		}
	}
	if _, err := begin("a")(); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Second)
	late := begin("a")
	*now = now.Add(pairFailover)
	if _, err := begin("b")(); err == nil {
		t.Fatal("b is not told to wait")
	}
	*now = now.Add(pairFailover/2 + time.Second)
	if _, err := begin("b")(); err != nil {
		t.Fatal(err)
	}
	return now, late
}

func TestOfAnOvertakenRequestNoExemplarIsStoredEither(t *testing.T) {
	store := refusing()
	_, late := overtaken(t, store)
	out, err := late()
	if err != nil || out.Floats != 1 || out.Exemplars != 1 || out.Rejected() != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	want := []string{`{__name__="up", cluster="1"} # {of="a"}`, `{__name__="up", cluster="1"} # {of="b"}`}
	if got := store.Exemplars(); !slices.Equal(got, want) {
		t.Errorf("exemplars %q, want %q", got, want)
	}
}

// Nobody knows yet whether it is to be stored.
func TestAnOvertakenRequestIsSentAgainWhereTheElectedOneIsSilent(t *testing.T) {
	store := &ingesttest.Recorder{}
	now, late := overtaken(t, store)
	stored := len(store.Rows())
	*now = now.Add(pairFailover/2 + time.Second)
	_, err := late()
	if _, ok := errors.AsType[*sample.UnavailableError](err); !ok {
		t.Errorf("answered %v", err)
	}
	if n := len(store.Rows()) - stored; n != 0 {
		t.Errorf("%d rows of it are stored", n)
	}
}

func TestARequestOfManyReplicasIsTakenSeriesBySeries(t *testing.T) {
	store := &ingesttest.Recorder{}
	tracker, err := dedup.New(dedup.Options{FS: fsx.NewCrashable(), Dir: "d"})
	if err != nil {
		t.Fatal(err)
	}
	tracker.Apply(&dedup.Settings{ClusterLabel: "cluster", ReplicaLabel: "r", Failover: time.Minute})
	in, err := ingest.New(ingest.Options{Appender: store, Replicas: tracker})
	if err != nil {
		t.Fatal(err)
	}
	name := []labels.Labels{
		labels.FromStrings("__name__", "x", "cluster", "1", "r", "a"),
		labels.FromStrings("__name__", "x", "cluster", "1", "r", "b"),
		labels.FromStrings("__name__", "alone"),
		labels.FromStrings("__name__", "x", "cluster", "2", "r", "b"),
		labels.FromStrings("__name__", "y", "cluster", "1", "r", "b"),
		labels.FromStrings("__name__", "y", "cluster", "1", "r", "a"),
	}
	for round := range int64(3) {
		req := in.Begin()
		for i, ls := range name {
			if key := req.Hash(1, ls.Bytes(nil)); !req.Begin(key) {
				if round > 0 {
					t.Errorf("round %d: %s is not known", round, ls)
				}
				req.Define(key, ls)
			}
			req.Float(0, round, float64(i))
			req.Exemplar(sample.Exemplar{V: float64(i), T: round})
			if !req.MetadataKnown(7) {
				req.Metadata(sample.Metadata{Help: ls.String()})
			}
		}
		out, err := req.Commit(t.Context(), func(i int) (labels.Labels, error) { return name[i], nil })
		req.Release()
		if err != nil || out.Rows != 6 || out.Floats != 6 || out.Exemplars != 6 || out.Message() != "" {
			t.Errorf("round %d: %+v, %v", round, out, err)
		}
	}
	var got []string
	for _, row := range store.Rows() {
		got = append(got, fmt.Sprintf("%s@%d=%v", row.Series, row.T, row.V))
	}
	var want []string
	for round := range 3 {
		for _, s := range []string{`{__name__="x", cluster="1"}@%d=0`, `{__name__="alone"}@%d=2`, `{__name__="x", cluster="2"}@%d=3`, `{__name__="y", cluster="1"}@%d=5`} {
			want = append(want, fmt.Sprintf(s, round))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("stored\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(store.Exemplars()); n != 12 {
		t.Errorf("%d exemplars, want 12", n)
	}
	if m := store.Metadata(`{__name__="x", cluster="1"}`); !strings.Contains(m.Help, `r="a"`) {
		t.Errorf("metadata is %+v", m)
	}
	store.Forget()
	req := in.Begin()
	for _, ls := range name {
		if !req.Begin(req.Hash(1, ls.Bytes(nil))) {
			t.Errorf("%s is not known", ls)
		}
		req.Float(0, 9, 9)
	}
	if out, err := req.Commit(t.Context(), func(i int) (labels.Labels, error) { return name[i], nil }); err != nil || out.Floats != 6 {
		t.Errorf("%+v, %v", out, err)
	}
	for _, row := range store.Rows()[12:] {
		if strings.Contains(row.Series, " r=") {
			t.Errorf("a series that was resolved again is %s", row.Series)
		}
	}
}

// BenchmarkReplicas is a request of 2,000 known series with a row each, without its commit: without deduplication, of the
// elected replica, and of the other.
func BenchmarkReplicas(b *testing.B) {
	for _, which := range []string{"off", "elected", "other"} {
		b.Run(which, func(b *testing.B) {
			tracker, err := dedup.New(dedup.Options{FS: fsx.NewCrashable(), Dir: "d"})
			if err != nil {
				b.Fatal(err)
			}
			if which != "off" {
				tracker.Apply(&dedup.Settings{ClusterLabel: "cluster", ReplicaLabel: "__replica__", Failover: time.Hour})
				tracker.Roster().Of(labelsOfPair("elected", 0)).Take()
			}
			in, err := ingest.New(ingest.Options{Appender: &ingesttest.Recorder{}, Replicas: tracker})
			if err != nil {
				b.Fatal(err)
			}
			const series = 2000
			fill := func(req *ingest.Request) {
				var name [8]byte
				for i := range series {
					key := req.Hash(1, append(append(name[:0], byte(i), byte(i>>8)), which[:2]...))
					if !req.Begin(key) {
						req.Define(key, labelsOfPair(which, i))
					}
					req.Float(0, 1, 1)
				}
			}
			req := in.Begin()
			fill(req)
			if _, err := req.Commit(b.Context(), func(i int) (labels.Labels, error) { return labelsOfPair(which, i), nil }); err != nil {
				b.Fatal(err)
			}
			req.Release()
			b.ReportAllocs()
			for b.Loop() {
				req := in.Begin()
				fill(req)
				req.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
		})
	}
}
