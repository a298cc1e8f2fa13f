// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Command tidemark is the server: it reads the command line and the configuration, opens the
// store, and runs ingestion, rules and the HTTP interface until it is told to stop.
//
// Exit codes: 0 after a stop that was asked for, 1 when a configuration or a resource cannot be
// used, 2 for a command line that cannot be read, 3 for a flag of the other mode.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/common/promslog"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is main with its exit code as a value.
func run(args []string) int {
	o, err := parseFlags(args, os.Stdout)
	if e, ok := errors.AsType[exit](err); ok {
		if e.msg != "" {
			fmt.Fprintln(os.Stderr, "tidemark:", e.msg)
		}
		return e.code
	}
	log := promslog.New(&o.Log)
	o.logNotices(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := newServer(o, log)
	if err != nil {
		log.Error("tidemark cannot start", "err", err)
		return exitConfig
	}
	if err := s.run(ctx); err != nil {
		log.Error("tidemark stopped with an error", "err", err)
		return exitConfig
	}
	log.Info("tidemark stopped")
	return 0
}
