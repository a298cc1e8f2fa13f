// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// restartScrapes is an hour of them, 15 s apart; the last of them are in no checkpoint.
const (
	restartScrapes = 240
	restartTail    = 16
)

// killed returns the directory of a store whose process was killed: that of hosts of 400 series with an hour of samples
// each, of which most are in parts, as after so many in a running server. RESTART_HOSTS says how many hosts.
func killed(b *testing.B) (dir string, series int) {
	hosts := 50
	if text := os.Getenv("RESTART_HOSTS"); text != "" {
		var err error
		if hosts, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	o := Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process, NoLock: true}
	db := openTest(b, o)
	ls := fleet(hosts)
	// Up to now: slots of long ago would be cut into blocks while they are filled.
	const step = 15_000
	start := time.Now().UnixMilli() - restartScrapes*step
	fill(b, db, ls, start, restartScrapes-restartTail)
	if err := errors.Join(db.Spill(b.Context()), db.Checkpoint(b.Context())); err != nil {
		b.Fatal(err)
	}
	fill(b, db, ls, start+(restartScrapes-restartTail)*step, restartTail)
	if err := db.Durable(b.Context(), db.journal.Last()); err != nil {
		b.Fatal(err)
	}
	db.maintain.Lock() // nothing is written meanwhile
	defer db.maintain.Unlock()
	return copied(b, o.Dir), len(ls)
}

// copied returns a copy of a store.
func copied(b *testing.B, dir string) string {
	b.Helper()
	to := b.TempDir()
	if err := os.CopyFS(filepath.Join(to, "tidemark"), os.DirFS(filepath.Join(dir, "tidemark"))); err != nil {
		b.Fatal(err)
	}
	return to
}

// BenchmarkRestart is the start of a store after kill -9, from the call until samples are taken and until queries see
// all of them, and what it does in that time.
func BenchmarkRestart(b *testing.B) {
	dir, series := killed(b)
	for b.Loop() {
		b.StopTimer()
		o := Options{Dir: copied(b, dir), MaxFuture: -1, Sync: journal.Process, NoLock: true}
		b.StartTimer()
		start, cpu := time.Now(), processTime(b)
		db, err := Start(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		takes := time.Since(start)
		if err := db.Await(context.Background(), minTime, maxTime); err != nil {
			b.Fatal(err)
		}
		whole, cpu := time.Since(start), processTime(b)-cpu
		b.StopTimer()
		r := db.Recovery()
		b.Logf("%d series, %d rows of log: takes samples after %v, whole after %v, %v of processor time; files %v, checkpoint %v, series %v, rows %v",
			series, r.Samples, takes, whole, cpu, r.Phases.Files, r.Phases.Checkpoint, r.Phases.Series, r.Phases.Rows)
		b.ReportMetric(float64(takes.Milliseconds()), "ms-to-take")
		b.ReportMetric(float64(whole.Milliseconds()), "ms-to-whole")
		b.ReportMetric(float64(cpu.Milliseconds()), "cpu-ms")
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(o.Dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
