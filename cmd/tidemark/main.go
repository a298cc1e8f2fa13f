// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Command tidemark is the server: it reads the command line and the configuration, opens the
// store, and runs ingestion, rules and the HTTP interface until it is told to stop.
//
// Exit codes: 0 after a stop that was asked for, 1 when a configuration or a resource cannot be
// used, 2 for a command line that cannot be read, 3 for a flag of Prometheus' agent mode.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/common/promslog"
)

func main() {
	o, err := parseFlags(os.Args[1:], os.Stdout)
	if e, ok := errors.AsType[exit](err); ok {
		if e.msg != "" {
			fmt.Fprintln(os.Stderr, "tidemark:", e.msg)
		}
		os.Exit(e.code)
	}
	o.logNotices(promslog.New(&o.Log))
}
