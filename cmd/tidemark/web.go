// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/web"
	"github.com/tidemarkdb/tidemark/web/api"
)

// webOptions are the settings of the HTTP server.
func (s *server) webOptions() web.Options {
	w := s.opts.Web
	return web.Options{
		ListenAddresses: w.ListenAddresses, ConfigFile: w.ConfigFile, ExternalURL: w.ExternalURL, RoutePrefix: w.RoutePrefix,
		MaxConnections: w.MaxConnections, ReadTimeout: w.ReadTimeout, CORSOrigin: w.CORSOrigin,
		EnableLifecycle: w.EnableLifecycle, EnableAdmin: w.EnableAdminAPI, PageTitle: s.pageTitle(),
		LookbackDelta: s.opts.Query.LookbackDelta, Parser: s.queryFeatures().NewParser(),
		RemoteRead: api.RemoteReadOptions{
			SampleLimit: s.opts.Storage.RemoteReadSampleLimit, ConcurrencyLimit: s.opts.Storage.RemoteReadConcurrency,
			MaxBytesInFrame: s.opts.Storage.RemoteReadBytesInFrame,
		},
		Agent:   s.opts.Agent.on,
		Healthy: s.healthy, Ready: s.ready, Reload: s.reload, Quit: func() { s.quit() },
		Gatherer: s.registry, Registerer: s.registry, Logger: s.log.With("component", "web"),
	}
}

// pageTitle is the one asked for; the flag's default, which is Prometheus', is no name for this server's pages.
func (s *server) pageTitle() string {
	if slices.Contains(s.opts.Explicit, "web.page-title") {
		return s.opts.Web.PageTitle
	}
	return "Tidemark"
}

// healthy says whether a restart would help: after a failed sync it would, and no write should come here.
func (s *server) healthy() error {
	db := s.store.Load()
	if db == nil {
		return nil // starting
	}
	for _, c := range db.Conditions() {
		if c.Code == tsdb.ConditionFailedSync {
			return errors.New(c.Effect + "; " + c.NextStep)
		}
	}
	return nil
}

// ready says why no requests should come here: the server is not healthy, or its head is not whole.
func (s *server) ready() error {
	if err := s.healthy(); err != nil {
		return err
	}
	if db := s.store.Load(); db != nil && !isClosed(db.Restored()) {
		done, all := db.Restoring()
		return fmt.Errorf("restoring: %d of %d records of the log are read", done, all)
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *server) queryOptions() query.Options {
	q := s.opts.Query
	return query.Options{
		LookbackDelta: q.LookbackDelta, Timeout: q.Timeout, MaxSamples: q.MaxSamples, MaxConcurrency: q.MaxConcurrency,
		ActiveQueryDir: filepath.Join(s.opts.Storage.Path, "tidemark"),
		EvaluationInterval: func() time.Duration {
			return time.Duration(s.config.Load().Prom.GlobalConfig.EvaluationInterval)
		},
		Memory: s.memory.Child("queries", 0), PerQuery: s.config.Load().Tidemark.Memory.PerQuery.Of(s.memory.Limit()),
		ResultCache:  s.config.Load().Tidemark.Query.ResultCache.Of(s.memory.Limit()),
		SlowLog:      func() time.Duration { return time.Duration(s.config.Load().Tidemark.Query.SlowLog) },
		ExactWindows: func() bool { return s.config.Load().Tidemark.Query.ExactWindows },
		Features:     s.queryFeatures(), Logger: s.log.With("component", "query engine"), Registerer: s.registry,
	}
}

// apiSources are what the HTTP API answers from.
func (s *server) apiSources() api.Sources {
	src := api.Sources{
		Engine: s.parts.engine, Data: s.source, Local: s.db, Queries: s.parts.engine, Rules: s.parts.rules, Targets: s.parts.scraper, Alertmanagers: s.parts.notifier,
		Admin: s.db, Store: storeView{s.db}, Keeper: keeper{s.db},
		Config:         func() string { return s.config.Load().YAML() },
		ExternalLabels: func() labels.Labels { return s.config.Load().Prom.GlobalConfig.ExternalLabels },
		Scratch:        s.openScratch, Backfill: s.parts.filler, RulesInUse: s.rulesInUse,
		Flags: s.opts.Values, Features: s.opts.Features.byCategory, Runtime: s.runtimeInfo, Build: buildInfo(),
		Conditions: s.conditions, Agent: s.opts.Agent.on, SeriesLimits: func() any { return s.parts.limits.Status() },
		Rejected: func() any { return s.parts.rejected.List() },
		Push:     s.parts.push.handler,
		Exports:  s.memory.Child("exports", s.memory.Limit()/100*exportsPercent),
	}
	if s.opts.Web.EnableRemoteWrite {
		src.RemoteWrite = s.parts.remoteWrite
	}
	if s.opts.Web.EnableOTLP {
		src.OTLP = s.parts.otlp
	}
	return src
}
