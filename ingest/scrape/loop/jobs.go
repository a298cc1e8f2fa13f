// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/logging"
	"github.com/prometheus/prometheus/util/osutil"

	"github.com/tidemarkdb/tidemark/ingest"
)

// Options of Jobs. Intake and Registerer are required.
type Options struct {
	Intake     *ingest.Intake        // where samples go
	Registerer prometheus.Registerer // for Prometheus' metrics about scraping
	Logger     *slog.Logger          // nil: nothing is logged
	Scrape     promscrape.Options    // what the feature flags ask for
}

// Jobs are the pools of a configuration's jobs.
type Jobs struct {
	shared

	logger  *slog.Logger
	refresh time.Duration // the least time between two changes of targets, but for the first

	mu struct {
		sync.Mutex
		configs map[string]*promconfig.ScrapeConfig
		pools   map[string]*Pool
		logs    map[string]slog.Handler // of failed scrapes, by file
		groups  map[string][]*targetgroup.Group
		seed    uint64
		applied time.Time // the configuration
		stopped bool
	}
}

// defaultRefresh is Prometheus'.
const defaultRefresh = 5 * time.Second

// New returns Jobs of no configuration.
func New(o Options) (*Jobs, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	j := &Jobs{logger: o.Logger, refresh: time.Duration(o.Scrape.DiscoveryReloadInterval)}
	if j.refresh == 0 {
		j.refresh = defaultRefresh
	}
	j.shared = shared{
		intake: o.Intake, options: o.Scrape, metrics: newMetrics(), told: &told{}, readers: newReaders(), truncate: &atomic.Bool{},
		hashSeed: rand.Uint64(), rounds: &sync.Pool{New: func() any { return new(round) }},
	}
	j.mu.pools = map[string]*Pool{}
	if err := j.metrics.register(o.Registerer, j); err != nil {
		return nil, err
	}
	return j, nil
}

// Truncate sets whether limits cut off what is beyond them, instead of failing scrapes.
func (j *Jobs) Truncate(on bool) { j.truncate.Store(on) }

// Run takes targets over from discovery until ctx ends, not more often than targets are refreshed. For as long after a
// configuration was applied discovery looks for targets anew: what it has found is taken over at once, and that a job has
// none any more, which may be so because it was not asked yet, when that time is over.
func (j *Jobs) Run(ctx context.Context, found <-chan map[string][]*targetgroup.Group) {
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := false
	for {
		select {
		case <-ctx.Done():
			return
		case groups, ok := <-found:
			if !ok {
				return
			}
			timer.Reset(j.take(groups, last))
			due = true
		case <-timer.C:
			if !due {
				continue
			}
			left := j.settlesIn()
			last = time.Now()
			j.sync(left > 0)
			if due = left > 0; due {
				timer.Reset(left)
			}
		}
	}
}

// take notes targets and returns in how long it is time to take them over.
func (j *Jobs) take(groups map[string][]*targetgroup.Group, last time.Time) time.Duration {
	left := j.settlesIn()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.groups = groups
	if left > 0 {
		return 0
	}
	return max(j.refresh-time.Since(last), 0)
}

// settlesIn returns for how long discovery is not to be believed that a job has no targets any more.
func (j *Jobs) settlesIn() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refresh - time.Since(j.mu.applied)
}

// sync makes the targets those that were found last; those of a job that has none any more stay, if keep says so.
func (j *Jobs) sync(keep bool) {
	j.mu.Lock()
	var wg sync.WaitGroup
	for job, groups := range j.mu.groups {
		p := j.mu.pools[job]
		if p != nil && keep && !anyTarget(groups) {
			continue
		}
		if p == nil && !j.mu.stopped {
			p = j.newPoolLocked(job)
		}
		if p != nil {
			wg.Go(func() { p.Sync(groups) })
		}
	}
	j.mu.Unlock()
	wg.Wait()
}

func anyTarget(groups []*targetgroup.Group) bool {
	return slices.ContainsFunc(groups, func(g *targetgroup.Group) bool { return len(g.Targets) > 0 })
}

// newPoolLocked begins a job that has targets now. A job that cannot be scraped is logged, and others go on.
func (j *Jobs) newPoolLocked(job string) *Pool {
	cfg, ok := j.mu.configs[job]
	if !ok {
		return nil // it was taken out of the configuration, and discovery has not heard of it yet
	}
	j.metrics.pools.Inc()
	p, err := newPool(&j.shared, cfg, j.mu.seed, j.logger.With("scrape_pool", job))
	if err != nil {
		j.metrics.poolsFailed.Inc()
		j.logger.Error("error creating new scrape pool", "err", err, "scrape_pool", job)
		return nil
	}
	p.logFailures(j.mu.logs[cfg.ScrapeFailureLogFile])
	j.mu.pools[job] = p
	return p
}

