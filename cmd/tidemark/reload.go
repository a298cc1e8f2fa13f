// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/util/logging"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/notify"
)

// reloadState is what is known of the last time the configuration was applied.
type reloadState struct {
	mu sync.Mutex
	ok bool      // guarded by mu
	at time.Time // guarded by mu; of the last success
}

func (r *reloadState) set(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ok = ok
	if ok {
		r.at = time.Now()
	}
}

func (r *reloadState) last() (ok bool, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ok, r.at
}

// registerReload exposes the gauges that Prometheus' alerts about configuration read.
func (s *server) registerReload() {
	s.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "prometheus_config_last_reload_successful", Help: "Whether the last configuration reload attempt was successful.",
		}, func() float64 {
			if ok, _ := s.reloaded.last(); ok {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "prometheus_config_last_reload_success_timestamp_seconds", Help: "Timestamp of the last successful configuration reload.",
		}, func() float64 {
			_, at := s.reloaded.last()
			return float64(at.UnixNano()) / 1e9
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "prometheus_tsdb_retention_limit_percentage",
			Help: "Max percentage of the disk that the store may take, configured 0 means disabled.",
		}, func() float64 {
			c := s.config.Load()
			if c == nil || c.Prom.StorageConfig.TSDBConfig == nil || c.Prom.StorageConfig.TSDBConfig.Retention == nil {
				return 0
			}
			return c.Prom.StorageConfig.TSDBConfig.Retention.Percentage
		}),
	)
}

// errNotReady is the answer to a reload before there is anything to reload.
var errNotReady = errors.New("the server is still starting: try again when it is ready")

// reload reads the configuration again and applies it. On an error the one before stays in force.
func (s *server) reload(context.Context) error {
	s.live.Lock()
	defer s.live.Unlock()
	if s.parts == nil {
		return errNotReady
	}
	start := time.Now()
	before := s.config.Load()
	c, err := s.loadConfig()
	if err == nil {
		err = s.apply(c)
	}
	if err != nil {
		s.reloaded.set(false)
		return fmt.Errorf("reload the configuration: %w", err)
	}
	if keys := config.RestartKeys(before, c); len(keys) > 0 {
		s.log.Warn("changes of these keys act after a restart", "keys", strings.Join(keys, ", "))
	}
	s.log.Info("configuration reloaded", "file", s.opts.ConfigFile, "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// apply makes every part use c, or none: what can refuse is asked first, and a part that refuses nevertheless puts
// those before it back. Remote write comes last: a receiver that it removes has lost its place, which no other part brings
// back.
func (s *server) apply(c *config.Config) error {
	before := s.config.Load()
	if err := s.check(c); err != nil {
		return err
	}
	steps := []func(*config.Config) error{
		s.applyNotifier, s.applyOTLP, s.applyRemoteRead, s.applyScrape, s.applyRules, s.applyRetention, s.applyForward,
	}
	for i, step := range steps {
		err := step(c)
		if err == nil {
			continue
		}
		if before == c { // the first configuration: there is nothing to go back to
			return err
		}
		for _, undo := range steps[:i] {
			if uerr := undo(before); uerr != nil {
				err = errors.Join(err, fmt.Errorf("and going back: %w", uerr))
			}
		}
		return err
	}
	s.db.SetLate(lateWindows(c))
	s.db.SetMinFree(s.minFreeSpace(c))
	s.db.SetDeleteOldest(deleteOldest(c))
	s.applyLimits(c)
	s.applyReplicas(c)
	s.applyQueryLog(c)
	s.config.Store(c)
	s.reloaded.set(true)
	return nil
}

func (s *server) applyRetention(c *config.Config) error {
	s.db.SetRetention(s.retention(c))
	return s.db.SetRetentionPolicies(s.retentionPolicies(c))
}

// applyQueryLog opens the query log, also where its file is the same as before: logrotate moves it away and has the
// configuration reloaded. A file that cannot be opened is no reason to refuse the rest of the configuration.
func (s *server) applyQueryLog(c *config.Config) {
	file := c.Prom.GlobalConfig.QueryLogFile
	if file == "" {
		s.parts.engine.SetQueryLogger(nil)
		return
	}
	l, err := logging.NewJSONFileLogger(file)
	if err != nil {
		s.log.Error("the query log cannot be opened: queries are logged as before, if they were", "file", file, "err", err)
		return
	}
	s.parts.engine.SetQueryLogger(l)
}

// check asks the parts whether they would take c.
func (s *server) check(c *config.Config) error {
	if s.config.Load() != c {
		if err := s.parts.scraper.Check(c.Prom); err != nil {
			return err
		}
	}
	if err := s.parts.notifier.Check(notifyConfig(c)); err != nil {
		return err
	}
	rc, err := s.rulesConfig(c)
	if err != nil {
		return err
	}
	return rules.Check(rc, rules.Options{Parser: s.queryFeatures().NewParser()})
}

func (s *server) applyScrape(c *config.Config) error {
	s.parts.scraper.Truncate(c.Tidemark.Scrape.OnLimit == "truncate")
	return s.parts.scraper.ApplyConfig(c.Prom)
}

func (s *server) applyNotifier(c *config.Config) error {
	n := notifyConfig(c)
	if err := s.parts.notifier.Apply(n); err != nil {
		return err
	}
	return s.parts.receivers.ApplyConfig(n.DiscoveryConfigs())
}

func notifyConfig(c *config.Config) notify.Config {
	n := notify.Config{
		Alertmanagers: c.Prom.AlertingConfig.AlertmanagerConfigs, Relabel: c.Prom.AlertingConfig.AlertRelabelConfigs,
		ExternalLabels: c.Prom.GlobalConfig.ExternalLabels, NameValidation: c.Prom.GlobalConfig.MetricNameValidationScheme,
	}
	for _, w := range c.Tidemark.Webhooks {
		n.Webhooks = append(n.Webhooks, notify.Webhook{URLFile: w.URLFile, SendResolved: w.SendResolved})
	}
	return n
}

func (s *server) applyRules(c *config.Config) error {
	rc, err := s.rulesConfig(c)
	if err != nil {
		return err
	}
	return s.parts.rules.Update(rc)
}

func (s *server) rulesConfig(c *config.Config) (rules.Config, error) {
	files, err := rules.Glob(c.Prom.RuleFiles)
	if err != nil {
		return rules.Config{}, err
	}
	return rules.Config{
		Files: files, Interval: time.Duration(c.Prom.GlobalConfig.EvaluationInterval),
		QueryOffset:    time.Duration(c.Prom.GlobalConfig.RuleQueryOffset),
		ExternalLabels: c.Prom.GlobalConfig.ExternalLabels, ExternalURL: s.opts.Web.ExternalURL.String(),
		NameValidation: c.Prom.GlobalConfig.MetricNameValidationScheme,
	}, nil
}

// orNever turns a duration of 0 of the command line into the negative one by which options say 0.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
