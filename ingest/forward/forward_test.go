// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a forwarder under test, over restarts.
type bench struct {
	t     *testing.T
	store store
	o     Options
	reg   *prometheus.Registry
	f     *Forwarder
	stop  func()
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	x := &bench{t: t, o: o}
	x.o.Dir, x.o.Store = t.TempDir(), &x.store
	x.start()
	t.Cleanup(func() { x.stop() })
	return x
}

// start starts a forwarder, which is stopped by x.stop.
func (x *bench) start() {
	x.t.Helper()
	x.reg = prometheus.NewRegistry()
	x.o.Registerer = x.reg
	f, err := New(x.o)
	if err != nil {
		x.t.Fatal(err)
	}
	x.f = f
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	x.stop = func() {
		cancel()
		if err := errors.Join(<-ended, f.Close()); err != nil {
			x.t.Error(err)
		}
		x.stop = func() {}
	}
}

// configure applies a configuration; URL stands for that of the receiver.
func (x *bench) configure(to *receiver, text string) {
	x.t.Helper()
	cfg, err := promconfig.Load(strings.ReplaceAll(text, "URL", to.URL), promslog.NewNopLogger())
	if err != nil {
		x.t.Fatal(err)
	}
	if err := x.f.ApplyConfig(cfg); err != nil {
		x.t.Fatal(err)
	}
}

// quick makes requests small, and waits short.
const quick = `, queue_config: {batch_send_deadline: 10ms, min_backoff: 1ms, max_backoff: 5ms, max_samples_per_send: 10, max_shards: 4}`

// accept tells of a batch.
func (x *bench) accept(b *sample.Batch, r *sample.Result) {
	x.store.describe(b)
	x.f.Accepted(x.store.commit(), b, r)
}

func (x *bench) keep() {
	x.t.Helper()
	if err := x.f.Keep(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
}

// row commits one float.
func (x *bench) row(ref sample.Ref, t int64, v float64) {
	var b sample.Batch
	b.AppendFloat(ref, 0, t, v, 0)
	x.accept(&b, &sample.Result{})
}

// await waits until what has come, sorted, is want, sorted.
func (x *bench) await(to *receiver, want ...string) {
	x.t.Helper()
	slices.Sort(want)
	var got []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		got = to.got()
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
	}
	x.t.Fatalf("received (-want +got):\n%s", cmp.Diff(want, got))
}

func (x *bench) counter(name string) float64 {
	x.t.Helper()
	families, err := x.reg.Gather()
	if err != nil {
		x.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestAcceptedRowsOfAllKindsAreSent(t *testing.T) {
	h := tsdbutil.GenerateTestHistogram(3)
	fh := tsdbutil.GenerateTestFloatHistogram(4)
	for version, want := range map[string][]string{
		"prometheus.WriteRequest": {
			`{__name__="a", x="1"} 1 @1000`, `{__name__="a", x="1"} 0.5 @500`, `{__name__="a", x="1"} 0.5 @400`,
			fmt.Sprintf(`{__name__="h"} %s @1000`, h), fmt.Sprintf(`{__name__="fh"} float %s @1000`, fh),
			`{__name__="a", x="1"} exemplar {trace="t"} 7 @999`,
		},
		"io.prometheus.write.v2.Request": {
			`{__name__="a", x="1"} 1 @1000 since 10`, `{__name__="a", x="1"} 0.5 @500 since 0`, `{__name__="a", x="1"} 0.5 @400 since 0`,
			fmt.Sprintf(`{__name__="h"} %s @1000`, h), fmt.Sprintf(`{__name__="fh"} float %s @1000`, fh),
			`{__name__="a", x="1"} exemplar {trace="t"} 7 @999`,
		},
	} {
		t.Run(version, func(t *testing.T) {
			x, to := newBench(t, Options{}), newReceiver(t)
			x.configure(to, `remote_write: [{url: URL, send_exemplars: true, send_native_histograms: true, protobuf_message: `+version+
				`, metadata_config: {send: true, send_interval: 20ms}`+quick+`}]`)
			a, hs, fhs := x.store.ref(1, "__name__", "a", "x", "1"), x.store.ref(2, "__name__", "h"), x.store.ref(70_000, "__name__", "fh")
			var b sample.Batch
			b.AppendFloat(a, 10, 1000, 1, 0)
			b.AppendFloat(a, 0, 1000, 2, 0) // refused
			b.AppendHistogram(hs, 0, 1000, h, nil, 0)
			b.AppendHistogram(fhs, 0, 1000, nil, fh, 0)
			b.AppendFloat(a, 0, 500, 0.5, 0) // late
			b.AppendFloat(a, 0, 400, 0.5, 0) // there already
			b.Exemplars = append(b.Exemplars, sample.Exemplar{Ref: a, Labels: labels.FromStrings("trace", "t"), V: 7, T: 999, HasT: true})
			b.Meta = append(b.Meta, sample.Metadata{Ref: a, Type: "gauge", Unit: "s", Help: "What it is."})
			ok := sample.Accepted
			x.accept(&b, &sample.Result{Reason: []sample.Reason{ok, sample.Conflict, ok, ok, ok, sample.Same}})
			x.await(to, want...)
			family := `a GAUGE "s" "What it is."`
			if version != "prometheus.WriteRequest" {
				family = `a gauge "s" "What it is."`
			}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
				to.mu.Lock()
				families := slices.Clone(to.families)
				to.mu.Unlock()
				if slices.Contains(families, family) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("metadata %q, want %s", families, family)
				}
			}
		})
	}
}

