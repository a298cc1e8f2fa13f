// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// Options are fixed for the life of a Notifier.
type Options struct {
	// QueueCapacity is how many different alerts wait for one Alertmanager at most; default 10000.
	QueueCapacity int
	// MaxBatchSize is how many alerts one request carries at most; default 256.
	MaxBatchSize int
	// DropOnShutdown gives up what is queued when the Notifier stops, instead of one last try.
	DropOnShutdown bool
	// Shadow lets nothing leave the process.
	Shadow bool

	// FS and StateDir say where the embedded Alertmanager keeps what it has sent and what is silenced; an
	// empty StateDir keeps nothing, and a restart notifies again.
	FS       fsx.FS
	StateDir string

	// Version is ours, for the User-Agent of requests.
	Version string
	// ExternalURL is what links in notifications begin with.
	ExternalURL *url.URL
	// Timing of webhooks; zero fields have defaults, see WebhookTiming.
	Timing WebhookTiming

	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // nil: metrics are kept but not exposed
}

const (
	defaultQueueCapacity = 10000
	defaultMaxBatchSize  = 256
)

// Config is the part of the configuration that a reload may change.
type Config struct {
	Alertmanagers  config.AlertmanagerConfigs
	Relabel        []*relabel.Config // alert_relabel_configs
	ExternalLabels labels.Labels
	Webhooks       []Webhook
	// NameValidation is for relabelling rules that do not say; default UTF-8.
	NameValidation model.ValidationScheme
}

// DiscoveryConfigs returns what a discovery manager is to be configured with so that Run understands its
// updates.
func (c *Config) DiscoveryConfigs() map[string]discovery.Configs {
	out := make(map[string]discovery.Configs, len(c.Alertmanagers))
	for name, am := range c.Alertmanagers.ToMap() {
		out[name] = am.ServiceDiscoveryConfigs
	}
	return out
}

// Notifier delivers alerts. It implements rules.Notifier.
type Notifier struct {
	opts     Options
	metrics  *metrics
	embedded *embedded // nil in shadow mode

	applying sync.Mutex // one Apply at a time

	mu struct {
		sync.RWMutex
		config  Config
		sets    map[string]*amSet // by the discovery's name of the configuration
		stopped bool
	}
	stop    chan struct{}
	once    sync.Once
	senders sync.WaitGroup
}

var _ rules.Notifier = (*Notifier)(nil)

