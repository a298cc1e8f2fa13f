// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package kinds links the kinds of service discovery into a binary that imports it; it holds nothing else. A package
// of its own keeps their libraries, which take minutes to compile, out of everything but the binary.
//
// Which kinds are linked is decided by Prometheus' build tags: without tags all of them; with remove_all_sd only
// static, file and http, and those whose tag enable_<kind>_sd is given too. A kind that a configuration uses and the
// binary lacks is an error that names its tag (package config).
package kinds

import (
	_ "github.com/prometheus/prometheus/plugins" // Every plugin registers its kind when it is linked.
)
