// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package scrape finds targets, through Prometheus' own discovery packages, and scrapes them, in loops of our own that do
// what Prometheus' do (see ingest/scrape/loop), so that every key of scrape_configs means what it means there, and the
// metrics about scraping have Prometheus' names.
//
// Its noun is the Scraper: the discovery manager, which turns configurations into targets, and the jobs, which
// keep one loop per target. ApplyConfig may be called before and during Run; once Run has returned, nothing is stored
// any more. What this package adds is that a reload is all or nothing, that two reloads do not mix, and that a stop is
// clean.
//
// A Scraper is safe for concurrent use. Its goroutines are started by Run and have ended when Run returns.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/logging"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/scrape/loop"
)

// Options of a Scraper. Intake and Registerer are required.
type Options struct {
	Intake     *ingest.Intake        // where samples go
	Registerer prometheus.Registerer // for the metrics that Prometheus has
	SDMetrics  *discovery.SDMetrics  // of all discovery managers of the process, registered once
	Logger     *slog.Logger          // nil: nothing is logged
	Scrape     promscrape.Options    // what the feature flags ask for
}

// Scraper scrapes the targets of a configuration.
type Scraper struct {
	jobs          *loop.Jobs
	discovery     *discovery.Manager
	stopDiscovery context.CancelFunc
	logger        *slog.Logger
	options       promscrape.Options

	mu struct {
		sync.Mutex
		config  *promconfig.Config // applied last, nil before the first
		stopped bool
	}
}

// New returns a Scraper without targets.
func New(o Options) (*Scraper, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scraper{logger: o.Logger, options: o.Scrape}
	var err error
	s.jobs, err = loop.New(loop.Options{Intake: o.Intake, Registerer: o.Registerer, Logger: o.Logger, Scrape: o.Scrape})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopDiscovery = cancel
	s.discovery = discovery.NewManager(ctx, o.Logger, o.Registerer, o.SDMetrics, discovery.Name("scrape"))
	if s.discovery == nil {
		cancel()
		return nil, errors.New("make the discovery manager: its metrics are registered already, or SDMetrics is missing")
	}
	return s, nil
}

// Run scrapes until ctx is done.
func (s *Scraper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.discovery.Run() }) // returns the error of its context only
	wg.Go(func() { s.jobs.Run(ctx, s.discovery.SyncCh()) })
	<-ctx.Done()
	s.mu.Lock()
	s.mu.stopped = true
	s.mu.Unlock()
	s.stopDiscovery()
	s.jobs.Stop()
	wg.Wait()
	return nil
}

// Truncate sets whether limits cut off what is beyond them (scrape.on_limit), instead of failing scrapes.
func (s *Scraper) Truncate(on bool) { s.jobs.Truncate(on) }

// Check reports every reason why ApplyConfig would refuse cfg, without changing anything.
func (s *Scraper) Check(cfg *promconfig.Config) error {
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return fmt.Errorf("read the scrape configs: %w", err)
	}
	var errs []error
	for _, job := range jobs {
		if err := s.checkJob(job); err != nil {
			errs = append(errs, fmt.Errorf("scrape config %q: %w", job.JobName, err))
		}
	}
	return errors.Join(errs...)
}

// checkJob builds what a scrape pool would build: an HTTP client with its certificates, and the failure log.
func (s *Scraper) checkJob(job *promconfig.ScrapeConfig) error {
	client, err := commonconfig.NewClientFromConfig(job.HTTPClientConfig, job.JobName, s.options.HTTPClientOptions...)
	if err != nil {
		return fmt.Errorf("make the HTTP client: %w", err)
	}
	client.CloseIdleConnections()
	if _, err := promconfig.ToEscapingScheme(job.MetricNameEscapingScheme, job.MetricNameValidationScheme); err != nil {
		return fmt.Errorf("metric_name_escaping_scheme: %w", err)
	}
	if job.ScrapeFailureLogFile == "" {
		return nil
	}
	log, err := logging.NewJSONFileLogger(job.ScrapeFailureLogFile)
	if err != nil {
		return fmt.Errorf("scrape_failure_log_file: %w", err)
	}
	if err := log.Close(); err != nil {
		return fmt.Errorf("scrape_failure_log_file: %w", err)
	}
	return nil
}

// ApplyConfig makes cfg the configuration, or changes nothing and returns why not. The first one of a process is
// applied as far as it goes, with the rest in the log, as Prometheus does: one job with a lost certificate must not
// keep a restarted server from scraping the others.
func (s *Scraper) ApplyConfig(cfg *promconfig.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped {
		return nil
	}
	if err := s.Check(cfg); err != nil {
		if s.mu.config != nil {
			return err
		}
		s.logger.Error("some jobs cannot be scraped", "err", err)
	}
	if err := s.applyLocked(cfg); err != nil {
		if s.mu.config != nil {
			if back := s.applyLocked(s.mu.config); back != nil {
				err = errors.Join(err, fmt.Errorf("and going back to the former configuration: %w", back))
			}
		}
		return err
	}
	s.mu.config = cfg
	return nil
}

// applyLocked gives the scrape manager the jobs before discovery delivers their targets.
func (s *Scraper) applyLocked(cfg *promconfig.Config) error {
	if err := s.jobs.ApplyConfig(cfg); err != nil {
		return fmt.Errorf("apply the scrape configs: %w", err)
	}
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return fmt.Errorf("read the scrape configs: %w", err)
	}
	kinds := make(map[string]discovery.Configs, len(jobs))
	for _, job := range jobs {
		kinds[job.JobName] = job.ServiceDiscoveryConfigs
	}
	if err := s.discovery.ApplyConfig(kinds); err != nil {
		return fmt.Errorf("apply the service discovery of the scrape configs: %w", err)
	}
	return nil
}

// TargetsActive returns the targets that are scraped, by job.
func (s *Scraper) TargetsActive() map[string][]*promscrape.Target { return s.jobs.TargetsActive() }

// TargetsDropped returns the targets that relabelling dropped, by job, as far as keep_dropped_targets keeps them.
func (s *Scraper) TargetsDropped() map[string][]*promscrape.Target { return s.jobs.TargetsDropped() }

// TargetsDroppedCounts returns how many targets relabelling dropped, by job.
func (s *Scraper) TargetsDroppedCounts() map[string]int { return s.jobs.TargetsDroppedCounts() }

// TargetsAll returns the active targets and the dropped ones that are kept, by job.
func (s *Scraper) TargetsAll() map[string][]*promscrape.Target { return s.jobs.TargetsAll() }

// ScrapePools returns the names of the jobs that have scrape pools.
func (s *Scraper) ScrapePools() []string { return s.jobs.ScrapePools() }

// ScrapePoolConfig returns the configuration of a job.
func (s *Scraper) ScrapePoolConfig(job string) (*promconfig.ScrapeConfig, error) {
	return s.jobs.ScrapePoolConfig(job)
}
