// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// fate says what becomes of a key of Prometheus' configuration.
type fate uint8

const (
	acts  fate = iota // as in Prometheus
	inert             // accepted without effect, named in one log line
)

// promKey is the fate of a key and of all below it that no longer row names.
type promKey struct {
	path string
	fate fate
	why  string // shown in the reference
}

// promKeys covers every key of Prometheus' Config; a test holds it against the struct.
var promKeys = []promKey{
	{"global", acts, "as in Prometheus"},
	{"runtime.gogc", inert, "the collector follows the memory limit; GOGC in the environment is heeded"},
	{"runtime.log_level", inert, "--log.level decides"},
	{"alerting", acts, "as in Prometheus"},
	{"rule_files", acts, "as in Prometheus"},
	{"scrape_config_files", acts, "as in Prometheus"},
	{"scrape_configs", acts, "as in Prometheus; discovery is Prometheus' own, and so are the parsers"},
	{"storage.exemplars", inert, "the newest 65,536 exemplars are kept"},
	{"storage.tsdb.out_of_order_time_window", acts, "governs scraped and pushed samples where it is set; see tidemark.storage.late_window"},
	{"storage.tsdb.retention.time", acts, "as in Prometheus"},
	{"storage.tsdb.retention.size", acts, "bounds blocks, parts of the head, log and checkpoints together"},
	{"storage.tsdb.retention.percentage", acts, "of the file system's size; bounds blocks, parts of the head, log and checkpoints together"},
	{"storage.tsdb.stale_series_compaction_threshold", inert, "the head of this storage needs no such compaction"},
	{"storage.tsdb.chunk_encoding", inert, "this storage has encodings of its own"},
	{"tracing", inert, "spans are not exported yet"},
	{"remote_write", acts, "as in Prometheus; what waits is on disk, within `tidemark.remote_write_queue`"},
	{"remote_read", acts, "as in Prometheus"},
	{"otlp", acts, "as in Prometheus"},
}

// rowOf returns the row with the longest path that covers a key.
func rowOf(path string) (promKey, bool) {
	best, found := promKey{}, false
	for _, k := range promKeys {
		if (path == k.path || strings.HasPrefix(path, k.path+".")) && (!found || len(k.path) > len(best.path)) {
			best, found = k, true
		}
	}
	return best, found
}

// inertPromKeys returns the paths of the table's inert rows that the document sets, in the table's order.
func inertPromKeys(root *yaml.Node) []string {
	var keys []string
	for _, k := range promKeys {
		if k.fate != inert {
			continue
		}
		n := root
		for part := range strings.SplitSeq(k.path, ".") {
			n = lookup(n, part)
		}
		if n != nil && !isNull(n) && !slices.Contains(keys, k.path) {
			keys = append(keys, k.path)
		}
	}
	return keys
}
