// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
)

// deltasPercent is the part of memory.limit that sums of deltas may take: 0.4 kB a stream.
const deltasPercent = 5

// The features that say what becomes of deltas; at most one of them is on.
const (
	sumDeltas  = "otlp-deltatocumulative"
	keepDeltas = "otlp-native-delta-ingestion"
)

// newOTLP makes the receiver of OTLP, which is served where the command line asks for it.
func (s *server) newOTLP(intake *ingest.Intake) (*otlp.Handler, error) {
	deltas := otlp.RefuseDeltas
	switch f := s.opts.Features; {
	case f.on(sumDeltas):
		deltas = otlp.SumDeltas
	case f.on(keepDeltas):
		deltas = otlp.KeepDeltas
	}
	return otlp.New(otlp.Options{
		Intake: intake, Deltas: deltas, Streams: s.memory.Child("otlp deltas", s.memory.Limit()/100*deltasPercent),
		LookbackDelta: s.opts.Query.LookbackDelta, TypeAndUnitLabels: s.opts.Features.on("type-and-unit-labels"),
		Logger: s.log.With("component", "otlp"), Registerer: s.registry,
	})
}

func (s *server) applyOTLP(c *config.Config) error { return s.parts.otlp.SetConfig(c.Prom.OTLPConfig) }
