// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "github.com/tidemarkdb/tidemark/ingest/scrape/kinds" // The discovery kinds that the build tags choose.
)
