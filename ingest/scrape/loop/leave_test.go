// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// watched is a database, and the values that it has taken.
type watched struct {
	*tsdb.DB

	taken []float64
	stale int
}

func (w *watched) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	lsn, err := w.DB.Commit(ctx, b, r)
	for i := range b.Len() {
		if r.At(i) == sample.StaleRef {
			w.stale++
		} else if r.At(i).Stored() {
			w.taken = append(w.taken, b.V[i])
		}
	}
	return lsn, err
}

// tick stores a sample of another series.
func (w *watched) tick(t *testing.T, at time.Time) {
	t.Helper()
	refs := []sample.Ref{0}
	if err := w.Resolve([]labels.Labels{labels.FromStrings(labels.MetricName, "clock")}, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	b.AppendFloat(refs[0], 0, at.UnixMilli(), 1, 0)
	if _, err := w.DB.Commit(t.Context(), &b, &sample.Result{}); err != nil {
		t.Fatal(err)
	}
}

// TestSeriesThatLeftTheDatabaseComeBack: with times of their own and without, once their target is up again.
func TestSeriesThatLeftTheDatabaseComeBack(t *testing.T) {
	b := newBench(t)
	db, err := tsdb.Open(t.Context(), tsdb.Options{
		Dir: "/data", FS: fsx.NewCrashable(), Slot: time.Minute, Shards: 2, Now: func() time.Time { return b.at },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := &watched{DB: db}
	in, err := ingest.New(ingest.Options{Appender: store, Foreseer: store})
	if err != nil {
		t.Fatal(err)
	}
	b.pool.intake = in
	for i := range 9 {
		b.at = b.at.Add(time.Second)
		if i%3 == 2 { // all but one are silent for long
			for range 10 {
				b.at = b.at.Add(time.Minute)
				store.tick(t, b.at)
				for _, step := range []func(context.Context) error{db.Maintain, db.Compact} {
					if err := step(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		own, scraped := float64(1000+i), float64(2000+i)
		text := fmt.Appendf(nil, "own %g %d\nscraped %g\n", own, b.at.UnixMilli(), scraped)
		b.Loop.store(&body{bytes: append(make([]byte, 0, 1000), text...), contentType: "text/plain"}, result{}, b.at, b.at)
		for _, v := range []float64{own, scraped} {
			if !slices.Contains(store.taken, v) {
				t.Errorf("scrape %d: %g is not stored", i, v)
			}
		}
	}
	if store.stale == 0 {
		t.Error("no series had left: the test shows nothing")
	}
}