// New returns a Notifier that knows no receivers yet.
func New(o Options) (*Notifier, error) {
	if o.QueueCapacity <= 0 {
		o.QueueCapacity = defaultQueueCapacity
	}
	if o.MaxBatchSize <= 0 {
		o.MaxBatchSize = defaultMaxBatchSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ExternalURL == nil {
		o.ExternalURL = &url.URL{}
	}
	if o.StateDir != "" && o.FS == nil {
		return nil, errors.New("notify: Options.StateDir needs Options.FS")
	}
	n := &Notifier{opts: o, stop: make(chan struct{})}
	var err error
	if n.metrics, err = newMetrics(o.Registerer, func() float64 { return float64(len(n.Alertmanagers())) }); err != nil {
		return nil, err
	}
	n.metrics.queueCapacity.Set(float64(o.QueueCapacity))
	if !o.Shadow {
		if n.embedded, err = newEmbedded(&n.opts); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Check returns everything that Apply would find wrong with c, and changes nothing.
func (n *Notifier) Check(c Config) error {
	errs := []error{checkWebhooks(c.Webhooks)}
	for name, cfg := range c.Alertmanagers.ToMap() {
		if _, err := newAMSet(cfg, n, model.UTF8Validation); err != nil {
			errs = append(errs, fmt.Errorf("alertmanagers: %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Apply makes c the configuration. On an error everything stays as it was. A set of Alertmanagers whose
// configuration is unchanged keeps its queues; what waits in the queues of others is tried once more.
func (n *Notifier) Apply(c Config) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	if c.NameValidation == model.UnsetValidation {
		c.NameValidation = model.UTF8Validation
	}
	c.Relabel = withNameValidation(c.Relabel, c.NameValidation)
	if err := checkWebhooks(c.Webhooks); err != nil {
		return err // in shadow mode too: it is there to find such mistakes
	}
	n.mu.RLock()
	old, stopped := n.mu.sets, n.mu.stopped
	n.mu.RUnlock()
	if stopped {
		return nil
	}
	sets, err := n.newSets(&c, old)
	if err != nil {
		return err
	}
	if n.embedded != nil {
		if err := n.embedded.apply(c.Webhooks); err != nil {
			return err
		}
	}
	n.mu.Lock()
	n.mu.config, n.mu.sets = c, sets
	n.mu.Unlock()
	kept := make(map[*amSet]bool, len(sets))
	for _, s := range sets {
		kept[s] = true
		s.start()
	}
	for _, s := range old {
		if !kept[s] {
			s.sync(nil)
		}
	}
	return nil
}

// newSets returns a set for every Alertmanager configuration of c, taking over those of old that are the same.
func (n *Notifier) newSets(c *Config, old map[string]*amSet) (map[string]*amSet, error) {
	sets := make(map[string]*amSet)
	taken := make(map[*amSet]bool)
	for name, cfg := range c.Alertmanagers.ToMap() {
		var same, alike *amSet
		for _, s := range old {
			if taken[s] {
				continue
			}
			if s.sameConfig(cfg) {
				same = s
			}
			if s.sameDiscovery(cfg) && len(s.currentGroups()) > 0 {
				alike = s
			}
		}
		if same != nil {
			taken[same] = true
			sets[name] = same
			continue
		}
		s, err := newAMSet(cfg, n, c.NameValidation)
		if err != nil {
			return nil, fmt.Errorf("alertmanagers: %s: %w", name, err)
		}
		if alike != nil {
			s.groups = alike.currentGroups() // the discovery sees no change and sends no update
		}
		sets[name] = s
	}
	return sets, nil
}

// Run follows the discovery of Alertmanagers until ctx is done or Stop is called, sends what is queued, and
// returns when all senders have ended. A nil channel is a server without discovery. It is called once.
func (n *Notifier) Run(ctx context.Context, discovered <-chan map[string][]*targetgroup.Group) error {
	var state sync.WaitGroup
	stateDone := make(chan struct{})
	if n.embedded != nil {
		state.Go(func() { n.embedded.keepState(stateDone) })
	}
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-n.stop:
			done = true
		case groups, ok := <-discovered:
			if !ok {
				discovered = nil // the discovery has ended; Stop has the word
				continue
			}
			n.discover(groups)
		}
	}
	n.end()
	n.senders.Wait()
	if n.embedded != nil {
		n.embedded.close()
	}
	close(stateDone)
	state.Wait()
	return nil
}

// Stop makes Run end. Alerts that come afterwards are not taken: stop the rules first.
func (n *Notifier) Stop() { n.once.Do(func() { close(n.stop) }) }

// end stops all senders and refuses new alerts.
func (n *Notifier) end() {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.mu.Lock()
	n.mu.stopped = true
	sets := n.mu.sets
	n.mu.Unlock()
	for _, s := range sets {
		s.end()
	}
}

func (n *Notifier) discover(groups map[string][]*targetgroup.Group) {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.mu.RLock()
	sets := n.mu.sets
	n.mu.RUnlock()
	for name, g := range groups {
		if s := sets[name]; s != nil { // an update from before a reload may name one that is gone
			s.sync(g)
		}
	}
}

// Notify queues alerts for every receiver.
func (n *Notifier) Notify(ctx context.Context, alerts []rules.Notification) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.mu.stopped {
		return
	}
	alerts = relabelAlerts(n.mu.config.Relabel, n.mu.config.ExternalLabels, alerts)
	if len(alerts) == 0 {
		return
	}
	if n.opts.Shadow {
		n.metrics.shadowed.Add(float64(len(alerts)))
		return
	}
	for _, s := range n.mu.sets {
		s.send(alerts)
	}
	n.embedded.put(ctx, alerts)
}

// Alertmanagers returns the addresses that alerts are sent to.
func (n *Notifier) Alertmanagers() []*url.URL { return n.urls((*amSet).active) }

// DroppedAlertmanagers returns the discovered addresses that relabelling dropped.
func (n *Notifier) DroppedAlertmanagers() []*url.URL { return n.urls((*amSet).dropped) }

func (n *Notifier) urls(of func(*amSet) []*url.URL) []*url.URL {
	n.mu.RLock()
	sets := n.mu.sets
	n.mu.RUnlock()
	var out []*url.URL
	for i := range len(sets) {
		if s := sets[fmt.Sprintf("config-%d", i)]; s != nil {
			out = append(out, of(s)...)
		}
	}
	return out
}

// shutdownTimeout bounds the last try of a sender whose configuration sets a long timeout.
const shutdownTimeout = 30 * time.Second
