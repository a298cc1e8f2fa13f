// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/prom"
	"github.com/tidemarkdb/tidemark/web/api"
)

const (
	defaultRetention = 15 * 24 * time.Hour
	// minFree is the least free space at which the store still writes, whatever is configured: room to delete,
	// to checkpoint and to log why.
	minFree = 1 << 30
)

// storeOptions are the settings of the store from the command line and the configuration.
func (s *server) storeOptions() tsdb.Options {
	c := s.config.Load()
	o := tsdb.Options{
		Dir: s.opts.Storage.Path, FS: s.fs, SegmentBytes: s.opts.Storage.SegmentSize,
		NoLock: s.opts.Storage.NoLockfile, Budget: s.memory.Child("store", 0), Logger: s.log.With("component", "tsdb"),
		MaxFuture: time.Duration(c.Tidemark.Storage.MaxFuture), Now: s.now,
	}
	o.Retention, o.RetentionBytes = s.retention(c)
	o.RetentionPolicies, o.MaxBlock = s.retentionPolicies(c), s.opts.Storage.MaxBlock
	if c.Tidemark.Storage.WALSync == "process" {
		o.Sync = journal.Process
	}
	o.Late = lateWindows(c)
	o.MinFree, o.DeleteOldest = s.minFreeSpace(c), deleteOldest(c)
	o.Scrub, o.ScrubBytes = scrubRate(c)
	o.BlockCache, o.SeriesCache = cacheSize(s.memory.Limit()), cacheSize(s.memory.Limit())
	o.Foreign = prom.Directory{Logger: s.log.With("component", "tsdb"), Account: o.Budget}
	o.Tap = s.openForwarder
	if s.opts.Agent.on {
		s.asAgent(&o)
	}
	o.DeleteForeign = c.Tidemark.Storage.PrometheusOriginals == "delete"
	return o
}

// cacheSize is the size of each of the store's caches where the process may take so much memory; 0: the store's default.
func cacheSize(limit int64) int64 {
	const most, share = 64 << 20, 16
	if limit <= 0 {
		return 0
	}
	return min(most, limit/share)
}

// minFreeSpace is the reserve of the disk that holds the data path, in bytes. On a disk of which the floor of
// 1 GiB would be more than a tenth, the setting alone counts.
func (s *server) minFreeSpace(c *config.Config) int64 {
	_, total, err := s.fs.Usage(existingParent(s.opts.Storage.Path))
	if err != nil {
		return minFree
	}
	want := c.Tidemark.Storage.MinFreeSpace.Of(int64(total))
	if total >= 10*minFree {
		want = max(want, minFree)
	}
	return want
}

// scrubRate is which part of all files, or how many bytes, are read again within an hour.
func scrubRate(c *config.Config) (share float64, bytes int64) {
	size := c.Tidemark.Storage.Scrub
	if size == (config.Size{}) {
		return -1, 0
	}
	return size.Percent / 100, size.Bytes
}

// deleteOldest says what happens when less is free.
func deleteOldest(c *config.Config) bool { return c.Tidemark.Storage.OnFull == "delete_oldest" }

// retention is how long and how much is kept: the configuration's, else the flags', else 15 days.
func (s *server) retention(c *config.Config) (time.Duration, int64) {
	if s.opts.Agent.on {
		return agentKeep, 0
	}
	keep, size := s.opts.Storage.RetentionTime, s.opts.Storage.RetentionSize
	if t := c.Prom.StorageConfig.TSDBConfig; t != nil && t.Retention != nil {
		if t.Retention.Time > 0 {
			keep = time.Duration(t.Retention.Time)
		}
		if t.Retention.Size > 0 {
			size = int64(t.Retention.Size)
		}
		if t.Retention.Percentage > 0 {
			if _, total, err := s.fs.Usage(existingParent(s.opts.Storage.Path)); err == nil {
				size = int64(t.Retention.Percentage / 100 * float64(total))
			}
		}
	}
	if keep == 0 && size == 0 {
		keep = defaultRetention
	}
	return keep, size
}

// retentionPolicies are those of the configuration, whose selectors were read when it was loaded.
func (s *server) retentionPolicies(c *config.Config) []tsdb.RetentionPolicy {
	if s.opts.Agent.on {
		return nil
	}
	selectors := parser.NewParser(parser.Options{})
	var out []tsdb.RetentionPolicy
	for _, r := range c.Tidemark.Storage.Retention {
		if ms, err := selectors.ParseMetricSelector(r.Match); err == nil {
			out = append(out, tsdb.RetentionPolicy{Name: r.Name, Match: ms, Keep: time.Duration(r.Keep)})
		}
	}
	return out
}