func TestRowsOfASeriesStayInOrder(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	to.answer = func(request int) int { // one of three fails and is sent again
		if request%3 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}
	x.configure(to, `remote_write: [{url: URL`+quick+`}]`)
	const series, rows = 20, 50
	var want []string
	for i := range rows {
		var b sample.Batch
		for s := range series {
			ref := sample.MakeRef(1, uint32(s))
			if i == 0 {
				ref = x.store.ref(uint32(s), "__name__", "m", "s", fmt.Sprint(s))
			}
			b.AppendFloat(ref, 0, int64(i), float64(i), 0)
			want = append(want, fmt.Sprintf(`{__name__="m", s="%d"} %d @%d`, s, i, i))
		}
		x.accept(&b, &sample.Result{})
	}
	x.await(to, want...)
	last := map[string]int{}
	for _, line := range to.got() {
		var v, at int
		name, rest, _ := strings.Cut(line, "} ")
		if _, err := fmt.Sscanf(rest, "%d @%d", &v, &at); err != nil {
			t.Fatal(err)
		}
		if before, ok := last[name]; ok && at != before+1 {
			t.Fatalf("%s after the row at %d", line, before)
		}
		last[name] = at
	}
	if x.counter("prometheus_remote_storage_samples_retried_total") == 0 {
		t.Error("no samples were counted as sent again")
	}
	// They are counted when the answer has come, which is after the receiver has them.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := x.counter("prometheus_remote_storage_samples_total")
		if got == series*rows {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v samples are counted, want %d", got, series*rows)
		}
	}
}

func TestWhatWaitsIsSentAfterARestart(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	down := true
	to.answer = func(int) int {
		if down {
			return http.StatusBadGateway
		}
		return http.StatusOK
	}
	config := `remote_write: [{url: URL` + quick + `}]`
	x.configure(to, config)
	a, b := x.store.ref(1, "__name__", "a"), x.store.ref(2, "__name__", "b")
	x.row(a, 1, 1)
	x.row(b, 1, 1)
	x.stop()
	x.start()
	x.configure(to, config)
	x.store.leave(b) // its name is in the queue
	x.row(a, 2, 2)
	x.stop()
	x.start()
	x.configure(to, config)
	again := x.store.ref(1, "__name__", "other") // the same id
	x.row(again, 3, 3)
	to.mu.Lock()
	down = false
	to.mu.Unlock()
	x.await(to, `{__name__="a"} 1 @1`, `{__name__="b"} 1 @1`, `{__name__="a"} 2 @2`, `{__name__="other"} 3 @3`)
	for q := x.f.queue.Load(); q.behind(q.journal.Last()); { // what is on its way would be sent again
		time.Sleep(time.Millisecond)
	}
	x.stop()
	x.start()
	x.configure(to, config)
	x.row(a, 4, 4)
	x.await(to, `{__name__="a"} 1 @1`, `{__name__="b"} 1 @1`, `{__name__="a"} 2 @2`, `{__name__="other"} 3 @3`, `{__name__="a"} 4 @4`)
}

// A server stops sending before it closes its listener.
func TestWhatIsAcceptedAfterTheEndpointsHaveStoppedIsSentAfterARestart(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	config := `remote_write: [{url: URL` + quick + `}]`
	x.configure(to, config)
	a := x.store.ref(1, "__name__", "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.f.Run(ctx); err != nil { // a second one: it ends the endpoints
		t.Fatal(err)
	}
	x.row(a, 1, 1)
	x.keep()
	x.stop()
	x.start()
	x.configure(to, config)
	x.await(to, `{__name__="a"} 1 @1`)
}

