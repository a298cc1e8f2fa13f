// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/tidemarkdb/tidemark/ingest"
	receiving "github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/csv"
	"github.com/tidemarkdb/tidemark/ingest/push/exposition"
	"github.com/tidemarkdb/tidemark/ingest/push/graphite"
	"github.com/tidemarkdb/tidemark/ingest/push/influx"
	"github.com/tidemarkdb/tidemark/ingest/push/jsonlines"
)

// exportsPercent is the part of memory.limit that bulk exports may take together.
const exportsPercent = 10

// pushes receives the protocols that other databases have.
type pushes struct {
	handler  http.Handler       // of the routes; each says itself whether it is on
	graphite *graphite.Listener // nil: it is off

	end     context.CancelFunc
	running sync.WaitGroup
}

// newPushes makes the receivers. Those of HTTP are turned on and off by the configuration in use, Graphite's by the one
// of the start.
func (s *server) newPushes(intake *ingest.Intake) (*pushes, error) {
	receiver, err := receiving.New(receiving.Options{Intake: intake, Registerer: s.registry})
	if err != nil {
		return nil, err
	}
	routes := http.NewServeMux()
	serve := func(path, word string, h http.Handler) {
		on := func() bool { return slices.Contains(s.config.Load().Tidemark.Receive.HTTP, word) }
		routes.Handle(path, receiving.Gate(on, word, h))
	}
	text := exposition.New(receiver)
	serve("/influx/", "influx", influx.New(receiver, "/influx"))
	serve("/pushgateway/", "pushgateway", text.Gateway("/pushgateway"))
	serve("/api/v1/import/prometheus", "prometheus", receiving.Post(text.Import))
	serve("/api/v1/import/csv", "csv", receiving.Post(csv.New(receiver).ServeHTTP))
	serve("/api/v1/import", "json", receiving.Post(jsonlines.New(receiver).ServeHTTP))
	p := &pushes{handler: routes, end: func() {}}
	if address := s.config.Load().Tidemark.Receive.GraphiteListen; address != "" {
		p.graphite, err = graphite.Listen(graphite.Options{Receiver: receiver, Address: address, Logger: s.log.With("component", "graphite")})
	}
	return p, err
}

// start receives what comes without HTTP.
func (p *pushes) start(ctx context.Context, run func(*sync.WaitGroup, func() error)) {
	if p.graphite == nil {
		return
	}
	ctx, p.end = context.WithCancel(ctx)
	run(&p.running, func() error { return p.graphite.Run(ctx) })
}

// stop ends it; what was received is stored then.
func (p *pushes) stop() {
	p.end()
	p.running.Wait()
}

// close gives back what newPushes took, where start was not called.
func (p *pushes) close() error {
	if p == nil || p.graphite == nil {
		return nil
	}
	return p.graphite.Close()
}
