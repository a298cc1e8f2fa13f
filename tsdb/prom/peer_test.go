// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// peerOptions are those of a Prometheus whose directory is made by a test.
type peerOptions struct {
	late    int64 // how late samples may be, ms; 0: not
	xor2    bool  // XOR2 chunks with start timestamps
	delete  bool  // some series lose a time range, before and after the blocks are made
	compact bool  // the head becomes blocks, where it is old enough
	blocks  int64 // longest block, ms; 0: 2 h
}

// peer is Prometheus' storage with the mix in it.
type peer struct {
	dir   string
	db    *tsdb.DB
	lines map[string][]string // what it answers
}

// newPeer fills a data directory the way a Prometheus does: commits in time order, a share of the samples late.
func newPeer(t *testing.T, rng *rand.Rand, m *mix, o peerOptions) *peer {
	t.Helper()
	p := newPeerOf(t, t.TempDir(), o)
	p.append(t, rng, m, o)
	if o.delete {
		p.delete(t, epoch+hour, epoch+2*hour, "m1")
	}
	if o.compact {
		if err := p.db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if o.delete {
		p.delete(t, epoch+90*60_000, epoch+150*60_000, "m2")
		p.delete(t, math.MinInt64, math.MaxInt64, "m3")
	}
	p.lines = p.answers(t)
	return p
}

// newPeerOf is a Prometheus on a directory.
func newPeerOf(t *testing.T, dir string, o peerOptions) *peer {
	t.Helper()
	p := &peer{dir: dir}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = 0
	opts.MinBlockDuration, opts.MaxBlockDuration = 2*hour, max(2*hour, o.blocks)
	opts.OutOfOrderTimeWindow = o.late
	opts.WALSegmentSize = 1 << 17
	if o.xor2 {
		opts.FloatChunkEncoding, opts.EnableSTStorage, opts.EnableHistogramSTEncoding = chunkenc.EncXOR2, true, true
	}
	var err error
	if p.db, err = tsdb.Open(p.dir, nil, nil, opts, nil); err != nil {
		t.Fatal(err)
	}
	p.db.DisableCompactions() // but for those that a test asks for
	t.Cleanup(func() {
		if p.db != nil {
			_ = p.db.Close()
		}
	})
	return p
}

// answers is everything it answers.
func (p *peer) answers(t *testing.T) map[string][]string {
	t.Helper()
	q, err := p.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	return querierLines(t, q)
}

func (p *peer) delete(t *testing.T, mint, maxt int64, metric string) {
	t.Helper()
	if err := p.db.Delete(t.Context(), mint, maxt, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric)); err != nil {
		t.Fatal(err)
	}
}

func (p *peer) close(t *testing.T) {
	t.Helper()
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	p.db = nil
}

// append commits all samples in time order, every tenth up to half of the late window after its time.
func (p *peer) append(t *testing.T, rng *rand.Rand, m *mix, o peerOptions) {
	t.Helper()
	type row struct {
		at int64 // when it comes
		ls labels.Labels
		x  columntest.Sample
	}
	var rows []row
	for _, s := range m.series {
		for _, x := range s.samples {
			r := row{at: x.T, ls: s.ls, x: x}
			if o.late > 0 && rng.IntN(10) == 0 {
				r.at += rng.Int64N(o.late / 2)
			}
			if o.xor2 {
				r.x.ST = x.T - 1000*(1+rng.Int64N(100))
			}
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.at, b.at) })
	for len(rows) > 0 {
		app := p.db.AppenderV2(t.Context())
		end := rows[0].at + 60_000
		for len(rows) > 0 && rows[0].at < end {
			r := rows[0]
			rows = rows[1:]
			if _, err := app.Append(0, r.ls, r.x.ST, r.x.T, r.x.V, r.x.H, r.x.FH, storage.AOptions{}); err != nil {
				t.Fatalf("append %s at %d: %v", r.ls, r.x.T, err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// copyOf copies a directory, as it is found after a crash: without the lock.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(to, "lock")); err != nil {
		t.Fatal(err)
	}
	return to
}

// contents is what all files of a directory hold, but for those of the store.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, dir)
		if e.IsDir() {
			if rel == "/tidemark" {
				return fs.SkipDir
			}
			out[rel] = "directory"
			return nil
		}
		if rel == "/lock" {
			return nil
		}
		text, err := os.ReadFile(name)
		info, ierr := e.Info()
		if err != nil || ierr != nil {
			return fmt.Errorf("%w %w", err, ierr)
		}
		out[rel] = fmt.Sprintf("%x %s", sha256.Sum256(text), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