func TestRelabellingAndExternalLabelsApplyToWhatIsSent(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	x.configure(to, `
global: {external_labels: {region: eu, x: external}}
remote_write:
- url: URL
  queue_config: {batch_send_deadline: 10ms}
  write_relabel_configs:
  - {source_labels: [__name__], regex: secret, action: drop}
  - {source_labels: [x], target_label: y}
`)
	x.row(x.store.ref(1, "__name__", "secret"), 1, 1)
	x.row(x.store.ref(2, "__name__", "a", "x", "mine"), 1, 1)
	x.row(x.store.ref(3, "__name__", "b"), 1, 1)
	x.await(to, `{__name__="a", region="eu", x="mine", y="mine"} 1 @1`, `{__name__="b", region="eu", x="external", y="external"} 1 @1`)
	for q := x.f.queue.Load(); q.behind(q.journal.Last()); { // also behind what is not sent
		time.Sleep(time.Millisecond)
	}
	x.row(sample.MakeRef(1, 1), 2, 2)
	for q := x.f.queue.Load(); q.behind(q.journal.Last()); {
		time.Sleep(time.Millisecond)
	}
	if got := x.counter("prometheus_remote_storage_samples_dropped_total"); got != 2 {
		t.Errorf("%v samples are counted as dropped, want 2", got)
	}
}

func TestWhatAReceiverRefusesForGoodIsLeftOut(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	to.answer = func(request int) int {
		if request == 1 {
			return http.StatusBadRequest
		}
		return http.StatusOK
	}
	x.configure(to, `remote_write: [{url: URL`+quick+`}]`)
	a := x.store.ref(1, "__name__", "a")
	x.row(a, 1, 1)
	for end := time.Now().Add(20 * time.Second); x.counter("prometheus_remote_storage_samples_failed_total") != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the refused sample is not counted")
		}
	}
	x.row(a, 2, 2)
	x.await(to, `{__name__="a"} 2 @2`)
}

func TestReceiversComeAndGoWithTheConfiguration(t *testing.T) {
	x, one, two := newBench(t, Options{}), newReceiver(t), newReceiver(t)
	a := x.store.ref(1, "__name__", "a")
	x.row(a, 1, 1) // nobody wants it
	x.configure(one, `remote_write: [{url: URL`+quick+`}]`)
	x.row(a, 2, 2)
	x.await(one, `{__name__="a"} 2 @2`)
	both := `remote_write: [{url: URL` + quick + `}, {name: second, url: "` + two.URL + `"` + quick + `}]`
	x.configure(one, both)
	x.row(a, 3, 3)
	x.await(one, `{__name__="a"} 2 @2`, `{__name__="a"} 3 @3`)
	x.await(two, `{__name__="a"} 3 @3`)
	x.configure(two, `remote_write: [{name: second, url: URL`+quick+`, headers: {X-Changed: "1"}}]`)
	x.row(a, 4, 4)
	x.await(two, `{__name__="a"} 3 @3`, `{__name__="a"} 4 @4`)
	for end := time.Now().Add(20 * time.Second); x.counter("prometheus_remote_storage_samples_total") != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // of the one that stays, before and after the change
			t.Fatalf("%v samples are counted", x.counter("prometheus_remote_storage_samples_total"))
		}
	}
	x.await(one, `{__name__="a"} 2 @2`, `{__name__="a"} 3 @3`)
	x.configure(two, ``)
	x.row(a, 5, 5)
	x.stop()
	if n := len(two.got()); n != 2 {
		t.Errorf("a receiver that is no more got %d samples, want 2", n)
	}
}

// TestAnEpochNamesManySeriesOnce has names of more bytes than an epoch has of rows at least.
func TestAnEpochNamesManySeriesOnce(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	to.answer = func(int) int { return http.StatusBadGateway }
	x.configure(to, `remote_write: [{url: URL`+quick+`}]`)
	const series = 50_000
	long := strings.Repeat("x", epochBytes/series)
	var b sample.Batch
	for i := range uint32(series) {
		b.AppendFloat(x.store.ref(i, "__name__", "m", "long", long, "i", fmt.Sprint(i)), 0, 1, 1, 0)
	}
	q := x.f.queue.Load()
	x.accept(&b, &sample.Result{})
	before := q.journal.BytesSince(0)
	for range 3 {
		x.accept(&b, &sample.Result{})
	}
	if n := float64(q.journal.BytesSince(0)-before) / (3 * series); n > 16 {
		t.Errorf("a row takes %.1f bytes", n)
	}
}

