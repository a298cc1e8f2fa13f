// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// slowAppender commits once it may.
type slowAppender struct {
	sample.Appender
	may chan struct{}
}

func (s slowAppender) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	<-s.may
	return s.Appender.Commit(ctx, b, r)
}

func awaitJob(t *testing.T, f *Filler, id string, state JobState) Job {
	t.Helper()
	for range 1000 {
		for _, j := range f.Jobs() {
			if j.ID == id && j.State == state {
				return j
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("job %s is not %s: %+v", id, state, f.Jobs())
	return Job{}
}

func TestJobsFillInOneAfterTheOther(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "load"), func(i int) float64 { return float64(i) })
	o := fillOptions(t, db, "")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	may := make(chan struct{})
	f := NewFiller(FillerOptions{Engine: o.Engine, Appender: slowAppender{db, may}, Parser: o.Parser})
	rule := func(name string) rules.Config {
		text := fmt.Sprintf("groups: [{name: g, interval: 1m, rules: [{record: %s, expr: load}]}]", name)
		return rules.Config{Files: []string{"f"}, Read: func(string) ([]byte, error) { return []byte(text), nil }}
	}
	begin := func(name string) Job {
		t.Helper()
		j, err := f.Begin(name, rule(name), start, start.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	first := begin("first")
	awaitJob(t, f, first.ID, JobRunning)
	second, third := begin("second"), begin("third")
	if second.State != JobWaiting || second.ID == first.ID {
		t.Errorf("%+v", second)
	}
	if !f.Cancel(third.ID) || f.Cancel("nonsense") {
		t.Error("a waiting job can be cancelled, and one that is not there cannot")
	}
	awaitJob(t, f, third.ID, JobCanceled)
	close(may)
	if j := awaitJob(t, f, first.ID, JobDone); j.Filled.Stored != 60 || j.Progress != 1 || j.Ended == nil || j.What != "first" {
		t.Errorf("%+v, %+v", j, j.Filled)
	}
	if j := awaitJob(t, f, second.ID, JobDone); j.Filled.Stored != 60 {
		t.Errorf("%+v, %+v", j, j.Filled)
	}
	if f.Cancel(first.ID) {
		t.Error("a job that has ended was cancelled")
	}
	if _, err := f.Begin("", rule("{"), start, start.Add(time.Hour)); err == nil {
		t.Error("bad rules were taken")
	}
	if _, err := f.Begin("", rule("x"), start, start); err == nil {
		t.Error("an empty range was taken")
	}
	f.Close()
	if _, err := f.Begin("", rule("x"), start, start.Add(time.Hour)); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestJobsAreBoundedAndEndWithTheFiller(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "load"), func(i int) float64 { return float64(i) })
	o := fillOptions(t, db, "groups: [{name: g, interval: 1s, rules: [{record: r, expr: load}]}]")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := NewFiller(FillerOptions{Engine: o.Engine, Appender: db, Parser: o.Parser})
	for i := range maxJobs + 1 {
		_, err := f.Begin("", o.Rules, start, start.Add(time.Hour))
		if i < maxJobs && err != nil {
			t.Fatal(err)
		}
		if i == maxJobs && !errors.Is(err, ErrTooManyJobs) {
			t.Errorf("one too many: %v", err)
		}
	}
	f.Close()
	for _, j := range f.Jobs() {
		if j.Ended == nil || (j.State != JobCanceled && j.State != JobDone) {
			t.Errorf("%+v", j)
		}
	}
}
