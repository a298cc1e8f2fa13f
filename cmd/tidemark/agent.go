// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb"
)

// An agent takes samples in and sends them on. It is the server whose store keeps samples no longer than is good for
// judging what comes and for sending again what a crash took from the queue of remote write: acknowledgements mean what
// they mean elsewhere. Nobody asks it anything, and it has no rules.

const (
	// agentSlot is the length of the head slots of an agent, and of its blocks: series that get nothing any more leave
	// memory a slot later.
	agentSlot = 10 * time.Minute
	// agentKeep is how long an agent keeps samples, and takes them late.
	agentKeep = 30 * time.Minute
	// agentCache is the size of each of the store's caches, which nobody reads from.
	agentCache = 1 << 20
)

// agentFlags are what the flags of an agent say.
type agentFlags struct {
	on          bool
	path        string
	segmentSize int64
	noLockfile  bool
	maxTime     time.Duration // unless it is set, remote_write_queue.max_age counts
	batchSize   int
}

// serverOnly says whether a flag is one of a server that is no agent, as in Prometheus.
func serverOnly(name string) bool {
	for _, prefix := range []string{"storage.tsdb.", "storage.remote.read-", "rules.", "alertmanager.", "query."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "web.search.max-limit"
}

// checkMode refuses flags of the other mode, in Prometheus' words.
func (o *options) checkMode(agentOnly []string) error {
	if !o.Agent.on {
		if used := o.among(agentOnly); len(used) > 0 {
			return exit{exitMode, fmt.Sprintf("The following flag(s) can only be used in agent mode: %q", used)}
		}
		return nil
	}
	var used []string
	for _, name := range o.Explicit {
		if serverOnly(name) {
			used = append(used, "--"+name)
		}
	}
	if len(used) > 0 {
		return exit{exitMode, fmt.Sprintf("The following flag(s) can not be used in agent mode: %q", used)}
	}
	if o.Agent.batchSize <= 0 {
		return exit{exitConfig, "--storage.agent.checkpoint-batch-size must be greater than 0."}
	}
	o.Storage.Path, o.Storage.SegmentSize, o.Storage.NoLockfile = o.Agent.path, o.Agent.segmentSize, o.Agent.noLockfile
	return nil
}

// asAgent makes the settings of a store those of an agent.
func (s *server) asAgent(o *tsdb.Options) {
	o.Slot, o.MaxBlock, o.UndoFor, o.Scrub = agentSlot, agentSlot, -1, -1
	o.BlockCache, o.SeriesCache = agentCache, agentCache
	o.Foreign, o.RetentionPolicies, o.RetentionBytes = nil, nil, 0
}

// queueAge is how long samples may wait for remote write.
func (s *server) queueAge(configured time.Duration) time.Duration {
	if s.opts.Agent.maxTime > 0 {
		return s.opts.Agent.maxTime
	}
	return configured
}