func TestTheQueueIsCutWhereItIsTooOld(t *testing.T) {
	now := time.Now()
	clock := make(chan time.Time, 1)
	clock <- now
	read := func() time.Time { t := <-clock; clock <- t; return t }
	x, to := newBench(t, Options{Limits: Limits{Age: 2 * time.Hour}, Now: read}), newReceiver(t)
	down := true
	to.answer = func(int) int {
		if down {
			return http.StatusBadGateway
		}
		return http.StatusOK
	}
	// One request at a time: what is in it waits in memory and is sent, though it has been cut off.
	x.configure(to, `remote_write: [{url: URL, queue_config: {batch_send_deadline: 1ms, min_backoff: 1ms, max_backoff: 5ms, max_samples_per_send: 1, max_shards: 1, capacity: 1}}]`)
	a := x.store.ref(1, "__name__", "a")
	for i := range int64(8) {
		x.row(a, i, float64(i))
		<-clock
		now = now.Add(61 * time.Minute)
		clock <- now
	}
	for end := time.Now().Add(20 * time.Second); x.counter("tidemark_remote_write_queue_cut_samples_total") < 5; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v samples are cut", x.counter("tidemark_remote_write_queue_cut_samples_total"))
		}
	}
	to.mu.Lock()
	down = false
	to.mu.Unlock()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		got := to.got()
		if slices.Contains(got, `{__name__="a"} 7 @7`) {
			if slices.Contains(got, `{__name__="a"} 4 @4`) {
				t.Errorf("what was cut off was sent: %q", got)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("received %q", got)
		}
	}
}

func TestAFullDiskRefusesRowsAndTheStoreGoesOn(t *testing.T) {
	faults := fsx.NewFaulty(fsx.OS())
	x, to := newBench(t, Options{FS: faults}), newReceiver(t)
	x.configure(to, `remote_write: [{url: URL`+quick+`}]`)
	a := x.store.ref(1, "__name__", "a")
	x.row(a, 1, 1)
	x.await(to, `{__name__="a"} 1 @1`)
	faults.Inject(fsx.Fault{Op: fsx.OpWrite | fsx.OpPreallocate | fsx.OpCreate, Err: syscall.ENOSPC})
	n := int64(2)
	for end := time.Now().Add(20 * time.Second); x.counter("tidemark_remote_write_queue_refused_samples_total") == 0; n++ {
		if time.Now().After(end) {
			t.Fatal("nothing was refused")
		}
		x.row(a, n, 1)
		time.Sleep(time.Millisecond)
	}
	faults.Heal()
	last := fmt.Sprintf(`{__name__="a"} 2 @%d`, n)
	for end := time.Now().Add(20 * time.Second); !slices.Contains(to.got(), last); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("received %q, not %s", to.got(), last)
		}
		x.row(a, n, 2)
	}
}

func TestAQueueThatFailedIsOpenedAnew(t *testing.T) {
	faults := fsx.NewFaulty(fsx.OS())
	var log bytes.Buffer // read when nothing writes to it any more
	x, to := newBench(t, Options{FS: faults, Logger: slog.New(slog.NewTextHandler(&log, nil))}), newReceiver(t)
	x.configure(to, `remote_write: [{url: URL`+quick+`}]`)
	a := x.store.ref(1, "__name__", "a")
	x.row(a, 1, 1)
	x.await(to, `{__name__="a"} 1 @1`)
	if r, ok := x.f.Refusing(); ok {
		t.Errorf("it refuses rows: %+v", r)
	}
	faults.Inject(fsx.Fault{Op: fsx.OpWrite | fsx.OpSync | fsx.OpCreate, Err: syscall.EIO})
	n := int64(2)
	for end := time.Now().Add(20 * time.Second); x.counter("tidemark_remote_write_queue_refused_samples_total") < 5; n++ {
		if time.Now().After(end) {
			t.Fatal("nothing was refused")
		}
		x.row(a, n, 1)
		time.Sleep(time.Millisecond)
	}
	r, ok := x.f.Refusing()
	if !ok || r.Err == nil || r.Samples < 5 || r.Since.IsZero() {
		t.Errorf("refusal %+v, %v", r, ok)
	}
	faults.Heal()
	last := fmt.Sprintf(`{__name__="a"} 2 @%d`, n)
	for end := time.Now().Add(30 * time.Second); !slices.Contains(to.got(), last); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("received %d rows, not %s", len(to.got()), last)
		}
		x.row(a, n, 2)
	}
	if r, ok := x.f.Refusing(); ok {
		t.Errorf("it still refuses rows: %+v", r)
	}
	x.stop()
	for text, want := range map[string]int{"samples are not forwarded": 1, "samples are forwarded again": 1} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q is logged %d times, want %d", text, got, want)
		}
	}
}
