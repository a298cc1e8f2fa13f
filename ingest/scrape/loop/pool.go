// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	commonconfig "github.com/prometheus/common/config"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"

	"github.com/tidemarkdb/tidemark/ingest"
)

// shared is what the pools of Jobs have in common.
type shared struct {
	intake   *ingest.Intake
	options  promscrape.Options
	metrics  *metrics
	told     *told
	readers  *readers
	rounds   *sync.Pool
	truncate *atomic.Bool
	hashSeed uint64
}

// Pool is the loops of one job.
type Pool struct {
	*shared

	logger *slog.Logger
	seed   uint64          // of the offsets of targets
	ctx    context.Context // ends with the pool
	end    context.CancelFunc
	loops  sync.WaitGroup

	change sync.Mutex // held while loops come and go; taken before mu

	mu struct {
		sync.Mutex
		config       *promconfig.ScrapeConfig
		client       *http.Client
		sockets      map[string]*http.Client
		active       map[uint64]*Loop
		dropped      []*promscrape.Target
		droppedCount int
		failures     slog.Handler
	}
}

func newPool(s *shared, cfg *promconfig.ScrapeConfig, seed uint64, logger *slog.Logger) (*Pool, error) {
	client, err := poolClient(cfg, s.options.HTTPClientOptions)
	if err != nil {
		return nil, err
	}
	p := &Pool{shared: s, logger: logger, seed: seed}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.mu.config, p.mu.client, p.mu.active = cfg, client, map[uint64]*Loop{}
	p.metrics.targetLimit.WithLabelValues(cfg.JobName).Set(float64(cfg.TargetLimit))
	return p, nil
}

// poolClient makes the client of a job and checks what its requests will say.
func poolClient(cfg *promconfig.ScrapeConfig, options []commonconfig.HTTPClientOption) (*http.Client, error) {
	client, err := newClient(cfg, "", options)
	if err != nil {
		return nil, err
	}
	if _, err := promconfig.ToEscapingScheme(cfg.MetricNameEscapingScheme, cfg.MetricNameValidationScheme); err != nil {
		return nil, fmt.Errorf("invalid metric name escaping scheme, %w", err)
	}
	return client, nil
}

// clientLocked returns the client for a target.
func (p *Pool) clientLocked(e *endpoint) *http.Client {
	socket := e.labels.Get(promscrape.UnixSocketLabel)
	if socket == "" {
		return p.mu.client
	}
	if c := p.mu.sockets[socket]; c != nil {
		return c
	}
	c, err := newClient(p.mu.config, socket, p.options.HTTPClientOptions)
	if err != nil { // not with what made the job's client; never ask by TCP instead
		c = &http.Client{Transport: failing{fmt.Errorf("creating unix socket scrape client for %q: %w", socket, err)}}
	}
	if p.mu.sockets == nil {
		p.mu.sockets = map[string]*http.Client{}
	}
	p.mu.sockets[socket] = c
	return c
}

