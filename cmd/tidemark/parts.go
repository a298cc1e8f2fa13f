// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	promscrape "github.com/prometheus/prometheus/scrape"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/dedup"
	"github.com/tidemarkdb/tidemark/ingest/forward"
	"github.com/tidemarkdb/tidemark/ingest/limits"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
	"github.com/tidemarkdb/tidemark/ingest/remotewrite"
	"github.com/tidemarkdb/tidemark/ingest/scrape"
	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/remoteread"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/rules/notify"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// parts is what runs on the open store.
type parts struct {
	store       column.Waiter
	engine      *query.Engine
	remoteWrite *remotewrite.Handler
	otlp        *otlp.Handler
	push        *pushes
	rejected    *ingest.Rejections
	forwarder   *forward.Forwarder
	scraper     *scrape.Scraper
	limits      *limits.Limiter
	replicas    *dedup.Tracker
	rules       *rules.Manager
	notifier    *notify.Notifier
	filler      *backtest.Filler
	catchUp     func(context.Context) error
	receivers   *discovery.Manager // finds the Alertmanagers

	endScraping, endReceivers, endNotifying, endTrimming, endWaiting, endForwarding context.CancelFunc
	scraping, receiving, notifying, ruling, trimming, forwarding                    sync.WaitGroup
	errs                                                                            chan error
}

// newParts makes the parts, without configuration.
func (s *server) newParts() (*parts, error) {
	p := &parts{store: s.db, forwarder: s.forwarder, errs: make(chan error, 8)}
	metrics, err := discovery.CreateAndRegisterSDMetrics(s.registry)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	p.endReceivers = end
	p.receivers = discovery.NewManager(ctx, s.log.With("component", "alertmanager discovery"), s.registry, metrics, discovery.Name("notify"))
	if p.receivers == nil {
		return nil, errors.New("make the discovery of Alertmanagers: its metrics are registered already")
	}
	s.source = remoteread.New(s.db, s.storeStart)
	p.engine = query.NewEngine(s.source, s.queryOptions())
	reserve, err := s.memory.Guarantee("rules", s.config.Load().Tidemark.Memory.RulesReserve.Of(s.memory.Limit()), 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep memory back for rules (memory.rules_reserve): %w", err), p.close())
	}
	if err := s.newIngest(p, metrics); err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.notifier, err = notify.New(notify.Options{
		QueueCapacity: s.opts.Notify.QueueCapacity, MaxBatchSize: s.opts.Notify.BatchSize,
		DropOnShutdown: !s.opts.Notify.DrainOnShutdown, Shadow: s.shadow(), FS: s.fs, StateDir: s.stateDir("notify"),
		Version: version, ExternalURL: s.opts.Web.ExternalURL, Logger: s.log.With("component", "notifier"), Registerer: s.registry,
	})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.rules, err = rules.New(rules.Options{
		Query: rules.EngineQuery(p.engine.ForRules(reserve), nil), Appender: s.db.Ungated(), Source: s.source, Notifier: p.notifier,
		FS: s.fs, StateDir: s.stateDir("rules"),
		OutageTolerance: orNever(s.opts.Rules.OutageTolerance), ForGracePeriod: orNever(s.opts.Rules.ForGracePeriod),
		ResendDelay: orNever(s.opts.Rules.ResendDelay), IngestionStopped: s.ingestionStopped,
		Parser: s.queryFeatures().NewParser(), Logger: s.log.With("component", "rules"), Registerer: s.registry,
	})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.filler = s.newFiller(p)
	p.catchUp = func(ctx context.Context) error { return s.catchUp(ctx, s.started, catchUpAfter) }
	return p, nil
}

// The parts of memory.limit that the ways in may take: 25 B per series that is written to, and the requests in
// flight. What they do not take is free for others.
const (
	keysPercent     = 5
	requestsPercent = 15
)

