// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/forward"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/web/api"
)

// forwardPercent is the part of memory.limit that rows on their way to receivers may take; names of series, and a small
// round of each receiver, are beyond it.
const forwardPercent = 10

// openForwarder makes what sends on the samples of a store, and lets it send what waits: the store tells it of what its
// log has and it has not.
func (s *server) openForwarder(db *tsdb.DB) (tsdb.Tap, error) {
	f, err := forward.New(s.forwardOptions(db))
	if err != nil {
		return nil, err
	}
	s.forwarder = f
	if err := s.applyForward(s.config.Load()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *server) forwardOptions(store forward.Store) forward.Options {
	return forward.Options{
		FS: s.fs, Dir: s.stateDir("forward"), Store: store, Flush: s.opts.Storage.RemoteFlushDeadline,
		Account:    s.memory.Child("remote write", s.memory.Limit()/100*forwardPercent),
		Beyond:     s.memory,
		Registerer: s.registry, Logger: s.log.With("component", "remote write out"),
	}
}

// applyForward sets who is sent what the store accepts. In a trial beside another server that is nobody, and what waits
// from before stays.
func (s *server) applyForward(c *config.Config) error {
	if s.shadow() {
		return nil
	}
	limits := c.Tidemark.RemoteWriteQueue
	_, total, err := s.fs.Usage(existingParent(s.opts.Storage.Path))
	if err != nil {
		return fmt.Errorf("how much may wait for remote write: %w", err)
	}
	s.forwarder.SetLimits(forward.Limits{Bytes: limits.MaxSize.Of(int64(total)), Age: s.queueAge(time.Duration(limits.MaxAge))})
	return s.forwarder.ApplyConfig(c.Prom)
}

// conditionForwarding is the code of the state in which samples are not put into the queue of remote write.
const conditionForwarding = "remote_write_queue"

// forwardConditions is that state, if it holds.
func (s *server) forwardConditions() []api.Condition {
	if s.forwarder == nil {
		return nil
	}
	r, ok := s.forwarder.Refusing()
	if !ok {
		return nil
	}
	return []api.Condition{{
		Code: conditionForwarding, Since: r.Since,
		Effect:   fmt.Sprintf("%d samples were stored here and not forwarded, because the queue of remote write cannot be written: %v", r.Samples, r.Err),
		NextStep: "make room on the disk, or look at its health; the queue is tried again by itself",
	}}
}