// newLoopLocked makes the loop of a target, with what another loop knows of it, or nothing.
func (p *Pool) newLoopLocked(e *endpoint, c *cache) *Loop {
	cfg := p.mu.config
	interval, timeout := e.times(cfg)
	if c == nil {
		c = newCache(p.hashSeed)
	}
	e.target.SetMetadataStore(&c.families)
	url := e.target.String()
	l := &Loop{
		pool: p, end: e, url: url, set: newSettings(cfg, e, &p.options), cache: c, interval: interval, timeout: timeout,
		logger: p.logger.With("target", url), stopped: make(chan struct{}),
		fetcher: fetcher{
			client: p.clientLocked(e), target: e.target, readers: p.readers, limit: int64(cfg.BodySizeLimit),
			header: newHeader(cfg, p.options.EnableZstdScrape, timeout), zstd: p.options.EnableZstdScrape,
		},
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(p.ctx)
	l.stopping = ctx.Done()
	l.logFailures(p.mu.failures)
	return l
}

// Sync makes the targets of the groups those of the job. It returns when the loops of targets that are gone have ended
// but for their markers: if a target comes back at once, nobody else writes its samples.
func (p *Pool) Sync(groups []*targetgroup.Group) {
	p.change.Lock()
	defer p.change.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	start := time.Now()
	p.mu.Lock()
	job := p.mu.config.JobName
	begun, gone := p.syncLocked(p.findLocked(groups))
	n := len(p.mu.active)
	p.mu.Unlock()
	p.metrics.symbols.WithLabelValues(job).Set(0) // labels have no table of symbols here
	p.metrics.targets.WithLabelValues(job).Set(float64(n))
	p.limitTargets()
	for _, l := range begun {
		p.loops.Go(l.run)
	}
	stopAll(gone)
	p.metrics.observeSync(job, time.Since(start))
}

// findLocked relabels targets. Those that are dropped are noted.
func (p *Pool) findLocked(groups []*targetgroup.Group) (found []*endpoint) {
	cfg := p.mu.config
	b := labels.NewBuilder(labels.EmptyLabels())
	p.mu.dropped, p.mu.droppedCount = []*promscrape.Target{}, 0
	for _, g := range groups {
		all, errs := findEndpoints(g, cfg, b)
		for _, err := range errs {
			p.logger.Error("creating target failed", "err", err)
		}
		p.metrics.syncFailed.WithLabelValues(cfg.JobName).Add(float64(len(errs)))
		for _, e := range all {
			if len(e.public) > 0 {
				found = append(found, e)
				continue
			}
			if cfg.KeepDroppedTargets == 0 || uint(len(p.mu.dropped)) < cfg.KeepDroppedTargets {
				p.mu.dropped = append(p.mu.dropped, e.target)
			}
			p.mu.droppedCount++
		}
	}
	return found
}

// syncLocked begins loops of new targets and takes away those of targets that are gone.
func (p *Pool) syncLocked(found []*endpoint) (begun, gone []*Loop) {
	there := make(map[uint64]bool, len(found))
	sockets := map[string]bool{}
	for _, e := range found {
		e.identify()
		sockets[e.labels.Get(promscrape.UnixSocketLabel)] = true
		there[e.hash] = true
		if l := p.mu.active[e.hash]; l != nil {
			l.end.target.SetScrapeConfig(p.mu.config, e.found, e.shared) // for those who look at discovered labels
			continue
		}
		l := p.newLoopLocked(e, nil)
		p.mu.active[e.hash] = l
		begun = append(begun, l)
	}
	for hash, l := range p.mu.active {
		if !there[hash] {
			gone = append(gone, l)
			delete(p.mu.active, hash)
		}
	}
	for s, c := range p.mu.sockets {
		if !sockets[s] {
			c.CloseIdleConnections()
			delete(p.mu.sockets, s)
		}
	}
	return begun, gone
}

func stopAll(loops []*Loop) {
	var wg sync.WaitGroup
	for _, l := range loops {
		wg.Go(l.stop)
	}
	wg.Wait()
}

// limitTargets lets scrapes fail where a job has more targets than it may: those of all of its targets, or, where limits
// truncate, those of the ones beyond, in the order of their URLs.
func (p *Pool) limitTargets() {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit, n := int(p.mu.config.TargetLimit), len(p.mu.active)
	var err error
	if limit > 0 && n > limit {
		p.metrics.targetLimitExceeded.Inc()
		err = fmt.Errorf("target_limit exceeded (number of targets: %d, limit: %d)", n, limit)
	}
	if err == nil || !p.truncate.Load() {
		for _, l := range p.mu.active {
			l.force(err)
		}
		return
	}
	all := make([]*Loop, 0, n)
	for _, l := range p.mu.active {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *Loop) int {
		return cmp.Or(cmp.Compare(a.url, b.url), cmp.Compare(a.end.hash, b.end.hash))
	})
	for i, l := range all {
		if i < limit {
			l.force(nil)
			continue
		}
		l.force(err)
	}
	p.metrics.truncated(p.mu.config.JobName, "target_limit", n-limit)
}

