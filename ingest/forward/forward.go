// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Options of a Forwarder. Dir and Store are required.
type Options struct {
	FS         fsx.FS // nil: the operating system's
	Dir        string // where the queue is; it is made when there is something to forward
	Store      Store
	Limits     Limits
	Account    *budget.Account       // charged for the rows that the endpoints hold in memory; nil: not accounted
	Beyond     *budget.Account       // charged, whatever its limit, for what nothing is sent without: names, a small round each
	Flush      time.Duration         // how long a stop waits for what has not been sent; 0: not at all
	Registerer prometheus.Registerer // nil: no metrics are registered
	Logger     *slog.Logger          // nil: nothing is logged
	Now        func() time.Time      // nil: time.Now
}

// Forwarder sends what the store accepts to the receivers of a configuration.
type Forwarder struct {
	o       Options
	metrics *metrics
	queue   atomic.Pointer[queue] // nil while there is nothing to forward
	arrived atomic.Int64          // items that came into the queue
	counted int64                 // of them, those that endpoints know of; of the goroutine of Run

	mu        sync.Mutex
	open      *queue               // guarded by mu: as queue, but it stays
	pushed    chan struct{}        // guarded by mu: its goroutine has ended
	endPush   context.CancelFunc   // guarded by mu
	endpoints map[string]*endpoint // guarded by mu
	stopped   bool                 // guarded by mu
	config    *promconfig.Config   // guarded by mu: the one in force
	revive    time.Time            // guarded by mu: not before it the queue is opened anew

	refusing refusing
}

// New returns a Forwarder without receivers.
func New(o Options) (*Forwarder, error) {
	if o.FS == nil {
		o.FS = fsx.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of remote write: %w", err)
	}
	return &Forwarder{o: o, metrics: m, endpoints: map[string]*endpoint{}}, nil
}

// Wants reports whether there is somebody to send to.
func (f *Forwarder) Wants() bool { return f.queue.Load() != nil }

// Told returns the LSN of the store up to which the queue has what was accepted. What comes after it must be told again.
func (f *Forwarder) Told() sample.LSN {
	q := f.queue.Load()
	if q == nil {
		return f.o.Store.LastLSN()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.told.Store
}

// Accepted puts the rows of a batch into the queue that its commit accepted, which has the number lsn in the log of the
// store. It copies them. Where the queue has no room they are counted and not sent: the store has them all the same.
func (f *Forwarder) Accepted(lsn sample.LSN, b *sample.Batch, r *sample.Result) {
	q := f.queue.Load()
	if q == nil {
		return
	}
	n, newest, err := q.append(lsn, b, r)
	if err != nil {
		f.refused(err, b.Len())
		return
	}
	f.took()
	f.metrics.told(n, newest)
	f.arrived.Add(int64(n.sum()))
}

// Keep returns when the disk has what was accepted, unless it cannot; the error is that of ctx.
func (f *Forwarder) Keep(ctx context.Context) error {
	if q := f.queue.Load(); q != nil {
		return q.keep(ctx)
	}
	return nil
}

// ApplyConfig makes the receivers those of a configuration. Those that stay as they were go on; one that is new begins
// with what comes now. On an error nothing has changed.
func (f *Forwarder) ApplyConfig(cfg *promconfig.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return errors.New("remote write has been stopped")
	}
	if err := f.applyLocked(cfg); err != nil {
		return err
	}
	f.config = cfg
	return nil
}

func (f *Forwarder) applyLocked(cfg *promconfig.Config) error {
	want, err := f.endpointsOf(cfg)
	if err != nil {
		return err
	}
	if err := f.readyLocked(len(want) > 0); err != nil || f.open == nil {
		return err
	}
	for key := range want {
		if err := f.open.attach(key); err != nil {
			f.keepOnly(f.endpoints)
			return err
		}
	}
	for key, old := range f.endpoints {
		if e := want[key]; e != nil && old.same(e) {
			want[key] = old
			continue
		}
		f.stop(old)
		if e := want[key]; e == nil || e.config.URL.Redacted() != old.config.URL.Redacted() {
			f.metrics.forget(key, old.config.URL.Redacted())
		}
		delete(f.endpoints, key)
	}
	for key, e := range want {
		if f.endpoints[key] == nil {
			f.start(e)
		}
	}
	f.keepOnly(want)
	if len(want) == 0 {
		f.queue.Store(nil)
		return nil
	}
	f.queue.Store(f.open)
	return nil
}

// readyLocked opens the queue where there is one, or somebody to send to.
func (f *Forwarder) readyLocked(wanted bool) error {
	switch {
	case f.open == nil && (wanted || f.leftBehind()):
		return f.openLocked()
	case f.open != nil && wanted && f.queue.Load() == nil:
		return f.open.tellUpTo(f.o.Store.LastLSN()) // what came since it was wanted last is for nobody
	}
	return nil
}

// keepOnly forgets the positions of all other endpoints.
func (f *Forwarder) keepOnly(endpoints map[string]*endpoint) {
	keys := map[string]bool{}
	for key := range endpoints {
		keys[key] = true
	}
	f.open.keepOnly(keys)
}

// leftBehind reports whether a queue of earlier runs is there.
func (f *Forwarder) leftBehind() bool {
	_, err := f.o.FS.Stat(path.Join(f.o.Dir, positionsFile))
	return err == nil
}

