// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"testing"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	store "github.com/tidemarkdb/tidemark/tsdb"
)

// migrating is a storage that takes samples as Prometheus and answers as our store on the same directory: every query
// after a write is a change from the one to the other, and every write after a query the way back.
type migrating struct {
	storage.Storage // the half that is open

	tb        testing.TB
	dir       string
	peer      *tsdb.DB
	ours      *store.DB
	converted bool // queries see blocks of ours only
	moves     *int
}

func newMigrating(tb testing.TB, converted bool, moves *int) *migrating {
	tb.Helper()
	m := &migrating{tb: tb, dir: tb.TempDir(), converted: converted, moves: moves}
	m.toPrometheus()
	return m
}

func (m *migrating) toPrometheus() {
	m.tb.Helper()
	if m.peer != nil {
		return
	}
	m.closeOurs()
	o := tsdb.DefaultOptions()
	o.RetentionDuration, o.WALSegmentSize, o.StripeSize = 0, 1<<16, 64
	o.MinBlockDuration, o.MaxBlockDuration = 24*hour, 24*hour // the suite writes each series whole before the next
	o.FloatChunkEncoding, o.EnableSTStorage, o.EnableHistogramSTEncoding = chunkenc.EncXOR2, true, true
	var err error
	if m.peer, err = tsdb.Open(m.dir, nil, nil, o, nil); err != nil {
		m.tb.Fatal(err)
	}
	m.peer.DisableCompactions()
}

func (m *migrating) toOurs() error {
	if m.ours != nil {
		return nil
	}
	if err := m.peer.Close(); err != nil {
		return err
	}
	m.peer = nil
	*m.moves++
	var err error
	m.ours, err = store.Open(context.Background(), store.Options{
		Dir: m.dir, Foreign: Directory{}, ForeignInPlace: !m.converted, SegmentBytes: 1 << 16, Shards: 1,
	})
	if err != nil {
		return err
	}
	for m.converted && m.ours.Stats().Foreign.Blocks > 0 {
		if err := m.ours.Maintain(context.Background()); err != nil {
			return err
		}
	}
	m.Storage = m.ours.Storage()
	return nil
}

func (m *migrating) closeOurs() {
	m.tb.Helper()
	if m.ours == nil {
		return
	}
	if err := m.ours.Close(); err != nil {
		m.tb.Error(err)
	}
	m.ours = nil
}

// AppenderV2 implements storage.Appendable.
func (m *migrating) AppenderV2(ctx context.Context) storage.AppenderV2 {
	m.toPrometheus()
	return m.peer.AppenderV2(ctx)
}

// Appender implements storage.Appendable.
func (m *migrating) Appender(ctx context.Context) storage.Appender {
	m.toPrometheus()
	return m.peer.Appender(ctx)
}

// Querier implements storage.Queryable.
func (m *migrating) Querier(mint, maxt int64) (storage.Querier, error) {
	if err := m.toOurs(); err != nil {
		return nil, err
	}
	return m.Storage.Querier(mint, maxt)
}

// Close implements storage.Storage.
func (m *migrating) Close() error {
	m.closeOurs()
	if m.peer == nil {
		return nil
	}
	return m.peer.Close()
}

// The whole suite of Prometheus, by its own engine: what differs is what got lost between the two.
func TestPrometheusSuiteOverAPrometheusDirectory(t *testing.T) { runSuite(t, false) }

func TestPrometheusSuiteOverAConvertedDirectory(t *testing.T) { runSuite(t, true) }

func runSuite(t *testing.T, converted bool) {
	t.Helper()
	moves := 0
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(tb testing.TB) storage.Storage { return newMigrating(tb, converted, &moves) })
	if moves < 50 {
		t.Errorf("moved %d times only", moves)
	}
}
