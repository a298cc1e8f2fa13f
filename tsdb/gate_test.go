// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// mostPer is a gate that lets so many series have each value of a label; of an empty name: so many at all.
type mostPer struct {
	label string
	most  int
}

func (g mostPer) Admit(ls labels.Labels, count func(name, value string) int) string {
	value := ls.Get(g.label)
	if g.label != "" && value == "" || count(g.label, value) < g.most {
		return ""
	}
	return "too many of " + g.label
}

// ofJobs are n series, in turns of each of so many jobs.
func ofJobs(n, jobs int) []labels.Labels {
	out := make([]labels.Labels, n)
	for i := range out {
		out[i] = labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprintf("%05d", i), "job", fmt.Sprintf("j%d", i%jobs))
	}
	return out
}

// resolveGated resolves and returns how many have a series, after it has checked that the others are those that the
// error names.
func resolveGated(t *testing.T, a sample.Appender, ls []labels.Labels) (made int) {
	t.Helper()
	refs := make([]sample.Ref, len(ls))
	err := a.Resolve(ls, refs)
	refused, ok := errors.AsType[*sample.RefusedError](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	zero := map[int]bool{}
	for i, ref := range refs {
		if ref == 0 {
			zero[i] = true
		}
	}
	if refused != nil {
		for _, r := range refused.Refused {
			if !zero[r.Index] || r.Why == "" {
				t.Errorf("refused %+v, whose ref is %d", r, refs[r.Index])
			}
			delete(zero, r.Index)
		}
	}
	if len(zero) > 0 {
		t.Errorf("%d label sets have no series and are not refused", len(zero))
	}
	made = len(ls)
	if refused != nil {
		made -= len(refused.Refused)
	}
	return made
}

func TestAGateIsExactOverTheBatchesOfOneCall(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	check := func(a sample.Appender, ls []labels.Labels, want, total int) {
		t.Helper()
		if got := resolveGated(t, a, ls); got != want {
			t.Errorf("%d series made, want %d", got, want)
		}
		if got := db.SeriesWith("", ""); got != total {
			t.Errorf("%d series there, want %d", got, total)
		}
	}
	all := ofJobs(3*createBatch, 3)
	db.SetGate(mostPer{"job", 700})
	check(db, all, 2100, 2100)
	for i := range 3 {
		if got := db.SeriesWith("job", fmt.Sprintf("j%d", i)); got != 700 {
			t.Errorf("job %d has %d series, want 700", i, got)
		}
	}
	check(db, all[:2100], 2100, 2100) // those that are there are not asked about
	check(db, all, 2100, 2100)
	db.SetGate(mostPer{"", 2105})
	check(db, all, 2105, 2105)
	check(db.Ungated(), all[2990:], 10, 2115)
	check(db, all, 2115, 2115)
	db.SetGate(nil)
	check(db, all, 3000, 3000)
	if top := db.TopValues("job", 2); len(top) != 2 || top[0].Value != 1000 || top[0].Name != "j0" || top[1].Name != "j1" {
		t.Errorf("the values with the most series are %v", top)
	}
	if n := db.SeriesWith("job", "other") + db.SeriesWith("other", "j0"); n != 0 {
		t.Errorf("%d series with labels that nobody has", n)
	}
}

func TestAGateIsExactWhereManyComeAtOnce(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	db.SetGate(mostPer{"", 500})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				ls := make([]labels.Labels, 10)
				for k := range ls {
					ls[k] = labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprintf("%d-%d-%d", w, i, k))
				}
				resolveGated(t, db, ls)
			}
		})
	}
	wg.Wait()
	if n := db.SeriesWith("", ""); n != 500 {
		t.Errorf("%d series, want 500", n)
	}
}

// Series that have left the head make room for others.
func TestSeriesThatLeaveAreNotCounted(t *testing.T) {
	now := time.Now()
	o := small(fsx.NewCrashable())
	o.Now = func() time.Time { return now }
	db := openTest(t, o)
	db.SetGate(mostPer{"job", 10})
	old := ofJobs(10, 1)
	ts := now.UnixMilli()
	commit(t, db, old, ts, func(i int) float64 { return float64(i) })
	fresh := []labels.Labels{labels.FromStrings(labels.MetricName, "fresh", "job", "j0")}
	if made := resolveGated(t, db, fresh); made != 0 {
		t.Fatal("the eleventh series was made")
	}
	now = now.Add(10 * time.Minute)
	other := []labels.Labels{labels.FromStrings(labels.MetricName, "other", "job", "j1")}
	commit(t, db, other, now.UnixMilli(), func(int) float64 { return 1 })
	if err := db.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := db.SeriesWith("job", "j0"); n != 0 {
		t.Fatalf("%d series with samples in a block alone are counted", n)
	}
	if made := resolveGated(t, db, fresh); made != 1 {
		t.Error("no room was made by the series that left")
	}
}

func TestAScrapeGoesOnWithoutTheSeriesThatAreRefused(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	db.SetGate(mostPer{"", 3})
	for _, ts := range []int64{1000, 2000} {
		app := db.Storage().AppenderV2(t.Context())
		for i, ls := range ofJobs(5, 1) {
			ref, err := app.Append(0, ls, 0, ts, float64(i), nil, nil, storage.AOptions{})
			if err != nil || (ref == 0) != (i >= 3) {
				t.Errorf("series %d: ref %d, %v", i, ref, err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if s := db.Stats(); s.Head.Held != 6 || s.Head.Series != 3 {
		t.Errorf("%d samples of %d series, want 6 of 3", s.Head.Held, s.Head.Series)
	}
}