// newIngest makes the ways in: remote write, OTLP, push protocols and scraping.
func (s *server) newIngest(p *parts, metrics *discovery.SDMetrics) error {
	if err := errors.Join(s.newLimits(p), s.newReplicas(p)); err != nil {
		return err
	}
	intake, err := ingest.New(ingest.Options{
		Appender: s.db, Foreseer: s.db, Registerer: s.registry,
		Keys:     s.memory.Child("ingest keys", s.memory.Limit()/100*keysPercent),
		Requests: s.memory.Child("requests", s.memory.Limit()/100*requestsPercent),
		Replicas: p.replicas,
	})
	if err != nil {
		return err
	}
	p.remoteWrite, err = remotewrite.New(remotewrite.Options{
		Intake: intake, Messages: s.opts.Web.AcceptedMessages, Logger: s.log.With("component", "remote write"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	p.rejected = intake.Rejected()
	if p.otlp, err = s.newOTLP(intake); err != nil {
		return err
	}
	if p.push, err = s.newPushes(intake); err != nil {
		return err
	}
	f := s.opts.Features
	p.scraper, err = scrape.New(scrape.Options{
		Intake: intake, Registerer: s.registry, SDMetrics: metrics, Logger: s.log.With("component", "scrape"),
		Scrape: promscrape.Options{
			AppendMetadata:          true,
			DiscoveryReloadInterval: model.Duration(s.opts.Scrape.DiscoveryReloadInterval),
			ParseST:                 f.on("created-timestamp-zero-ingestion") || f.on("st-storage"),
			SynthesizeST:            f.on("st-synthesis"),
			EnableTypeAndUnitLabels: f.on("type-and-unit-labels"),
		},
	})
	return err
}

func (s *server) queryFeatures() query.Features {
	f := s.opts.Features
	return query.Features{
		ExperimentalFunctions:  f.on("promql-experimental-functions"),
		ExtendedRangeSelectors: f.on("promql-extended-range-selectors"),
		BinopFillModifiers:     f.on("promql-binop-fill-modifiers"),
		DelayedNameRemoval:     f.on("promql-delayed-name-removal"),
		PerStepStats:           f.on("promql-per-step-stats"),
		TypeAndUnitLabels:      f.on("type-and-unit-labels"),
		UseStartTimestamps:     f.on("use-start-timestamps"),
	}
}

// start runs the parts and returns the channel on which one says that it failed.
func (p *parts) start(ctx context.Context) <-chan error {
	run := func(wg *sync.WaitGroup, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && !errors.Is(err, context.Canceled) {
				p.errs <- err
			}
		})
	}
	base := context.WithoutCancel(ctx) // each part is told to stop in its turn
	var scraping, notifying, trimming, waiting, forwarding context.Context
	waiting, p.endWaiting = context.WithCancel(base)
	trimming, p.endTrimming = context.WithCancel(base)
	p.trimming.Go(func() { trimHeap(trimming, trimEvery) })
	p.trimming.Go(func() { trimProgram(trimming) })
	run(&p.trimming, func() error { return p.limits.Run(trimming) })
	forwarding, p.endForwarding = context.WithCancel(base)
	scraping, p.endScraping = context.WithCancel(base)
	notifying, p.endNotifying = context.WithCancel(base)
	run(&p.receiving, p.receivers.Run)
	run(&p.notifying, func() error { return p.notifier.Run(notifying, p.receivers.SyncCh()) })
	run(&p.forwarding, func() error { return p.forwarder.Run(forwarding) })
	run(&p.scraping, func() error { return p.scraper.Run(scraping) })
	p.push.start(base, run)
	run(&p.ruling, func() error {
		// No rule looks at half a head, and no alert resolves because of one.
		if err := p.store.Await(waiting, math.MinInt64, math.MaxInt64); err != nil {
			return fmt.Errorf("wait for the store: %w", err)
		}
		return p.rules.Run(base)
	})
	run(&p.ruling, func() error { return p.catchUp(waiting) })
	return p.errs
}

// stop ends the parts in the reverse order of start: no rule is evaluated any more before scraping ends, and what
// the rules raised is delivered before the notifier ends.
func (p *parts) stop() error {
	p.endWaiting()
	p.rules.Stop()
	p.ruling.Wait()
	p.filler.Close()
	p.endScraping()
	p.scraping.Wait()
	p.push.stop()
	p.endForwarding()
	p.forwarding.Wait()
	p.notifier.Stop()
	p.notifying.Wait()
	p.endNotifying()
	p.endReceivers()
	p.receiving.Wait()
	p.endTrimming()
	p.trimming.Wait()
	var errs []error
	for len(p.errs) > 0 {
		errs = append(errs, <-p.errs)
	}
	return errors.Join(errs...)
}

// close gives back what newParts took.
func (p *parts) close() error {
	p.endReceivers()
	if p.engine == nil {
		return nil
	}
	return errors.Join(p.push.close(), p.engine.Close())
}