// ApplyConfig makes the jobs of cfg those that are scraped. Jobs that have not changed go on as they are.
func (j *Jobs) ApplyConfig(cfg *promconfig.Config) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return err
	}
	configs := make(map[string]*promconfig.ScrapeConfig, len(jobs))
	logs := map[string]slog.Handler{}
	for _, job := range jobs {
		configs[job.JobName] = job
		file := job.ScrapeFailureLogFile
		if _, open := logs[file]; open || file == "" {
			continue
		}
		l, err := logging.NewJSONFileLogger(file) // opened anew each time, for those who rotate it
		if err != nil {
			closeLogs(logs)
			return err
		}
		logs[file] = l
	}
	seed, err := offsetSeed(cfg.GlobalConfig.ExternalLabels)
	if err != nil {
		closeLogs(logs)
		return err
	}
	old := j.mu.logs
	j.mu.configs, j.mu.logs, j.mu.seed, j.mu.applied = configs, logs, seed, time.Now()
	err = j.reloadLocked()
	closeLogs(old)
	return err
}

// reloadLocked brings the pools to the configuration, as many at a time as there are processors.
func (j *Jobs) reloadLocked() error {
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	var failed atomic.Bool
	for job, p := range j.mu.pools {
		cfg := j.mu.configs[job]
		if cfg == nil {
			delete(j.mu.pools, job)
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if cfg == nil {
				p.Stop()
				return
			}
			p.logFailures(j.mu.logs[cfg.ScrapeFailureLogFile])
			if reflect.DeepEqual(p.Config(), cfg) {
				return
			}
			if err := p.Reload(cfg); err != nil {
				j.logger.Error("error reloading scrape pool", "err", err, "scrape_pool", job)
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		return errors.New("failed to apply the new configuration")
	}
	return nil
}

func closeLogs(logs map[string]slog.Handler) {
	for _, l := range logs {
		if c, ok := l.(io.Closer); ok {
			_ = c.Close() // lines were written one by one
		}
	}
}

// offsetSeed tells servers apart that scrape the same targets, so that they do it at different times.
func offsetSeed(external labels.Labels) (uint64, error) {
	host, err := osutil.GetFQDN()
	if err != nil {
		return 0, fmt.Errorf("find the name of this host: %w", err)
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s%s", host, external)
	return h.Sum64(), nil
}

// Stop ends all jobs. None begins any more.
func (j *Jobs) Stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.stopped = true
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for _, p := range j.mu.pools {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			p.Stop()
		})
	}
	wg.Wait()
	clear(j.mu.pools)
	closeLogs(j.mu.logs)
	j.mu.logs = nil
}

func (j *Jobs) pools() map[string]*Pool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.mu.pools)
}

// byJob returns something of each pool.
func byJob[T any](j *Jobs, of func(*Pool) T) map[string]T {
	pools := j.pools()
	out := make(map[string]T, len(pools))
	for job, p := range pools {
		out[job] = of(p)
	}
	return out
}

// TargetsActive returns the targets that are scraped, by job.
func (j *Jobs) TargetsActive() map[string][]*promscrape.Target { return byJob(j, (*Pool).Active) }

// TargetsDropped returns the targets that relabelling dropped, by job, as far as keep_dropped_targets keeps them.
func (j *Jobs) TargetsDropped() map[string][]*promscrape.Target {
	return byJob(j, func(p *Pool) []*promscrape.Target {
		all, _ := p.Dropped()
		return all
	})
}

// TargetsDroppedCounts returns how many targets relabelling dropped, by job.
func (j *Jobs) TargetsDroppedCounts() map[string]int {
	return byJob(j, func(p *Pool) int {
		_, n := p.Dropped()
		return n
	})
}

// TargetsAll returns the active targets and the dropped ones that are kept, by job.
func (j *Jobs) TargetsAll() map[string][]*promscrape.Target {
	return byJob(j, func(p *Pool) []*promscrape.Target {
		dropped, _ := p.Dropped()
		return slices.Concat(p.Active(), dropped)
	})
}

// ScrapePools returns the names of the jobs that have pools.
func (j *Jobs) ScrapePools() []string { return slices.Collect(maps.Keys(j.pools())) }

// ScrapePoolConfig returns the configuration of a job.
func (j *Jobs) ScrapePoolConfig(job string) (*promconfig.ScrapeConfig, error) {
	p := j.pools()[job]
	if p == nil {
		return nil, fmt.Errorf("scrape pool %q not found", job)
	}
	return p.Config(), nil
}
