// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/dedup"
)

// newReplicas makes what elects one of the replicas that write the same series.
func (s *server) newReplicas(p *parts) (err error) {
	p.replicas, err = dedup.New(dedup.Options{
		FS: s.fs, Dir: s.stateDir("dedup"), Registerer: s.registry, Logger: s.log.With("component", "ha dedup"),
	})
	return err
}

func (s *server) applyReplicas(c *config.Config) {
	d := c.Tidemark.Receive.HADedup
	if !d.Enabled {
		s.parts.replicas.Apply(nil)
		return
	}
	s.parts.replicas.Apply(&dedup.Settings{ClusterLabel: d.ClusterLabel, ReplicaLabel: d.ReplicaLabel, Failover: time.Duration(d.Failover)})
}
