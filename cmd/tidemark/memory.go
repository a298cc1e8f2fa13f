// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// gcPercent lets garbage reach half of what lives before it is collected. What lives on the Go heap is small,
// because series are kept outside of it, so that the collector's work costs little and memory counts.
const gcPercent = 50

// setMemoryLimit derives the process's budget from memory.limit and makes the Go runtime keep to it. GOMEMLIMIT of
// the environment may lower the limit, never raise it.
func setMemoryLimit(o *options, m config.Memory, log *slog.Logger) *budget.Account {
	total, err := memlimit.FromCgroup()
	if err != nil || total == 0 || total > math.MaxInt64 {
		if total, err = memlimit.FromSystem(); err != nil {
			log.Warn("cannot tell how much memory there is: no memory limit is set", "err", err)
			return budget.NewRoot("process", 0)
		}
	}
	limit := m.Limit.Of(int64(total))
	if env := debug.SetMemoryLimit(-1); os.Getenv("GOMEMLIMIT") != "" {
		limit = min(limit, env)
	}
	if limit <= 0 {
		return budget.NewRoot("process", 0)
	}
	if o.MemLimit {
		debug.SetMemoryLimit(limit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log.Info("memory budget", "limit_bytes", limit, "of_bytes", total)
	return budget.NewRoot("process", limit)
}
