// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// FillerOptions of a Filler. Logger may be nil.
type FillerOptions struct {
	Engine   promql.QueryEngine
	Appender sample.Appender // the store that Engine reads
	Parser   parser.Parser
	Logger   *slog.Logger
}

// Filler fills recording rules in over ranges of the past, one job after the other and half of the time idle, so that
// there is room for others. It is safe for concurrent use; each job that runs or waits has a goroutine, which Close ends.
type Filler struct {
	o       FillerOptions
	ctx     context.Context //nolint:containedctx // the life of the jobs, which outlive the requests that begin them
	end     context.CancelFunc
	running sync.WaitGroup
	turn    chan struct{}

	mu struct {
		sync.Mutex
		last   int64
		closed bool
		jobs   []*job // the oldest first
	}
}

// Job is a range that is filled in, or was.
type Job struct {
	ID       string     `json:"id"`
	What     string     `json:"what"` // such as the files whose rules they are
	Start    time.Time  `json:"start"`
	End      time.Time  `json:"end"`
	State    JobState   `json:"state"`
	Progress float64    `json:"progress"` // from 0 to 1
	Begun    time.Time  `json:"begun"`
	Ended    *time.Time `json:"ended,omitempty"`
	Filled   *Filled    `json:"filled,omitempty"` // once it has ended
	Error    string     `json:"error,omitempty"`
}

// JobState is how far a job is.
type JobState string

// The states of a job.
const (
	JobWaiting  JobState = "waiting"
	JobRunning  JobState = "running"
	JobDone     JobState = "done"
	JobFailed   JobState = "failed"
	JobCanceled JobState = "canceled"
)

type job struct {
	Job
	cancel context.CancelFunc
}

const (
	maxJobs     = 16 // that wait or run
	keepJobs    = 50 // listed, those that have ended included
	longestRest = time.Second
)

// Errors of Begin.
var (
	ErrTooManyJobs = errors.New("too many jobs are waiting: try again when one has ended")
	ErrClosed      = errors.New("the server stops")
)

// NewFiller returns a Filler without jobs.
func NewFiller(o FillerOptions) *Filler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Filler{o: o, turn: make(chan struct{}, 1)}
	f.ctx, f.end = context.WithCancel(context.Background())
	return f
}

// Begin makes a job of the recording rules of c and returns it. What says in a few words what it is.
func (f *Filler) Begin(what string, c rules.Config, start, end time.Time) (Job, error) {
	if err := checkRange(start, end); err != nil {
		return Job{}, err
	}
	c.OnlyRecording = true
	if err := rules.Check(c, rules.Options{Parser: f.o.Parser}); err != nil {
		return Job{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		return Job{}, ErrClosed
	}
	active := 0
	for _, j := range f.mu.jobs {
		if j.Ended == nil {
			active++
		}
	}
	if active >= maxJobs {
		return Job{}, ErrTooManyJobs
	}
	f.mu.last++
	j := &job{Job: Job{
		ID: strconv.FormatInt(f.mu.last, 10), What: what, Start: start.UTC(), End: end.UTC(), State: JobWaiting, Begun: time.Now().UTC(),
	}}
	ctx, cancel := context.WithCancel(f.ctx)
	j.cancel = cancel
	f.mu.jobs = append(f.mu.jobs, j)
	f.forget()
	f.running.Go(func() {
		defer cancel()
		f.run(ctx, j, c)
	})
	return j.Job, nil
}

// forget drops the oldest jobs that have ended.
func (f *Filler) forget() {
	for i := 0; i < len(f.mu.jobs) && len(f.mu.jobs) > keepJobs; {
		if f.mu.jobs[i].Ended == nil {
			i++
			continue
		}
		f.mu.jobs = slices.Delete(f.mu.jobs, i, i+1)
	}
}

// run does a job in its turn.
func (f *Filler) run(ctx context.Context, j *job, c rules.Config) {
	var filled *Filled
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case f.turn <- struct{}{}:
		f.change(func() { j.State = JobRunning })
		filled, err = Fill(ctx, FillOptions{
			Rules: c, Start: j.Start, End: j.End, Engine: f.o.Engine, Appender: f.o.Appender, Parser: f.o.Parser, Pause: rest,
			Progress: func(done float64) { f.change(func() { j.Progress = done }) },
		})
		<-f.turn
	}
	f.change(func() {
		now := time.Now().UTC()
		j.Ended, j.Filled, j.State, j.Progress = &now, filled, JobDone, 1
		if err != nil {
			j.State, j.Error = JobFailed, err.Error()
		}
		if ctx.Err() != nil {
			j.State = JobCanceled
		}
	})
	f.o.Logger.Info("recording rules filled in", "what", j.What, "start", j.Start, "end", j.End, "state", j.State, "filled", filled, "err", err)
}

// rest lets others work as long as an evaluation took.
func rest(ctx context.Context, took time.Duration) {
	t := time.NewTimer(min(took, longestRest))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (f *Filler) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

// Jobs returns the jobs, the oldest first; of those that have ended the last ones.
func (f *Filler) Jobs() []Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Job, len(f.mu.jobs))
	for i, j := range f.mu.jobs {
		out[i] = j.Job
	}
	return out
}

// Cancel ends a job and reports whether it was waiting or running. What it has stored stays.
func (f *Filler) Cancel(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.mu.jobs {
		if j.ID == id && j.Ended == nil {
			j.cancel()
			return true
		}
	}
	return false
}

// Close ends all jobs and returns when they have.
func (f *Filler) Close() {
	f.change(func() { f.mu.closed = true })
	f.end()
	f.running.Wait()
}
