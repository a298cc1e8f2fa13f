// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// What an expression matched stays in the cache for as long as the block is open, and is charged.
func TestMatchesAreKeptInTheCache(t *testing.T) {
	fs := fsx.NewCrashable()
	write(t, fs, manyContent(500, 1))
	root := budget.NewRoot("test", 0)
	cache := block.NewCache(1<<20, root)
	b, err := block.Open(fs, block.Path("blocks", testID), cache, block.Options{Account: root})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(entries int64, hits uint64) {
		t.Helper()
		x := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".*1.*|.*e.*")
		if _, err := b.Index().Select(budget.NewTask(t.Context(), nil), []*labels.Matcher{x}); err != nil {
			t.Fatal(err)
		}
		if s := cache.Stats(); s.Entries != entries || s.Hits != hits || s.Bytes == 0 {
			t.Errorf("cache %+v, want %d entries and %d hits", s, entries, hits)
		}
	}
	ask(1, 0)
	ask(1, 1)
	cache.Resize(0)
	if s := cache.Stats(); s.Entries != 0 || s.Bytes != 0 {
		t.Errorf("cache %+v after it was emptied", s)
	}
	cache.Resize(1 << 20)
	ask(1, 1)
	if err := b.Close(); err != nil || root.Used() != 0 {
		t.Errorf("%v, %d bytes are charged after the block is closed", err, root.Used())
	}
}
