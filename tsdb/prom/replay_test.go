// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// attach appends to the log of a Prometheus samples of two series with exemplars and descriptions.
func attach(t *testing.T, dir string) {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.RetentionDuration, o.EnableExemplarStorage, o.MaxExemplars, o.EnableMetadataWALRecords = 0, true, 100, true
	db, err := tsdb.Open(dir, nil, nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.DisableCompactions()
	app := db.Appender(t.Context())
	one := labels.FromStrings(labels.MetricName, "latency_bucket", "le", "1")
	two := labels.FromStrings(labels.MetricName, "requests_total", "job", "a")
	for i, ls := range []labels.Labels{one, two} {
		at := epoch + 8*hour + int64(i)
		ref, err := app.Append(0, ls, at, float64(i))
		if err == nil {
			_, err = app.AppendExemplar(ref, ls, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "x"), Value: math.Inf(1 - 2*i), Ts: at, HasTs: true})
		}
		if err == nil {
			m := metadata.Metadata{Type: model.MetricTypeHistogram, Unit: "seconds", Help: "How long."}
			if i == 1 {
				m = metadata.Metadata{Type: model.MetricTypeCounter, Help: "How many."}
			}
			_, err = app.UpdateMetadata(ref, ls, m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(app.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// The exemplars and descriptions of a log are answered from the blocks that are made of it, and from what these become.
func TestExemplarsAndDescriptionsOfALogComeAlong(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	p := newPeer(t, rng, newMix(rng, 6, epoch, epoch+hour, 60_000), peerOptions{})
	p.close(t)
	attach(t, p.dir)
	want := []column.ExemplarSeries{
		{Labels: labels.FromStrings(labels.MetricName, "latency_bucket", "le", "1"), Exemplars: []exemplar.Exemplar{
			{Labels: labels.FromStrings("trace_id", "x"), Value: math.Inf(1), Ts: epoch + 8*hour, HasTs: true},
		}},
		{Labels: labels.FromStrings(labels.MetricName, "requests_total", "job", "a"), Exemplars: []exemplar.Exemplar{
			{Labels: labels.FromStrings("trace_id", "x"), Value: math.Inf(-1), Ts: epoch + 8*hour + 1, HasTs: true},
		}},
	}
	check := func(what string, db *store.DB) {
		t.Helper()
		v, err := db.View(math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = v.Close() }()
		exemplars, ok := v.(column.ExemplarReader)
		if !ok {
			t.Fatal("no exemplars")
		}
		all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "latency_bucket|requests_total")
		got, err := exemplars.Exemplars(t.Context(), math.MinInt64, math.MaxInt64, []*labels.Matcher{all})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(labels.Equal)); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
		described, _ := v.(column.MetadataReader)
		families := maps.Collect(described.Metadata(t.Context(), ""))
		if diff := cmp.Diff(map[string][]metadata.Metadata{
			"latency":        {{Type: model.MetricTypeHistogram, Unit: "seconds", Help: "How long."}},
			"requests_total": {{Type: model.MetricTypeCounter, Help: "How many."}},
		}, families); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
		for family := range described.Metadata(t.Context(), "latency") {
			if family != "latency" {
				t.Errorf("%s: asked for latency, got %s", what, family)
			}
		}
	}
	db := openStore(t, store.Options{Dir: p.dir, ForeignInPlace: true})
	check("in place", db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openStore(t, store.Options{Dir: p.dir})
	for deadline := time.Now().Add(20 * time.Second); db.Stats().Foreign.Blocks > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := db.Stats().Foreign.Blocks; n > 0 {
		t.Fatalf("%d blocks are not converted", n)
	}
	check("converted", db)
}

// A replay that is called off ends at the next segment, and changes nothing of what Prometheus left.
func TestAReplayThatIsCalledOffEnds(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	p := newPeer(t, rng, newMix(rng, 30, epoch, epoch+3*hour, 15_000), peerOptions{late: hour})
	p.close(t)
	before := contents(t, p.dir)
	r := replay{dir: p.dir, box: filepath.Join(t.TempDir(), "replay")}
	head, err := r.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	off := make(chan bool)
	m := newMemoryWatch(ctx, Directory{}, func() {
		if err := os.RemoveAll(filepath.Join(r.box, walDir)); err != nil {
			t.Error(err)
		}
		close(off)
	})
	defer m.release()
	cancel()
	<-off
	if err := head.Init(math.MinInt64); err == nil {
		t.Error("the log was read all the same")
	}
	if err := m.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("cause %v", err)
	}
	_ = head.Close() // of files that are gone
	if diff := cmp.Diff(before, contents(t, p.dir)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
}

func TestAReplayIsChargedForWhatTheHeapGrowsBy(t *testing.T) {
	account := budget.NewRoot("test", 100)
	var heap atomic.Int64
	heap.Store(1000)
	watch := func() (m *memoryWatch, off chan bool) {
		off = make(chan bool)
		return newMemoryWatch(t.Context(), Directory{Account: account, heap: heap.Load}, func() { close(off) }), off
	}
	m, _ := watch()
	heap.Store(1060)
	for account.Used() != 60 {
		time.Sleep(time.Millisecond)
	}
	heap.Store(1020)
	if err := m.stop(); err != nil || account.Used() != 60 {
		t.Errorf("%v, %d bytes are charged", err, account.Used())
	}
	m.release()
	m, off := watch()
	heap.Add(101)
	<-off
	err := m.stop()
	m.release()
	if _, ok := errors.AsType[*budget.ExceededError](err); !ok || account.Used() != 0 {
		t.Errorf("more than there is: %v, %d bytes stay charged", err, account.Used())
	}
	if before := liveHeap(); before <= 0 {
		t.Errorf("%d bytes of heap", before)
	}
}

// Where there is no memory to read the log, answers say that they lack it, and the next start tries again.
func TestALogThatTakesTooMuchMemoryIsLeftAsItIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	p := newPeer(t, rng, newMix(rng, 30, epoch, epoch+3*hour, 15_000), peerOptions{})
	p.close(t)
	scratch := t.TempDir()
	account := budget.NewRoot("test", 1000)
	var heap atomic.Int64
	got, err := Directory{Account: account, heap: func() int64 { return heap.Add(1001) }}.Open(t.Context(), p.dir, scratch, none)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Unreadable) != 1 || !strings.Contains(got.Unreadable[0].NextStep, "memory.limit") || account.Used() != 0 {
		t.Fatalf("%+v, %d bytes stay charged", got.Unreadable, account.Used())
	}
	left, err := filepath.Glob(filepath.Join(scratch, "*"))
	if err != nil || slices.ContainsFunc(left, func(name string) bool { return !strings.HasSuffix(name, headFile) }) {
		t.Errorf("left are %v, %v", left, err)
	}
	if blocks := openDirectory(t, p.dir, scratch); len(blocks) == 0 {
		t.Error("the next start reads nothing")
	}
}