// lateWindows are how late samples may be. Prometheus' own setting, where there is one, governs both ways in.
func lateWindows(c *config.Config) tsdb.LateWindows {
	if t := c.Prom.StorageConfig.TSDBConfig; t != nil && c.LateWindowSet {
		w := time.Duration(t.OutOfOrderTimeWindow) * time.Millisecond
		return tsdb.LateWindows{Push: &w, Scrape: w}
	}
	late := c.Tidemark.Storage.LateWindow
	var w tsdb.LateWindows
	if !late.Push.Retention {
		d := time.Duration(late.Push.Duration)
		w.Push = &d
	}
	w.Scrape = time.Duration(late.Scrape.Duration)
	if late.Scrape.Retention {
		w.Scrape = tsdb.AllRetention
	}
	return w
}

// storeView is the store in the words of the HTTP API.
type storeView struct{ db *tsdb.DB }

// Stats returns figures of the head, each list cut to its limit largest entries.
func (v storeView) Stats(limit int) (api.StoreStats, error) {
	if err := v.db.Whole(); err != nil { // figures of half a head would be taken for all
		return api.StoreStats{}, err
	}
	st, ix := v.db.Stats(), v.db.Cardinality(limit)
	return storeStats(api.HeadStats{ChunkCount: int64(st.Head.Chunks), MinTime: st.Head.MinT, MaxTime: st.Head.MaxT, NumSeries: uint64(st.Head.Series)}, ix), nil
}

// StatsOf returns figures of all that holds samples of a range.
func (v storeView) StatsOf(ctx context.Context, q api.StatsQuery) (api.StoreStats, annotations.Annotations, error) {
	ix, warnings, err := v.db.CardinalityIn(ctx, tsdb.CardinalityQuery{MinT: q.MinTime, MaxT: q.MaxTime, Sets: q.Sets, Limit: q.Limit})
	if err != nil {
		return api.StoreStats{}, nil, err
	}
	st := v.db.Stats()
	return storeStats(api.HeadStats{MinTime: max(q.MinTime, st.MinT), MaxTime: min(q.MaxTime, st.MaxT), NumSeries: uint64(ix.Series)}, ix), warnings, nil
}

func storeStats(h api.HeadStats, ix index.Stats) api.StoreStats {
	h.NumLabelPairs = ix.LabelPairs
	return api.StoreStats{
		Head:                    h,
		SeriesCountByMetricName: counts(ix.SeriesByMetric), LabelValueCountByLabelName: counts(ix.ValuesByLabel),
		MemoryInBytesByLabelName: counts(ix.BytesByLabel), SeriesCountByLabelValuePair: counts(ix.SeriesByLabelPair),
	}
}

// Blocks lists the blocks.
func (v storeView) Blocks() []api.Block {
	metas := v.db.Blocks()
	out := make([]api.Block, len(metas))
	for i, m := range metas {
		out[i] = api.Block{
			ULID: m.ULID, MinTime: m.MinT, MaxTime: m.MaxT + 1, Version: 1,
			Stats:      api.BlockStats{NumSamples: m.Floats + m.Histograms, NumSeries: m.Series},
			Compaction: api.BlockCompaction{Level: m.Level + 1, Sources: append([]string{m.ULID}, m.Sources...)},
		}
	}
	return out
}

// Replay says how far the start is, in records of the log; zero when it is over.
func (v storeView) Replay() api.Replay {
	done, all := v.db.Restoring()
	return api.Replay{Max: all, Current: done}
}

// conditions are the states of the store that are not normal.
func (s *server) conditions() []api.Condition {
	cs := s.db.Conditions()
	out := make([]api.Condition, len(cs))
	for i, c := range cs {
		out[i] = api.Condition{Code: c.Code, Since: c.Since, Effect: c.Effect, NextStep: c.NextStep}
	}
	return append(append(out, s.limitConditions()...), s.forwardConditions()...)
}

// ingestionStopped says whether samples cannot come in: then no alert resolves for lack of them.
func (s *server) ingestionStopped() bool {
	for _, c := range s.db.Conditions() {
		if c.Code == tsdb.ConditionReadOnly || c.Code == tsdb.ConditionFailedSync {
			return true
		}
	}
	return false
}

func retentionText(keep time.Duration, size int64) string {
	switch {
	case keep > 0 && size > 0:
		return model.Duration(keep).String() + " or " + config.Size{Bytes: size}.String()
	case size > 0:
		return config.Size{Bytes: size}.String()
	}
	return model.Duration(keep).String()
}

func counts(in []index.Stat) []api.Count {
	out := make([]api.Count, len(in))
	for i, x := range in {
		out[i] = api.Count{Name: x.Name, Value: x.Value}
	}
	return out
}

// existingParent is dir, or the nearest directory above it that exists.
func existingParent(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
