// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/forward"
	"github.com/tidemarkdb/tidemark/query/remoteread"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/web"
)

// server is the parts of the process and how they are connected.
type server struct {
	opts     *options
	log      *slog.Logger
	registry *prometheus.Registry
	fs       fsx.FS
	memory   *budget.Account
	shadowed bool // by the first configuration
	started  time.Time
	now      func() time.Time // of the store

	config   atomic.Pointer[config.Config]
	reloaded reloadState

	web   *web.Server
	db    *tsdb.DB // set once it is open; probes, which come earlier, look at store
	store atomic.Pointer[tsdb.DB]
	parts *parts // what runs on the store; nil until it is open

	source    *remoteread.Source // the store and who is asked beside it; nil until the store is open
	forwarder *forward.Forwarder // opened and closed by the store

	quit context.CancelFunc // begins the stop; set by run
	live sync.Mutex         // held while the parts are made or reconfigured
}

// newServer reads the configuration and takes the listen addresses: what a user most often gets wrong is known
// before anything is touched.
func newServer(o *options, log *slog.Logger) (*server, error) {
	s := &server{opts: o, log: log, fs: fsx.OS(), registry: prometheus.NewRegistry(), started: time.Now(), now: time.Now}
	c, err := s.loadConfig()
	if err != nil {
		return nil, err
	}
	s.config.Store(c)
	s.shadowed = c.Tidemark.Shadow
	s.memory = setMemoryLimit(o, c.Tidemark.Memory, log)
	s.registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC, collectors.MetricsScheduler)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	s.registerBuildInfo()
	s.registerReload()
	if s.web, err = web.New(s.webOptions()); err != nil {
		return nil, err
	}
	return s, s.web.Listen()
}

func (s *server) loadConfig() (*config.Config, error) {
	return config.Load(config.Options{File: s.opts.ConfigFile, TidemarkFile: s.opts.TidemarkConfigFile, Agent: s.opts.Agent.on, Logger: s.log})
}

// shadow says whether nothing may leave the process. That is so for as long as it runs, or never.
func (s *server) shadow() bool { return s.opts.Shadow || s.shadowed }

// run serves until ctx ends or a part fails. Parts are started in order and stopped in reverse: rules before what
// delivers their alerts, scraping before the store, the listener last but for the store, so that a probe can see
// the stop.
func (s *server) run(ctx context.Context) (err error) {
	ctx, s.quit = context.WithCancel(ctx)
	defer s.quit()
	webCtx, stopWeb := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWeb()
	webDone := make(chan error, 1)
	go func() {
		webDone <- s.web.Run(webCtx)
		s.quit() // without its listener the server is of no use
	}()
	s.log.Info("tidemark starts", "version", version, "emulates", "Prometheus "+emulated, "config", s.opts.ConfigFile,
		"data", s.opts.Storage.Path, "listen", s.web.Addresses(), "shadow", s.shadow())
	if s.db, err = tsdb.Start(ctx, s.storeOptions()); err == nil {
		s.store.Store(s.db)
		err = s.serve(ctx)
	} else if ctx.Err() != nil {
		err = nil // the stop was asked for before the store was open
	}
	stopWeb()
	err = errors.Join(err, <-webDone)
	if s.db != nil {
		if cerr := s.db.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the store: %w", cerr))
		}
	}
	return err
}

// serve runs the parts on the open store until ctx ends.
func (s *server) serve(ctx context.Context) error {
	s.registry.MustRegister(newStoreCollector(s.db))
	p, err := s.newParts()
	if err != nil {
		return err
	}
	s.live.Lock()
	s.parts = p
	err = s.apply(s.config.Load())
	s.live.Unlock()
	if err != nil {
		return errors.Join(err, p.close())
	}
	failed := p.start(ctx)
	if err := s.web.Open(s.apiSources()); err != nil {
		return errors.Join(err, p.stop(), p.close())
	}
	err = s.watch(ctx, failed)
	s.log.Info("tidemark stops")
	return errors.Join(err, p.stop(), p.close())
}

// watch reloads when it is told to, until ctx ends or a part fails, whose error it returns. A store that cannot be
// restored is such a part.
func (s *server) watch(ctx context.Context, failed <-chan error) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	auto := newAutoReload(s)
	defer auto.stop()
	restored := s.db.Restored()
	for {
		select {
		case <-restored:
			if err := s.db.Await(ctx, math.MinInt64, math.MaxInt64); err != nil {
				return fmt.Errorf("restore the store: %w", err)
			}
			s.log.Info("tidemark is ready", "took", time.Since(s.started).Round(time.Millisecond))
			restored = nil
			continue
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("a part of the server failed: %w", err)
		case <-hup:
		case <-auto.changed():
		}
		if err := s.reload(ctx); err != nil {
			s.log.Error("the configuration was not reloaded; the one before stays in force", "err", err)
		}
	}
}

// stateDir is where a part keeps what must survive a restart.
func (s *server) stateDir(part string) string {
	return filepath.Join(s.opts.Storage.Path, "tidemark", "state", part)
}
