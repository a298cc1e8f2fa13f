// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Writers keep the refs of series that fall silent and come back, while slots become blocks, series leave the head and
// their ids are given to others. Every accepted sample is there, under its own series, and after a power cut too.
func TestSeriesThatLeaveWhileSamplesComeLoseNoneOfThem(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	l := newLedger()
	const writers, series = 3, 8
	var clock, stale atomic.Int64 // ms; rows of refs whose series had left
	var rounds atomic.Int64       // of maintenance
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			refs := make([]sample.Ref, series)
			for step := range 400 {
				ts := clock.Add(500 + rng.Int64N(1000))
				i := (step/40 + rng.IntN(2)) % series // the others are silent for some slots
				churn(t, db, l, &stale, labels.FromStrings(labels.MetricName, "m", "w", string(rune('a'+w)), "i", string(rune('a'+i))), &refs[i], ts)
				for at := rounds.Load(); step%20 == 19 && rounds.Load() == at; {
					runtime.Gosched() // so that both are at work until the end
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for ; ; rounds.Add(1) {
		steps := []func(context.Context) error{db.Maintain, db.Spill, db.Maintain, db.Compact}
		if err := steps[rounds.Load()%int64(len(steps))](t.Context()); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	l.check(t, "at the end", db, l.clone())
	l.check(t, "after a power cut", openTest(t, small(disk.Crash(0, seed))), l.clone())
	if stale.Load() == 0 {
		t.Error("no series had left: the test shows nothing")
	}
}

// churn writes one sample by a ref that may be old, and by a new one where its series has left.
func churn(t *testing.T, db *DB, l *ledger, stale *atomic.Int64, ls labels.Labels, ref *sample.Ref, ts int64) {
	one := []labels.Labels{ls}
	value := func(int) float64 { return float64(ts) + float64(ls.Hash()%1000)/1000 }
	l.note(l.sent, one, ts, value)
	for {
		if *ref == 0 {
			refs := []sample.Ref{0}
			if err := db.Resolve(one, refs); err != nil {
				t.Error(err)
				return
			}
			*ref = refs[0]
		}
		var b sample.Batch
		var r sample.Result
		b.AppendFloat(*ref, 0, ts, value(0), 0)
		lsn, err := db.Commit(context.Background(), &b, &r)
		if err == nil {
			err = db.Durable(context.Background(), lsn)
		}
		if err != nil {
			t.Error(err)
			return
		}
		if r.Reason == nil || r.Reason[0].Stored() {
			l.note(l.acked, one, ts, value)
			return
		}
		if r.Reason[0] != sample.StaleRef {
			t.Errorf("%s at %d: %s", ls, ts, r.Reason[0])
			return
		}
		stale.Add(1)
		*ref = 0
	}
}
