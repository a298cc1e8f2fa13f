// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Sources are what the endpoints answer from. Engine and Data are required; where another one is nil, the server
// lacks that part and its endpoints answer as an empty Prometheus would.
type Sources struct {
	Engine        promql.QueryEngine
	Data          column.Source
	Local         column.Source // Data without what other servers have, for federation; nil: Data
	Queries       Queries
	Rules         Rules
	Targets       Targets
	Alertmanagers Alertmanagers
	Admin         Admin
	Store         Store
	Keeper        Keeper
	// RemoteWrite receives /write; nil: the receiver is off.
	RemoteWrite http.Handler
	// OTLP receives /otlp/v1/metrics; nil: the receiver is off.
	OTLP http.Handler
	// Push receives what comes to the paths of other databases and to /api/v1/import; nil: nothing does.
	Push http.Handler
	// Scratch opens a store for what the rules of a backtest record; nil: there are no backtests.
	Scratch OpenScratch
	// Exports is charged for what exports take in memory; nil: nothing is.
	Exports *budget.Account
	// Backfill fills recording rules in, those of RulesInUse where a request brings none.
	Backfill   Backfill
	RulesInUse func() (rules.Config, error)
	// Config returns the configuration in use as YAML, secrets hidden.
	Config func() string
	// ExternalLabels returns those of the configuration in use.
	ExternalLabels func() labels.Labels
	// Flags are the command line flags by name.
	Flags map[string]string
	// Features says which features are on, by category.
	Features func() map[string]map[string]bool
	// Runtime describes the running process.
	Runtime func() RuntimeInfo
	Build   BuildInfo
	// Conditions lists the states that are not normal.
	Conditions func() []Condition
	// Agent says that the server only sends samples on: it answers nothing about them.
	Agent bool
	// SeriesLimits tells the limits on the number of series, how far they are used and who goes beyond, as a list.
	SeriesLimits func() any
	// Rejected tells what was not stored of what came in, by reason, with the last examples, as a list.
	Rejected func() any
}

// Rules is implemented by *rules.Manager.
type Rules interface {
	Groups() []rules.GroupStatus
	Alerts() []rules.AlertStatus
}

// Targets is implemented by Prometheus' *scrape.Manager.
type Targets interface {
	ScrapePools() []string
	TargetsActive() map[string][]*scrape.Target
	TargetsDropped() map[string][]*scrape.Target
	TargetsDroppedCounts() map[string]int
	ScrapePoolConfig(pool string) (*config.ScrapeConfig, error)
}

// Alertmanagers lists the Alertmanagers that alerts go to, and those discovered but relabelled away.
type Alertmanagers interface {
	Alertmanagers() []*url.URL
	DroppedAlertmanagers() []*url.URL
}

// Admin changes what is stored.
type Admin interface {
	// Delete hides the samples in [mint, maxt] of the series that match all of ms.
	Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error
	// CleanTombstones frees the space of what was deleted.
	CleanTombstones(ctx context.Context) error
	// Snapshot copies the store and returns the name of the copy. With skipHead the newest samples, which are in
	// no block yet, are left out.
	Snapshot(ctx context.Context, skipHead bool) (string, error)
}

// Store describes the storage.
type Store interface {
	// Stats returns figures of the mutable part, each list cut to its limit largest entries.
	Stats(limit int) (StoreStats, error)
	// StatsOf returns figures of all that holds samples of a range, with warnings of what is missing from them.
	StatsOf(ctx context.Context, q StatsQuery) (StoreStats, annotations.Annotations, error)
	Blocks() []Block
	Replay() Replay
}

// StatsQuery says what figures are asked for.
type StatsQuery struct {
	MinTime, MaxTime int64 // Unix milliseconds, both inclusive
	// Sets are of matchers; series count that match all of any of them. None: all series.
	Sets [][]*labels.Matcher
	// Limit is how long each list may be.
	Limit int
}

// StoreStats is the answer of /status/tsdb.
type StoreStats struct {
	Head                        HeadStats `json:"headStats"`
	SeriesCountByMetricName     []Count   `json:"seriesCountByMetricName"`
	LabelValueCountByLabelName  []Count   `json:"labelValueCountByLabelName"`
	MemoryInBytesByLabelName    []Count   `json:"memoryInBytesByLabelName"`
	SeriesCountByLabelValuePair []Count   `json:"seriesCountByLabelValuePair"`
}

// HeadStats are figures of the mutable part of the store, or of the range that was asked for; then it counts no chunks.
type HeadStats struct {
	NumSeries     uint64 `json:"numSeries"`
	NumLabelPairs int    `json:"numLabelPairs"`
	ChunkCount    int64  `json:"chunkCount"`
	MinTime       int64  `json:"minTime"`
	MaxTime       int64  `json:"maxTime"`
}

// Count is a name and how often or how much there is of it.
type Count struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Block describes an immutable block in the words of Prometheus.
type Block struct {
	ULID       string          `json:"ulid"`
	MinTime    int64           `json:"minTime"` // Unix milliseconds
	MaxTime    int64           `json:"maxTime"` // Unix milliseconds, exclusive
	Stats      BlockStats      `json:"stats"`
	Compaction BlockCompaction `json:"compaction"`
	Version    int             `json:"version"`
}

// BlockStats counts what a block holds.
type BlockStats struct {
	NumSamples    uint64 `json:"numSamples,omitempty"`
	NumSeries     uint64 `json:"numSeries,omitempty"`
	NumChunks     uint64 `json:"numChunks,omitempty"`
	NumTombstones uint64 `json:"numTombstones,omitempty"`
}

// BlockCompaction says how a block came to be.
type BlockCompaction struct {
	Level   int      `json:"level"`
	Sources []string `json:"sources,omitempty"`
}

// Replay says how far the start has come: segments of the log from Min to Max, Current done.
type Replay struct {
	Min     int `json:"min"`
	Max     int `json:"max"`
	Current int `json:"current"`
}

// Condition is a state that is not normal, with what it means and what to do about it.
type Condition struct {
	Code     string    `json:"code"`
	Since    time.Time `json:"since"`
	Effect   string    `json:"effect"`
	NextStep string    `json:"nextStep"`
}

// BuildInfo names the build. Version is the Prometheus version whose behaviour is served, because clients choose
// their requests by it; Tidemark is ours.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	Branch    string `json:"branch"`
	BuildUser string `json:"buildUser"`
	BuildDate string `json:"buildDate"`
	GoVersion string `json:"goVersion"`
	Tidemark  string `json:"tidemark"`
}

// RuntimeInfo describes the running process.
type RuntimeInfo struct {
	StartTime           time.Time `json:"startTime"`
	CWD                 string    `json:"CWD"`
	Hostname            string    `json:"hostname"`
	ServerTime          time.Time `json:"serverTime"`
	ReloadConfigSuccess bool      `json:"reloadConfigSuccess"`
	LastConfigTime      time.Time `json:"lastConfigTime"`
	CorruptionCount     int64     `json:"corruptionCount"`
	GoroutineCount      int       `json:"goroutineCount"`
	GOMAXPROCS          int       `json:"GOMAXPROCS"`
	GOMEMLIMIT          int64     `json:"GOMEMLIMIT"`
	GOGC                string    `json:"GOGC"`
	GODEBUG             string    `json:"GODEBUG"`
	StorageRetention    string    `json:"storageRetention"`
}

func (a *API) externalLabels() labels.Labels {
	if a.src.ExternalLabels == nil {
		return labels.EmptyLabels()
	}
	return a.src.ExternalLabels()
}