// Reload goes on with another configuration. Every loop is replaced by one that has the target's state, and, unless the
// configuration changes what series become, its cache.
func (p *Pool) Reload(cfg *promconfig.ScrapeConfig) error {
	p.change.Lock()
	defer p.change.Unlock()
	start := time.Now()
	p.metrics.reloads.Inc()
	client, err := poolClient(cfg, p.options.HTTPClientOptions)
	if err != nil {
		p.metrics.reloadsFailed.Inc()
		return err
	}
	p.mu.Lock()
	keep := sameSeries(p.mu.config, cfg)
	idle := []*http.Client{p.mu.client}
	for _, c := range p.mu.sockets {
		idle = append(idle, c)
	}
	p.mu.config, p.mu.client, p.mu.sockets = cfg, client, nil
	var old, begun []*Loop
	for hash, l := range p.mu.active {
		var c *cache
		if keep {
			c = l.cache
			l.leaveUnmarked.Store(true)
		}
		next := p.newLoopLocked(l.end, c)
		p.mu.active[hash] = next
		old, begun = append(old, l), append(begun, next)
	}
	p.mu.Unlock()
	p.metrics.targetLimit.WithLabelValues(cfg.JobName).Set(float64(cfg.TargetLimit))
	p.limitTargets()
	for i, l := range begun {
		p.loops.Go(func() {
			old[i].stop()
			l.run()
		})
	}
	stopAll(old)
	for _, c := range idle {
		c.CloseIdleConnections()
	}
	p.metrics.reloadLength.WithLabelValues(time.Duration(cfg.ScrapeInterval).String()).Observe(time.Since(start).Seconds())
	return nil
}

// sameSeries reports whether a target has the same series with two configurations, so that what is known of them stays.
func sameSeries(a, b *promconfig.ScrapeConfig) bool {
	of := func(c *promconfig.ScrapeConfig) promconfig.ScrapeConfig {
		x := *c
		x.ScrapeInterval, x.ScrapeTimeout, x.SampleLimit = 0, 0, 0
		x.HTTPClientConfig = commonconfig.HTTPClientConfig{}
		return x
	}
	return reflect.DeepEqual(of(a), of(b))
}

// Stop ends all loops, without markers: the process ends, or the job is gone and nobody asks for it.
func (p *Pool) Stop() {
	p.change.Lock()
	defer p.change.Unlock()
	p.mu.Lock()
	var all []*Loop
	for hash, l := range p.mu.active {
		all = append(all, l)
		delete(p.mu.active, hash)
	}
	job, clients := p.mu.config.JobName, []*http.Client{p.mu.client}
	for _, c := range p.mu.sockets {
		clients = append(clients, c)
	}
	p.mu.Unlock()
	stopAll(all)
	p.end()
	p.loops.Wait()
	for _, c := range clients {
		c.CloseIdleConnections()
	}
	p.metrics.forget(job)
}

// logFailures sets where the scrapes of the job that fail are logged.
func (p *Pool) logFailures(to slog.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if to != nil {
		to = to.WithAttrs([]slog.Attr{slog.String("job_name", p.mu.config.JobName)})
	}
	p.mu.failures = to
	for _, l := range p.mu.active {
		l.logFailures(to)
	}
}

// Config returns the configuration of the job.
func (p *Pool) Config() *promconfig.ScrapeConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.config
}

// Active returns the targets that are scraped.
func (p *Pool) Active() []*promscrape.Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*promscrape.Target
	for _, l := range p.mu.active {
		all = append(all, l.end.target)
	}
	return all
}

// Dropped returns the targets that relabelling dropped, as far as they are kept, and how many there are.
func (p *Pool) Dropped() ([]*promscrape.Target, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.dropped, p.mu.droppedCount
}
