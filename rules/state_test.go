// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// server is a sequence of managers, started and stopped over one file system and one store, in a bubble of
// synthetic time.
type server struct {
	*testing.T
	fs    *fsx.Crashable
	store *store
	notes *recorder
	rules string
	dir   string
	// rulesDir stays the same: the name of its file is part of the group's key.
	rulesDir string
	mu       sync.Mutex
	result   promql.Vector // of every query; see set
	tune     func(*Options)
}

func newServer(t *testing.T, rules string) *server {
	t.Helper()
	return &server{T: t, fs: fsx.NewCrashable(), store: newStore(), notes: &recorder{}, rules: rules, dir: "/data/alerts", rulesDir: t.TempDir()}
}

// run starts a server, lets body run, and stops it. With crash, what was not synced is lost instead.
func (s *server) run(crash bool, body func(f *fixture)) {
	s.Helper()
	f := &fixture{T: s.T, store: s.store, notes: s.notes, dir: s.rulesDir}
	f.opts = Options{
		Query: func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
			s.mu.Lock()
			out := slices.Clone(s.result)
			s.mu.Unlock()
			for i := range out {
				out[i].T = millis(ts)
			}
			return out, nil
		},
		Appender: s.store, Source: s.store, Notifier: s.notes, FS: s.fs, StateDir: s.dir,
	}
	if s.tune != nil {
		s.tune(&f.opts)
	}
	f.config = Config{Interval: 10 * time.Second}
	f.rules(s.rules)
	after := s.fs
	f.running(func() {
		body(f)
		if crash {
			after = s.fs.Crash(0, rand.Uint64())
		}
	})
	s.fs = after
}

// set makes v the result of every query from now on.
func (s *server) set(v promql.Vector) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = v
}

func (s *server) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func one(instance string) promql.Vector {
	return promql.Vector{{Metric: labels.FromStrings("i", instance), F: 1}}
}

const stateRules = `
groups:
- name: g
  rules:
  - {alert: A, expr: m, for: 2m, keep_firing_for: 5m, annotations: {v: 'is {{ $value }}'}}
`

func TestFiringAlertIsFiringAfterARestart(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, stateRules)
			s.set(one("1"))
			var before AlertStatus
			s.run(crash, func(f *fixture) {
				s.wait(5 * time.Minute)
				before = f.m.Alerts()[0]
			})
			first := s.notes.take()
			time.Sleep(20 * time.Minute)
			s.set(nil) // nothing scraped yet
			s.run(false, func(f *fixture) {
				if diff := cmp.Diff(before.ActiveAt, f.m.Alerts()[0].ActiveAt); before.State != StateFiring || diff != "" {
					t.Errorf("before %v; active since (-before +after)\n%s", before.State, diff)
				}
				s.wait(30 * time.Second)
				if got := f.alerts(); got != `firing {alertname="A", i="1"} 1e+00` {
					t.Errorf("crash %t: alerts %q before the first scrape", crash, got)
				}
				s.set(one("1"))
				s.wait(time.Minute)
			})
			for _, n := range s.notes.take() {
				if !n.StartsAt.Equal(first[0].StartsAt) || n.EndsAt.Before(time.Now()) || n.Annotations.Get("v") != "is 1" {
					t.Errorf("crash %t: sent %v after the restart, %v before", crash, n, first[0])
				}
			}
		})
	}
}

func TestAlertThatEndedWhileTheServerWasDownResolvesAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, strings.Replace(stateRules, "keep_firing_for: 5m,", "", 1))
		s.set(one("1"))
		s.run(true, func(*fixture) { s.wait(5 * time.Minute) })
		s.notes.take()
		time.Sleep(5 * time.Minute)
		s.set(nil)
		s.run(false, func(f *fixture) {
			s.wait(100 * time.Second)
			if got := f.alerts(); got == "" {
				t.Error("resolved within the grace")
			}
			s.wait(40 * time.Second)
			if got := f.alerts(); got != "" {
				t.Errorf("not resolved: %s", got)
			}
		})
		sent := s.notes.take()
		if n := len(sent); n == 0 || sent[n-1].EndsAt.After(time.Now()) {
			t.Errorf("no resolved notification in %v", sent)
		}
	})
}

