// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/rules"
)

const (
	// dataRetention is how long it is remembered what was sent and silenced, as in Alertmanager.
	dataRetention = 120 * time.Hour
	// collectEvery is how often what is older is removed.
	collectEvery = 15 * time.Minute
	// stopGrace is how long a request under way may take when the dispatcher stops.
	stopGrace = 2 * time.Second
	// alertGCInterval is how often resolved alerts are forgotten, as in Alertmanager.
	alertGCInterval = 30 * time.Minute
)

// embedded is the part of an Alertmanager that this process runs: what stays through reloads, and the part that
// a reload replaces. It does not exist before there is something to route to.
type embedded struct {
	opts     *Options
	registry prometheus.Registerer
	logger   *slog.Logger
	template *template.Template

	log       *nflog.Log
	silences  *silence.Silences
	silencer  *silence.Silencer
	marker    marker.GroupMarker
	pipeline  *amnotify.PipelineBuilder
	dispatchM *dispatch.DispatcherMetrics
	state     *stateFiles

	mu struct {
		sync.RWMutex
		alerts     *mem.Alerts // nil while nothing is routed
		inhibitor  *inhibit.Inhibitor
		dispatcher *dispatch.Dispatcher
		hooks      []Webhook
		flights    *flights
		runners    *sync.WaitGroup // of the dispatcher and the inhibitor
		closed     bool
	}
}

func newEmbedded(o *Options) (*embedded, error) {
	reg := o.Registerer
	if reg == nil {
		reg = prometheus.NewRegistry() // the libraries require one
	}
	tmpl, err := template.FromGlobs(nil)
	if err != nil {
		return nil, fmt.Errorf("embedded alertmanager: templates: %w", err)
	}
	tmpl.ExternalURL = o.ExternalURL
	e := &embedded{
		opts: o, registry: reg, logger: o.Logger.With("component", "alertmanager"), template: tmpl,
		marker:    marker.NewGroupMarker(),
		pipeline:  amnotify.NewPipelineBuilder(reg, featurecontrol.NoopFlags{}, eventrecorder.Recorder{}),
		dispatchM: dispatch.NewDispatcherMetrics(false, reg, featurecontrol.NoopFlags{}),
	}
	if e.state, err = newStateFiles(o, e.logger); err != nil {
		return nil, fmt.Errorf("embedded alertmanager: %w", err)
	}
	if err := e.openState(); err != nil {
		return nil, fmt.Errorf("embedded alertmanager: %w", err)
	}
	e.silencer = silence.NewSilencer(e.silences, e.logger, eventrecorder.Recorder{})
	return e, nil
}

// apply makes hooks the receivers. Nothing changes on an error.
func (e *embedded) apply(hooks []Webhook) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed || (e.mu.dispatcher != nil || len(hooks) == 0) && slices.Equal(hooks, e.mu.hooks) {
		return nil
	}
	r, err := webhookRouting(hooks, e.opts.Timing, e.template, e.logger)
	if err != nil {
		return err
	}
	if e.mu.alerts == nil {
		e.mu.alerts, err = mem.NewAlerts(context.Background(), alertGCInterval, 0, e.silencer, e.logger,
			eventrecorder.Recorder{}, e.registry, featurecontrol.NoopFlags{})
		if err != nil {
			return fmt.Errorf("embedded alertmanager: %w", err)
		}
	}
	e.stopRoutingLocked()
	e.mu.hooks = slices.Clone(hooks)
	if len(hooks) > 0 {
		e.startRoutingLocked(r)
	}
	return nil
}