func (f *Forwarder) openLocked() error {
	q, err := openQueue(f.o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.open, f.endPush, f.pushed = q, cancel, make(chan struct{})
	go func() {
		defer close(f.pushed)
		q.push(ctx)
	}()
	return nil
}

// endpointsOf returns the receivers of a configuration, which do nothing yet.
func (f *Forwarder) endpointsOf(cfg *promconfig.Config) (map[string]*endpoint, error) {
	out := map[string]*endpoint{}
	for _, c := range cfg.RemoteWriteConfigs {
		key := c.Name
		if key == "" {
			key = c.URL.Redacted()
		}
		for url, n := key, 2; out[key] != nil; n++ {
			key = fmt.Sprintf("%s#%d", url, n)
		}
		client, err := remote.NewWriteClient(key, &remote.ClientConfig{
			URL: c.URL, Timeout: c.RemoteTimeout, HTTPClientConfig: c.HTTPClientConfig, SigV4Config: c.SigV4Config,
			AzureADConfig: c.AzureADConfig, GoogleIAMConfig: c.GoogleIAMConfig, Headers: c.Headers,
			RetryOnRateLimit: c.QueueConfig.RetryOnRateLimit, WriteProtoMsg: c.ProtobufMessage, RoundRobinDNS: c.RoundRobinDNS,
		})
		if err != nil {
			return nil, fmt.Errorf("remote_write to %s: %w", key, err)
		}
		out[key] = &endpoint{
			key: key, config: c, external: cfg.GlobalConfig.ExternalLabels, client: client,
			metrics: f.metrics.of(key, c.URL.Redacted()), log: f.o.Logger.With("remote_name", key, "url", c.URL.Redacted()), now: f.o.Now,
			sharding: newSharding(&c.QueueConfig), room: newRoom(f.o.Account.Child("remote write to "+key, 0), f.o.Beyond.Child("remote write to "+key, 0)), done: make(chan struct{}),
		}
	}
	return out, nil
}

// start lets an endpoint run, which has a position.
func (f *Forwarder) start(e *endpoint) {
	e.queue = f.open
	q, url := &e.config.QueueConfig, e.config.URL.Redacted()
	f.metrics.shardsMax.WithLabelValues(e.key, url).Set(float64(q.MaxShards))
	f.metrics.shardsMin.WithLabelValues(e.key, url).Set(float64(q.MinShards))
	f.metrics.capacity.WithLabelValues(e.key, url).Set(float64(max(q.Capacity, q.MaxSamplesPerSend)))
	e.metrics.shards.Set(float64(e.sharding.shards()))
	e.caught.when = f.o.Now()
	f.metrics.perSend.WithLabelValues(e.key, url).Set(float64(q.MaxSamplesPerSend))
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	f.endpoints[e.key] = e
	go e.run(ctx, f.open.positionOf(e.key))
}

// stop ends an endpoint. What it has not sent waits.
func (f *Forwarder) stop(e *endpoint) {
	e.cancel()
	<-e.done
}

// Run keeps the queue within its limits until ctx is done. Then it waits for what has not been sent, for a while, and ends
// all endpoints. What is left, and what is accepted still until Close, is sent after the next start.
func (f *Forwarder) Run(ctx context.Context) error {
	tick := time.NewTicker(positionsEvery)
	defer tick.Stop()
	shards := time.NewTicker(shardsEvery)
	defer shards.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			f.maintain()
		case <-shards.C:
			f.reshard()
		}
	}
	f.flush(tick.C)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked()
	return nil
}

// endLocked ends all endpoints; there will be no others.
func (f *Forwarder) endLocked() {
	f.stopped = true
	for _, e := range f.endpoints {
		f.stop(e)
	}
	clear(f.endpoints)
}

// SetLimits changes what may wait.
func (f *Forwarder) SetLimits(l Limits) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.o.Limits = l
	if f.open != nil {
		f.open.setLimits(l)
	}
}

// Close closes the queue. Nothing that is committed later is sent.
func (f *Forwarder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked()
	f.queue.Store(nil)
	if f.open == nil {
		return nil
	}
	return f.closeQueueLocked()
}

// maintain writes positions and cuts the queue.
func (f *Forwarder) maintain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.reviveLocked() {
		return
	}
	first, cut, err := f.open.maintain()
	if err != nil {
		f.o.Logger.Error("the positions of remote write could not be written: after a crash samples are sent again", "err", err)
	}
	if cut > 0 {
		f.metrics.cut.Add(float64(cut))
		f.o.Logger.Error("the queue of remote write was cut: samples were removed unsent", "samples", cut,
			"next_step", "look at the receivers, or raise remote_write_queue.max_size and max_age")
	}
	for _, e := range f.endpoints {
		e.cutTo(first)
		e.follow(f.o.Now(), f.metrics.newestT.Load())
	}
}

// reshard looks at how many requests each endpoint makes side by side.
func (f *Forwarder) reshard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	arrived := f.arrived.Load()
	for _, e := range f.endpoints {
		e.sharding.in.events.Add(arrived - f.counted)
		e.reshard()
	}
	f.counted = arrived
}

// flush waits until what there is now is sent, at most as long as it may.
func (f *Forwarder) flush(tick <-chan time.Time) {
	f.mu.Lock()
	q := f.open
	f.mu.Unlock()
	if q == nil {
		return
	}
	last := q.journal.Last()
	for end := time.Now().Add(f.o.Flush); time.Now().Before(end) && q.behind(last); {
		<-tick
	}
}