func TestPendingAlertGoesOnFromTheTimeItHadServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, stateRules)
		s.set(one("1"))
		s.run(false, func(f *fixture) {
			s.wait(80 * time.Second)
			if got := f.alerts(); !strings.HasPrefix(got, "pending") {
				t.Fatal(got)
			}
		})
		time.Sleep(30 * time.Minute)
		s.run(false, func(f *fixture) {
			s.wait(35 * time.Second)
			if got := f.alerts(); !strings.HasPrefix(got, "pending") {
				t.Errorf("time while the server was down counted: %s", got)
			}
			s.wait(30 * time.Second)
			if got := f.alerts(); !strings.HasPrefix(got, "firing") {
				t.Errorf("time before the restart did not count: %s", got)
			}
		})
	})
}

func TestKeepFiringForGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, stateRules)
		s.set(one("1"))
		var since time.Time
		s.run(true, func(f *fixture) {
			s.wait(3 * time.Minute)
			s.set(nil)
			s.wait(time.Minute)
			since = f.m.Alerts()[0].KeepFiringSince
		})
		s.run(false, func(f *fixture) {
			s.wait(time.Minute)
			if got := f.m.Alerts(); since.IsZero() || !got[0].KeepFiringSince.Equal(since) {
				t.Errorf("since %v, before %v", got[0].KeepFiringSince, since)
			}
			s.wait(4 * time.Minute)
			if got := f.alerts(); got != "" {
				t.Errorf("not resolved: %s", got)
			}
		})
	})
}

func TestStateOlderThanTheToleranceIsNotRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, stateRules)
		s.set(one("1"))
		s.run(false, func(*fixture) { s.wait(5 * time.Minute) })
		time.Sleep(61 * time.Minute)
		s.run(false, func(f *fixture) {
			if got := f.alerts(); got != "" {
				t.Errorf("restored %s", got)
			}
		})
	})
}

func TestResolvedAlertIsStillSentAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, "groups: [{name: g, rules: [{alert: A, expr: m}]}]")
		s.set(one("1"))
		s.run(true, func(*fixture) {
			s.wait(time.Minute)
			s.set(nil)
			s.wait(30 * time.Second)
		})
		s.notes.take()
		s.run(false, func(*fixture) { s.wait(3 * time.Minute) })
		sent := s.notes.take()
		if len(sent) < 2 {
			t.Fatalf("%d notifications after the restart", len(sent))
		}
		for _, n := range sent {
			if n.EndsAt.After(time.Now().Add(-2 * time.Minute)) {
				t.Errorf("sent %v, want it resolved", n)
			}
		}
	})
}

func TestStateFilesComeAndGoWithGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, stateRules)
		s.set(one("1"))
		files := func() int {
			names, err := s.fs.List(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			return len(names)
		}
		s.run(false, func(f *fixture) {
			if n := files(); n != 0 {
				t.Errorf("%d files before there is anything to keep", n)
			}
			s.wait(time.Minute)
			if n := files(); n != 1 {
				t.Errorf("%d files, want 1", n)
			}
			f.rules("groups: []")
			s.wait(2 * time.Second)
			if n := files(); n != 0 {
				t.Errorf("%d files after the group was removed", n)
			}
		})
	})
}

func TestStateIsWrittenAtMostOnceASecondAndOnlyWhenItChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, "groups: [{name: g, interval: 100ms, rules: [{alert: A, expr: m, for: 1h}]}]")
		s.set(one("1"))
		var writes atomic.Int32
		faulty := fsx.NewFaulty(s.fs)
		faulty.Observe(func(op fsx.Op, _ string) {
			if op == fsx.OpRename {
				writes.Add(1)
			}
		})
		s.tune = func(o *Options) { o.FS = faulty }
		s.run(false, func(*fixture) {
			s.wait(30 * time.Second)
			if n := writes.Load(); n != 1 {
				t.Errorf("%d writes of a state that changed once", n)
			}
			for i := range 50 { // a new alert at each evaluation
				s.set(append(slices.Clone(s.result), one(fmt.Sprint("x", i))...))
				s.wait(100 * time.Millisecond)
			}
			if n := writes.Load(); n < 4 || n > 7 {
				t.Errorf("%d writes in 5 s of changes", n)
			}
		})
	})
}

func TestAlertsGoOnWhenStateCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, "groups: [{name: g, rules: [{alert: A, expr: m}]}]")
		s.set(one("1"))
		faulty := fsx.NewFaulty(s.fs)
		s.tune = func(o *Options) { o.FS = faulty }
		s.run(false, func(*fixture) {
			faulty.Inject(fsx.Fault{Op: fsx.OpCreate, Err: syscall.ENOSPC})
			s.wait(2 * time.Minute)
			if len(s.notes.take()) < 2 {
				t.Error("no notifications while the disk is full")
			}
			faulty.Heal()
			s.wait(20 * time.Second)
			names, err := s.fs.List(s.dir)
			if err != nil || len(names) != 1 {
				t.Errorf("files %v, %v after the disk had room again", names, err)
			}
		})
	})
}

func TestDamagedStateIsReportedAndSeriesRestoreInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, stateRules)
		s.set(one("1"))
		s.run(false, func(*fixture) { s.wait(5 * time.Minute) })
		names, _ := s.fs.List(s.dir)
		file, err := s.fs.OpenReadWrite(s.dir + "/" + names[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte("X"), 90); err != nil {
			t.Fatal(err)
		}
		file.Close()
		s.run(false, func(f *fixture) {
			if got := f.alerts(); got != "" {
				t.Errorf("restored %s from a damaged file", got)
			}
			if !f.group("g").restoreSeries {
				t.Error("the series are not asked")
			}
		})
	})
}

func TestStateOfANewerVersionIsNotTouched(t *testing.T) {
	f := newFixture(t)
	f.opts.FS, f.opts.StateDir = fsx.NewCrashable(), "/s"
	f.rules("groups: []")
	f.m = nil
	k, err := newKeeper(&f.opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := f.opts.FS.Create(k.file(f.dir + "/rules.yml;g"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("tidemark alert state 2 something else\n..."), 0); err != nil {
		t.Fatal(err)
	}
	file.Close()
	if err := f.tryRules("groups: [{name: g, rules: [{alert: A, expr: m}]}]"); !errors.Is(err, errNewerState) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("error %v", err)
	}
}

func TestStateRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	when := func() time.Time {
		if rng.IntN(2) == 0 {
			return time.Time{}
		}
		return time.Unix(rng.Int64N(1e9), rng.Int64N(1e9)).UTC()
	}
	for range 100 {
		a := &alert{
			state: []State{StateInactive, StatePending, StateFiring}[rng.IntN(3)], labels: labels.FromStrings("a", "\n\"ü", "b", "c"),
			annotations: labels.FromStrings("x y", "<&>"), value: []float64{math.Inf(1), -0.1, 1e300}[rng.IntN(3)],
			activeAt: when(), firedAt: when(), resolvedAt: when(), keepFiringSince: when(), lastSentAt: when(), validUntil: when(),
		}
		data, err := encodeState(&groupState{File: "f", Group: "g", SavedAt: 7, Rules: []ruleState{{Rule: "r", Alerts: []alertState{a.save()}}}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := decodeState(data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Rules[0].Alerts[0].load()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, got, cmp.AllowUnexported(alert{}), cmp.Comparer(labels.Equal)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	data, err := encodeState(&groupState{File: "f", Group: "g", SavedAt: 7, Rules: []ruleState{{
		Rule: "r", Alerts: []alertState{{State: "firing", Labels: labels.FromStrings("a", "b"), Value: "1", ActiveAt: 5}},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte("tidemark alert state 9 crc32c=00000000\n{}"))
	f.Add([]byte("tidemark alert state 1 crc32c=00000000\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(data)
		if err != nil {
			return
		}
		for _, r := range s.Rules {
			for i := range r.Alerts {
				if a, err := r.Alerts[i].load(); err == nil && a.state == StateUnknown {
					t.Error("an alert of unknown state was loaded")
				}
			}
		}
		again, err := encodeState(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeState(again); err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
	})
}
