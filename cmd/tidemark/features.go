// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"slices"
	"strings"
)

// effect says what enabling one of Prometheus' features does here.
type effect uint8

const (
	acts    effect = iota // changes what the server does, as in Prometheus
	builtIn               // is always on
	idle                  // accepted; what it would change is not in this version
)

// feature is an entry of the table of names that --enable-feature knows.
type feature struct {
	effect effect
	why    string // for builtIn and idle: what to know
}

var knownFeatures = map[string]feature{
	"auto-reload-config":               {acts, ""},
	"created-timestamp-zero-ingestion": {acts, ""},
	"extra-scrape-metrics":             {acts, ""},
	sumDeltas:                          {acts, ""},
	keepDeltas:                         {acts, ""},
	"promql-binop-fill-modifiers":      {acts, ""},
	"promql-delayed-name-removal":      {acts, ""},
	"promql-experimental-functions":    {acts, ""},
	"promql-extended-range-selectors":  {acts, ""},
	"promql-per-step-stats":            {acts, ""},
	"type-and-unit-labels":             {acts, ""},
	"use-start-timestamps":             {acts, ""},

	"concurrent-rule-eval":   {builtIn, "every rule group evaluates on its own"},
	"exemplar-storage":       {builtIn, "exemplars are stored like samples"},
	"histograms-st-encoding": {builtIn, "start timestamps are stored with every kind of sample"},
	"metadata-wal-records":   {builtIn, "metadata is stored in the log"},
	"native-histograms":      {builtIn, "set scrape_native_histograms to scrape them"},
	"ooo-native-histograms":  {builtIn, "late histograms are stored like late floats"},
	"promql-duration-expr":   {builtIn, "durations may be expressions"},
	"st-storage":             {builtIn, "start timestamps are stored with every kind of sample"},

	"delayed-compaction":          {idle, "blocks are written in the background and need no delay"},
	"fast-startup":                {idle, "a start reads a checkpoint and the end of the log"},
	"memory-snapshot-on-shutdown": {idle, "a start reads a checkpoint and the end of the log"},
	"old-ui":                      {idle, "there is no older web interface"},
	"openmetrics2":                {idle, "OpenMetrics 2.0 is not scraped"},
	"search-api":                  {idle, "this version has no search API"},
	"st-synthesis":                {idle, "start timestamps are stored as they come"},
	"use-uncached-io":             {idle, "files are read and written through the page cache"},
	"xor2-encoding":               {idle, "blocks choose their own encoding"},
	"zstd-scrape":                 {idle, "scrapes are compressed with gzip"},
}

// features is the flag --enable-feature: names in the order given, commas taken apart.
type features []string

// IsCumulative tells kingpin that the flag may be repeated.
func (*features) IsCumulative() bool { return true }

func (f *features) String() string { return strings.Join(*f, ",") }

// Set adds the names of a comma-separated list. Unknown ones are kept: Prometheus starts with a
// name it does not know, and a command line may be older or newer than this server.
func (f *features) Set(list string) error {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(*f, name) {
			*f = append(*f, name)
		}
	}
	return nil
}

// on tells whether a feature was asked for.
func (f *features) on(name string) bool { return slices.Contains(*f, name) }

// logNotices says what each name means here.
func (f *features) logNotices(log *slog.Logger) {
	for _, name := range *f {
		known, ok := knownFeatures[name]
		switch {
		case !ok:
			log.Warn("unknown feature name", "feature", name)
		case known.effect == acts:
			log.Info("feature enabled", "feature", name)
		case known.effect == builtIn:
			log.Info("feature is always on", "feature", name, "why", known.why)
		case known.effect == idle:
			log.Info("feature accepted without effect", "feature", name, "why", known.why)
		}
	}
}

// byCategory says which features of the query language are on, for /api/v1/features.
func (f *features) byCategory() map[string]map[string]bool {
	out := map[string]map[string]bool{"promql": {}}
	for name := range knownFeatures {
		if short, ok := strings.CutPrefix(name, "promql-"); ok {
			out["promql"][strings.ReplaceAll(short, "-", "_")] = f.on(name)
		}
	}
	return out
}
