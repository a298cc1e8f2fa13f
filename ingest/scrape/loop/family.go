// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"strings"
	"sync"
	"unique"

	"github.com/prometheus/common/model"
)

// suffixes are those that the series of a family may have behind its name, by its type.
func suffixes(t model.MetricType) []string {
	switch t {
	case model.MetricTypeCounter:
		return []string{"_total"}
	case model.MetricTypeHistogram:
		return []string{"_bucket", "_sum", "_count"}
	case model.MetricTypeGaugeHistogram:
		return []string{"_bucket", "_gsum", "_gcount"}
	case model.MetricTypeSummary:
		return []string{"_sum", "_count"}
	case model.MetricTypeInfo:
		return []string{"_info"}
	default:
		return nil
	}
}

// ofFamily reports whether a series of this name belongs to a family. That of counters and infos may have the suffix in its
// own name already.
func ofFamily(series, family string, t model.MetricType) bool {
	if !strings.HasPrefix(series, family) {
		return false
	}
	all := suffixes(t)
	if t == model.MetricTypeCounter || t == model.MetricTypeInfo {
		family = strings.TrimSuffix(family, all[0])
	}
	for _, s := range all {
		if name, ok := strings.CutSuffix(series, s); ok {
			return name == family
		}
	}
	return series == family
}

// told is what the store has been told of metric families. Targets say it with each scrape, and many say the same.
type told struct {
	mu  sync.RWMutex
	all map[string]unique.Handle[described] // guarded by mu
}

// maxTold bounds it: 20 MB.
const maxTold = 100_000

// news reports whether d is not what the store was told last, and notes it.
func (t *told) news(name string, d unique.Handle[described]) bool {
	t.mu.RLock()
	old, ok := t.all[name]
	t.mu.RUnlock()
	if ok && old == d {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= maxTold {
		t.all = map[string]unique.Handle[described]{}
	}
	t.all[name] = d
	return true
}

// forget makes everything news again, after something was not stored.
func (t *told) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.all)
}