// startRoutingLocked starts a dispatcher on r. It begins with the alerts that are known.
func (e *embedded) startRoutingLocked(r *routing) {
	inhibitor := inhibit.NewInhibitor(e.mu.alerts, nil, e.logger, eventrecorder.Recorder{})
	pipeline := e.pipeline.New(r.receivers, func() time.Duration { return 0 }, inhibitor, e.silencer,
		timeinterval.NewIntervener(nil), e.marker, e.log, nil)
	e.mu.flights = newFlights()
	dispatcher := dispatch.NewDispatcher(e.mu.alerts, dispatch.NewRoute(r.route, nil), e.mu.flights.stage(pipeline), e.marker,
		func(d time.Duration) time.Duration { return max(d, amnotify.MinTimeout) },
		collectEvery, nil, e.logger, eventrecorder.Recorder{}, e.dispatchM, e.template)
	e.mu.inhibitor, e.mu.dispatcher, e.mu.runners = inhibitor, dispatcher, &sync.WaitGroup{}
	e.mu.runners.Go(inhibitor.Run)
	inhibitor.WaitForLoading()
	e.mu.runners.Go(func() { dispatcher.Run(time.Now()) })
	dispatcher.WaitForLoading()
}

// flights are the notifications under way. When the dispatcher stops, they get stopGrace to come to their end:
// what a receiver has taken but the log does not know would be sent again after a restart or a reload.
type flights struct {
	mu     sync.Mutex
	n      int
	closed bool
	landed chan struct{} // closed when closed and none is under way
}

func newFlights() *flights { return &flights{landed: make(chan struct{})} }

func (f *flights) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.n++
	}
	return !f.closed
}

func (f *flights) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.closed && f.n == 0 {
		close(f.landed)
	}
}

// close lets none begin any more and waits for those under way.
func (f *flights) close() {
	f.mu.Lock()
	if f.closed = true; f.n == 0 {
		close(f.landed)
	}
	f.mu.Unlock()
	<-f.landed
}

// stage runs inner as a flight: not cancelled with its context at once, but after stopGrace.
func (f *flights) stage(inner amnotify.Stage) amnotify.Stage {
	return amnotify.StageFunc(func(ctx context.Context, l *slog.Logger, alerts ...*alert.Alert) (context.Context, []*alert.Alert, error) {
		if !f.begin() {
			return ctx, nil, context.Canceled
		}
		defer f.end()
		longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		stop := context.AfterFunc(ctx, func() {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				cancel()
				return
			}
			time.AfterFunc(stopGrace, cancel)
		})
		defer stop()
		return inner.Exec(longer, l, alerts...)
	})
}

func (e *embedded) stopRoutingLocked() {
	if e.mu.dispatcher == nil {
		return
	}
	e.mu.inhibitor.Stop()
	e.mu.dispatcher.Stop()
	e.mu.runners.Wait()
	e.mu.flights.close() // the dispatcher does not wait for its groups
	e.mu.inhibitor, e.mu.dispatcher = nil, nil
}

// put hands alerts to the dispatcher.
func (e *embedded) put(ctx context.Context, alerts []rules.Notification) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.mu.dispatcher == nil {
		return
	}
	now := time.Now()
	out := make([]*alert.Alert, 0, len(alerts))
	for _, a := range alerts {
		n := &alert.Alert{UpdatedAt: now, Alert: model.Alert{
			Labels: labelSet(a.Labels), Annotations: labelSet(a.Annotations),
			StartsAt: a.StartsAt, EndsAt: a.EndsAt, GeneratorURL: a.GeneratorURL,
		}}
		if err := n.Validate(); err != nil {
			e.logger.Error("an alert cannot be delivered", "alert", a.Labels.String(), "err", err)
			continue
		}
		out = append(out, n)
	}
	if err := e.mu.alerts.Put(ctx, out...); err != nil {
		e.logger.Error("alerts were not taken", "count", len(out), "err", err)
	}
}

// labelSet converts labels; empty ones are no labels.
func labelSet(lset labels.Labels) model.LabelSet {
	out := make(model.LabelSet, lset.Len())
	lset.Range(func(l labels.Label) {
		if l.Value != "" {
			out[model.LabelName(l.Name)] = model.LabelValue(l.Value)
		}
	})
	return out
}

// close ends the dispatcher. A request that stopGrace does not suffice for is made again after a restart.
func (e *embedded) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.closed = true
	e.stopRoutingLocked()
	if e.mu.alerts != nil {
		e.mu.alerts.Close()
	}
}
