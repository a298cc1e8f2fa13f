// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// entriesOf opens the oldest block of a Prometheus, and its entries loaded.
func entriesOf(t *testing.T) (*Block, []uint32) {
	t.Helper()
	rng := rand.New(rand.NewPCG(41, 1))
	p := newPeer(t, rng, newMix(rng, 70, epoch, epoch+5*hour, 30_000), peerOptions{compact: true})
	p.close(t)
	dirs, err := filepath.Glob(filepath.Join(p.dir, "0*"))
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	b, err := openBlock(dirs[len(dirs)-1], false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, allSeries(t, b)
}

func TestEntriesAreThosePrometheusReads(t *testing.T) {
	b, ids := entriesOf(t)
	var (
		sb, ours    labels.ScratchBuilder
		want, metas []chunks.Meta
		err         error
	)
	if len(ids) < 50 {
		t.Fatalf("%d series", len(ids))
	}
	for _, id := range ids {
		if err := b.index.Series(storage.SeriesRef(id), &sb, &want); err != nil {
			t.Fatal(err)
		}
		if got := labelsOf(t, b, id, &ours); !labels.Equal(sb.Labels(), got) {
			t.Errorf("series %d is %s, want %s", id, got, sb.Labels())
		}
		if metas, err = b.entries.chunks(id, metas); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, metas); diff != "" {
			t.Errorf("series %d (-Prometheus +ours):\n%s", id, diff)
		}
	}
}

func TestDamagedEntriesAreErrorsOrWrongChecksums(t *testing.T) {
	b, ids := entriesOf(t)
	whole := slices.Clone(b.entries.raw)
	e := &entries{raw: slices.Clone(whole), texts: b.entries.texts, ends: b.entries.ends}
	for _, id := range ids[:10] {
		body, _, err := e.entry(id)
		if err != nil {
			t.Fatal(err)
		}
		start := int(id) * entryAlign
		for at := start; at < start+1+len(body); at++ {
			for bit := range 8 {
				e.raw[at] ^= 1 << bit
				if e.check(id) == nil {
					t.Errorf("series %d: bit %d of byte %d is wrong and nothing is found", id, bit, at-start)
				}
				_, _ = e.chunks(id, nil) // must end, and not panic
				e.raw[at] = whole[at]
			}
		}
	}
	for n := range len(whole) {
		if n%97 == 0 {
			e.raw = whole[:n]
			_ = e.check(ids[len(ids)-1])
		}
	}
}
